// Codes of keys and values in their caches, and their products with queries and
// weights in registers. The file of an instruction set defines before
//   OT_KEY_OFFSET                what the factors that it makes of keys are greater by,
//   key_factors(keys)            a vector of 16 keys x 4 channels, as it lies, as
//                                `add_key_products` wants it,
//   add_key_products(sums, factors, word)
//                                adds the products with 4 channels of a query,
//   add_value_products(sums, values, word)
//                                adds the products of 16 channels x 4 positions with
//                                digits, 0 ... 127, of the positions' weights.

typedef int16_t i16x16 __attribute__((vector_size(32)));
typedef int16_t i16x32 __attribute__((vector_size(64)));

// MARK: Caches

OT_KERNEL void store_key_codes(
    const int8_t *k, size_t k_stride, size_t count, size_t head_size, size_t first_position,
    uint8_t *cache) {
  size_t words = (head_size + 3) / 4;
  for (size_t i = 0; i < count; i++) {
    size_t position = first_position + i;
    uint8_t *place = cache + (position / 16 * words * 16 + position % 16) * 4;
    const int8_t *source = k + i * k_stride;
    for (size_t c = 0; c < head_size; c += 4, place += 64) {
      uint32_t word = 0;
      size_t size = head_size - c < 4 ? head_size - c : 4;
      __builtin_memcpy(&word, source + c, size);
      word ^= 0x80808080u;
      __builtin_memcpy(place, &word, size);
    }
  }
}

OT_KERNEL void store_value_codes(
    const int8_t *v, size_t v_stride, size_t count, size_t head_size, size_t first_position,
    int8_t *cache) {
  size_t padded = ot_padded_head_size(head_size);
  for (size_t i = 0; i < count;) {
    size_t position = first_position + i, c = 0;
    // Four positions at a time where they are all there.
    size_t rows = position % 4 == 0 && i + 4 <= count ? 4 : 1;
    const int8_t *source = v + i * v_stride;
    int8_t *place = cache + position / 4 * padded * 4 + position % 4;
    for (; rows == 4 && c + 16 <= head_size; c += 16) {
      i8x16 x[4];
      for (size_t row = 0; row < 4; row++) x[row] = OT_LOAD(i8x16, source + row * v_stride + c);
#define OT_PAIRS(a, b)                                                            \
  __builtin_shufflevector(                                                        \
      a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, \
      27, 12, 28, 13, 29, 14, 30, 15, 31)
      i16x16 low = (i16x16)OT_PAIRS(x[0], x[1]), high = (i16x16)OT_PAIRS(x[2], x[3]);
      i16x32 words = OT_PAIRS(low, high);
#undef OT_PAIRS
      OT_STORE(place + c * 4, words);
    }
    for (; c < head_size; c++)
      for (size_t row = 0; row < rows; row++) place[c * 4 + row] = source[row * v_stride + c];
    i += rows;
  }
}

// MARK: Products in registers

/// A block of queries; `begin` and `end` as in `ot_query_block`.
struct ot_code_queries {
  const struct ot_code_attention *a;
  size_t query;
  size_t begin[ot_most_queries], end[ot_most_queries];
  /// The scores' initial values, and their scales but for the keys' part; `cap` as in
  /// scalar_code_attention.c.
  int32_t start[ot_most_queries];
  float factor[ot_most_queries], slope, cap;
  /// By query: largest score so far, sum of weights.
  f32x16 maxima, totals;
  /// Of the present block, by query: factors for what has been summed and for the
  /// block's sums.
  f32x16 corrections, units;
  /// Largest scale of a value that is seen, and NaN or 0.
  float scales[16], faults[16];
  /// Scores, first in integers; then weights relative to the largest.
  float *scores;
  /// Digits of weights, [queries][128]: the high ones, then the low ones.
  int8_t *digits;
  /// Queries [channel / 4][queries][4].
  int8_t *codes;
  /// Steps of weights, for each query unless they see the same.
  float *steps, *accumulators;
  /// Channels of a value, rounded up to 16.
  size_t padded;
};

/// Scores of `rows` queries with 16 keys in each of `vectors` blocks, in integers.
OT_INLINE void multiply_keys(
    const struct ot_code_queries *b, int rows, int vectors, const uint8_t *keys, float *target) {
  size_t words = (b->a->head_size + 3) / 4;
  i32x16 sums[8][4];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) sums[r][v] = (i32x16){0} + b->start[r];
  for (size_t word = 0; word < words; word++) {
    i8x64 factors[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      factors[v] = key_factors(OT_LOAD(u8x64, keys + ((size_t)v * words + word) * 64));
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      int32_t codes;
      __builtin_memcpy(&codes, b->codes + (word * ot_most_queries + (size_t)r) * 4, sizeof codes);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++)
        sums[r][v] = add_key_products(sums[r][v], factors[v], codes);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) OT_STORE(target + r * OT_CODE_BLOCK + v * 16, sums[r][v]);
}

/// Adds to `sums` digits of the weights of 4 `word_count` positions times values.
OT_INLINE void multiply_values(
    const struct ot_code_queries *b, int rows, int vectors, const int8_t *digits,
    const int8_t *values, size_t word_count, i32x16 sums[8][4]) {
  for (size_t word = 0; word < word_count; word++) {
    i8x64 columns[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      columns[v] = OT_LOAD(i8x64, values + word * b->padded * 4 + v * 64);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      int32_t weights;
      __builtin_memcpy(&weights, digits + r * OT_CODE_BLOCK + word * 4, sizeof weights);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++)
        sums[r][v] = add_value_products(sums[r][v], columns[v], weights);
    }
  }
}

/// Adds the weighted values of 4 `word_count` positions to the accumulators of
/// `rows` queries, in `vectors` x 16 channels.
OT_INLINE void add_weighted_values(
    const struct ot_code_queries *b, int rows, int vectors, const int8_t *values,
    size_t word_count, int any_fine, float *accumulators) {
  i32x16 sums[8][4];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) sums[r][v] = (i32x16){0};
  multiply_values(b, rows, vectors, b->digits, values, word_count, sums);
  f32x16 units = b->units;
  if (any_fine) {
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) sums[r][v] *= OT_WEIGHT_BASE;
    const int8_t *low = b->digits + ot_most_queries * OT_CODE_BLOCK;
    multiply_values(b, rows, vectors, low, values, word_count, sums);
  } else {
    units = units * splat(OT_WEIGHT_BASE);
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      float *place = accumulators + (size_t)r * b->padded + v * 16;
      f32x16 corrected = OT_LOAD(f32x16, place) * splat(b->corrections[r]);
      f32x16 sum = __builtin_convertvector(sums[r][v], f32x16);
      OT_STORE(place, fma_of(sum, splat(units[r]), corrected));
    }
}

/// Calls `step(vectors, v)` for vectors 0 ..< `count`, as many at a time as there
/// are registers for.
#define OT_EACH_VECTORS(rows, count, step)                                        \
  {                                                                               \
    const size_t most = (rows) == 1 ? 4 : OT_ATTENTION_VECTORS;                   \
    size_t v = 0;                                                                 \
    if (most == 4)                                                                \
      for (; v + 4 <= (count); v += 4) step(4, v);                                \
    if (most >= 2)                                                                \
      for (; v + 2 <= (count); v += 2) step(2, v);                                \
    for (; v < (count); v++) step(1, v);                                          \
  }
