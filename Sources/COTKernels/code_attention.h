// Attention of codes over 16 lanes and for several queries at once: for each query
// step by step what scalar_code_attention.c does. The including file defines
// before, for the products of codes,
//   OT_KEY_OFFSET                what the factors that it makes of keys are greater by,
//   key_factors(keys)            a vector of 16 keys x 4 channels, as it lies, as
//                                `add_key_products` wants it,
//   add_key_products(sums, factors, word)
//                                adds the products with 4 channels of a query,
//   add_value_products(sums, values, word)
//                                adds the products of 16 channels x 4 positions with
//                                digits, 0 ... 127, of the positions' weights.

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

/// A block of queries; `end` as in `ot_query_block`.
struct ot_code_queries {
  const struct ot_code_attention *a;
  size_t query;
  size_t end[ot_most_queries];
  /// What scores begin with, and their steps but for the keys' part.
  int32_t start[ot_most_queries];
  float factor[ot_most_queries], slope;
  /// By query: largest score so far, sum of weights.
  f32x16 maxima, totals;
  /// Of the present block, by query: largest score, sum of weights, largest scale of
  /// a value, NaN or 0; factors for what has been summed and for the block's sums;
  /// whether weights have two digits.
  f32x16 block_maxima, block_sums, block_scales, faults, corrections, units;
  i32x16 is_fine;
  /// Scores, first in integers.
  float *scores;
  /// Digits of weights, [queries][128]: the high ones, then the low ones.
  int8_t *digits;
  /// Queries [channel / 4][queries][4].
  int8_t *codes;
  float *steps, *accumulators;
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

// MARK: Weights

/// Two vectors of sums (or maxima) of half as many lanes as `width` says.
#define OT_HALVED(a, b, low, high)                                                \
  (is_sum ? __builtin_shufflevector(a, b, low) + __builtin_shufflevector(a, b, high) \
          : greater(__builtin_shufflevector(a, b, low), __builtin_shufflevector(a, b, high)))
#define OT_LANES(...) __VA_ARGS__

/// In lane r the largest lane of x[r], NaN left out, or the sum of its lanes in the
/// order of the fixed tree: the trees of 8 queries in the steps of about 2.
OT_INLINE f32x16 reduced_rows(const f32x16 x[8], int is_sum) {
  f32x16 y[4], z[2], w;
  for (int i = 0; i < 4; i++)
    y[i] = OT_HALVED(
        x[2 * i], x[2 * i + 1], OT_LANES(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
        OT_LANES(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31));
  for (int i = 0; i < 2; i++)
    z[i] = OT_HALVED(
        y[2 * i], y[2 * i + 1], OT_LANES(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
        OT_LANES(4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31));
  w = OT_HALVED(
      z[0], z[1], OT_LANES(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29),
      OT_LANES(2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31));
  return OT_HALVED(
      w, w, OT_LANES(0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14),
      OT_LANES(1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15));
}
#undef OT_HALVED
#undef OT_LANES

OT_INLINE i32x16 seen_codes(const struct ot_code_attention *a, size_t key, size_t end) {
  return seen_keys(a->mask, a->key_count, key, end);
}

/// The steps of the weights that query r has for the keys from `first` on; the
/// same for all queries if they see all of them.
OT_INLINE void step_weights(
    struct ot_code_queries *b, int r, size_t first, size_t vector_count, int sees_all) {
  const struct ot_code_attention *a = b->a;
  f32x16 largest = splat(OT_SMALLEST_VALUE_SCALE);
  i32x16 is_nan = {0};
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 key_scale = OT_LOAD(f32x16, a->key_scales + first + v * 16);
    f32x16 scale = OT_LOAD(f32x16, a->value_scales + first + v * 16);
    if (!sees_all) {
      i32x16 seen = seen_codes(a, first + v * 16, b->end[r]);
      key_scale = blend(seen, key_scale, splat(0));
      scale = blend(seen, scale, splat(0));
    }
    largest = greater(scale, largest);
    is_nan |= (key_scale != key_scale) | (scale != scale);
    OT_STORE(b->steps + v * 16, scale);
  }
  OT_REDUCE(largest, a > b ? a : b)
  OT_REDUCE(is_nan, a | b)
  f32x16 step = splat(OT_LARGEST_DIGIT / largest[0]);
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 scale = OT_LOAD(f32x16, b->steps + v * 16) * step;
    OT_STORE(b->steps + v * 16, scale);
  }
  float fault = is_nan[0] ? __builtin_nanf("") : 0;
  if (sees_all) {
    b->block_scales = splat(largest[0]);
    b->faults = splat(fault);
  } else {
    b->block_scales[r] = largest[0];
    b->faults[r] = fault;
  }
}

/// Turns the integer scores of query r with the keys from `first` on into floats;
/// returns their largest by lanes.
OT_INLINE f32x16 scale_scores(
    const struct ot_code_queries *b, int r, size_t first, size_t vector_count, int sees_all) {
  const struct ot_code_attention *a = b->a;
  const float *key_scales = a->key_scales + first;
  float *scores = b->scores + r * OT_CODE_BLOCK;
  f32x16 factor = splat(b->factor[r]), slope = splat(b->slope);
  f32x16 largest = splat(-__builtin_inff());
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 step = OT_LOAD(f32x16, key_scales + v * 16) * factor;
    f32x16 value = __builtin_convertvector(OT_LOAD(i32x16, scores + v * 16), f32x16) * step;
    if (!sees_all) {
      if (b->slope != 0) {
        i32x16 keys;
        for (int lane = 0; lane < 16; lane++) keys[lane] = (int32_t)(first + v * 16) + lane;
        f32x16 bias = slope * __builtin_convertvector(keys, f32x16);
        value = value + bias;
      }
      value = blend(seen_codes(a, first + v * 16, b->end[r]), value, splat(-__builtin_inff()));
    }
    OT_STORE(scores + v * 16, value);
    largest = greater(value, largest);
  }
  return largest;
}

/// Turns the scores of query r into weights, of two digits if `is_fine`; returns
/// their sums by lanes.
OT_INLINE f32x16 weigh_codes(
    const struct ot_code_queries *b, int r, float largest, size_t first, size_t vector_count,
    int sees_all, int is_fine) {
  const float *scores = b->scores + r * OT_CODE_BLOCK, *steps = b->steps;
  int8_t *high = b->digits + r * OT_CODE_BLOCK, *low = high + ot_most_queries * OT_CODE_BLOCK;
  f32x16 sums = splat(0);
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 p = decay2(OT_LOAD(f32x16, scores + v * 16) - splat(largest));
    if (!sees_all) p = blend(seen_codes(b->a, first + v * 16, b->end[r]), p, splat(0));
    sums = sums + p;
    f32x16 step = OT_LOAD(f32x16, steps + v * 16);
    if (is_fine) step = step * splat(OT_WEIGHT_BASE);
    u32x16 weight = (u32x16)fma_of(p, step, splat(OT_ROUNDER));
    if (is_fine) {
      u32x16 rest = weight & (OT_WEIGHT_BASE - 1);
      OT_STORE(low + v * 16, __builtin_convertvector(rest, i8x16));
      weight = weight / OT_WEIGHT_BASE;
    }
    OT_STORE(high + v * 16, __builtin_convertvector(weight, i8x16));
  }
  return sums;
}

// MARK: Attention

OT_INLINE void begin_queries(struct ot_code_queries *b, int rows, size_t query) {
  const struct ot_code_attention *a = b->a;
  b->query = query;
  b->slope = a->slope * OT_LOG2_E;
  b->maxima = splat(-__builtin_inff());
  __builtin_memset(b->codes, 0, b->padded * ot_most_queries);
  for (int r = 0; r < rows; r++) {
    size_t i = query + (size_t)r;
    const int8_t *codes = a->q + i * a->q_stride;
    b->end[r] = a->is_causal ? a->first_position + i + 1 : a->key_count;
    b->factor[r] = a->q_scales[i] * a->scale * OT_LOG2_E;
    b->start[r] = -OT_KEY_OFFSET * sum(codes, a->head_size);
    b->totals[r] = b->factor[r] * 0;
    for (size_t c = 0; c < a->head_size; c += 4) {
      int8_t *place = b->codes + (c * ot_most_queries + (size_t)r * 4);
      __builtin_memcpy(place, codes + c, a->head_size - c < 4 ? a->head_size - c : 4);
    }
    for (size_t c = 0; c < b->padded; c += 16)
      OT_STORE(b->accumulators + (size_t)r * b->padded + c, splat(0));
  }
}

/// What corrects to the larger maximum: what is summed already, or what the block adds.
OT_INLINE void compare_maxima(struct ot_code_queries *b) {
  i32x16 grows = b->block_maxima > b->maxima;
  f32x16 larger = blend(grows, b->block_maxima, b->maxima);
  f32x16 smaller = blend(grows, b->maxima, b->block_maxima);
  f32x16 factors = decay2(smaller - larger);
  b->maxima = larger;
  b->corrections = blend(grows, factors, splat(1));
  b->units = blend(grows, splat(1), factors);
  f32x16 least_total = fma_of(b->totals, b->corrections, b->units);
  b->is_fine = b->units * splat(OT_FINE_WEIGHTS) > least_total;
}

OT_INLINE void add_totals(struct ot_code_queries *b) {
  i32x16 is_infinite = b->block_maxima == splat(__builtin_inff());
  f32x16 units = blend(is_infinite, splat(__builtin_nanf("")), b->units) + b->faults;
  f32x16 corrected = b->totals * b->corrections;
  b->totals = fma_of(b->block_sums, units, corrected);
  b->units = units * (b->block_scales * splat(1 / (OT_LARGEST_DIGIT * OT_WEIGHT_BASE)));
}

/// Weights of `rows` queries for the keys from `first` on; returns whether any have
/// two digits. `sees_all` says that all queries see all of them, without slopes.
OT_INLINE int weigh_block(
    struct ot_code_queries *b, int rows, size_t first, size_t vector_count, int sees_all) {
  f32x16 lanes[8] = {{0}};
  for (int r = 0; r < rows; r++) lanes[r] = scale_scores(b, r, first, vector_count, sees_all);
  b->block_maxima = reduced_rows(lanes, 0);
  compare_maxima(b);
  if (sees_all) step_weights(b, 0, first, vector_count, 1);
  float maxima[16];
  int32_t is_fine[16], any_fine = 0;
  OT_STORE(maxima, b->block_maxima);
  OT_STORE(is_fine, b->is_fine);
  for (int r = 0; r < rows; r++) any_fine |= is_fine[r];
  for (int r = 0; r < rows; r++) {
    if (!sees_all) step_weights(b, r, first, vector_count, 0);
    if (is_fine[r]) {
      lanes[r] = weigh_codes(b, r, maxima[r], first, vector_count, sees_all, 1);
    } else {
      lanes[r] = weigh_codes(b, r, maxima[r], first, vector_count, sees_all, 0);
      if (any_fine)
        __builtin_memset(b->digits + (ot_most_queries + r) * OT_CODE_BLOCK, 0, OT_CODE_BLOCK);
    }
  }
  b->block_sums = reduced_rows(lanes, 1);
  add_totals(b);
  return any_fine;
}

OT_INLINE void finish_code_queries(const struct ot_code_queries *b, int rows) {
  const struct ot_code_attention *a = b->a;
  for (int r = 0; r < rows; r++) {
    float *y = a->y + (b->query + (size_t)r) * a->y_stride;
    const float *accumulators = b->accumulators + (size_t)r * b->padded;
    float total = b->totals[r];
    size_t position = a->first_position + b->query + (size_t)r;
    if (total != 0) {
      f32x16 factor = splat(1 / total);
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD(f32x16, accumulators + (k)) * factor;                  \
    value = value + splat(0);                                                     \
    OT_STORE_N(y + (k), value, n);                                                \
  }
      OT_EACH_STEP(a->head_size, STEP)
#undef STEP
    } else if (position < a->key_count) {
      const int8_t *own = a->values + position / 4 * b->padded * 4 + position % 4;
      for (size_t c = 0; c < a->head_size; c++)
        y[c] = a->value_scales[position] * (float)own[c * 4];
    } else {
      __builtin_memset(y, 0, a->head_size * sizeof *y);
    }
  }
}

OT_INLINE void attend_codes(struct ot_code_queries *b, int rows, size_t query) {
  const struct ot_code_attention *a = b->a;
  begin_queries(b, rows, query);
  size_t last_end = b->end[rows - 1], words = (a->head_size + 3) / 4;
  for (size_t first = 0; first < last_end; first += OT_CODE_BLOCK) {
    size_t end = last_end - first < OT_CODE_BLOCK ? last_end : first + OT_CODE_BLOCK;
    size_t vector_count = (end - first + 15) / 16;
#define OT_KEYS(vectors, v)                                                       \
  multiply_keys(b, rows, vectors, a->keys + (first / 16 + v) * words * 64, b->scores + v * 16)
    OT_EACH_VECTORS(rows, vector_count, OT_KEYS)
#undef OT_KEYS
    // The first query sees the fewest keys.
    int sees_all = a->mask == NULL && a->slope == 0 && first + OT_CODE_BLOCK <= b->end[0];
    int any_fine = sees_all ? weigh_block(b, rows, first, OT_CODE_BLOCK / 16, 1)
                            : weigh_block(b, rows, first, vector_count, 0);
#define OT_VALUES(vectors, v)                                                     \
  add_weighted_values(                                                            \
      b, rows, vectors, a->values + first * b->padded + v * 64, vector_count * 4, any_fine, \
      b->accumulators + v * 16)
    OT_EACH_VECTORS(rows, b->padded / 16, OT_VALUES)
#undef OT_VALUES
  }
  finish_code_queries(b, rows);
}

OT_KERNEL void code_attention(const struct ot_code_attention *a) {
  float *scratch = (float *)(((uintptr_t)a->scratch + 63) / 64 * 64);
  size_t padded = ot_padded_head_size(a->head_size);
  struct ot_code_queries b = {
      .a = a,
      .scores = scratch,
      .steps = scratch + ot_code_scratch_steps,
      .digits = (int8_t *)(scratch + ot_code_scratch_digits),
      .accumulators = scratch + ot_code_scratch_accumulators,
      .codes = (int8_t *)(scratch + ot_code_scratch_accumulators + ot_most_queries * padded),
      .padded = padded,
  };
  size_t query = 0;
  for (; query + OT_ATTENTION_QUERIES <= a->query_count; query += OT_ATTENTION_QUERIES)
    attend_codes(&b, OT_ATTENTION_QUERIES, query);
  if (OT_ATTENTION_QUERIES > 4 && query + 4 <= a->query_count) {
    attend_codes(&b, 4, query);
    query += 4;
  }
  for (; query < a->query_count; query++) attend_codes(&b, 1, query);
}
