// Attention and what prepares it, over 16 lanes and for several queries at once:
// for each query step by step what scalar_attention.c does.
//
// OT_ATTENTION_QUERIES and OT_ATTENTION_VECTORS say how many queries and how many
// vectors of keys or channels have their sums in registers; a form with more than
// 16 registers of 8 floats defines its own.
#include "attention_layout.h"

#ifndef OT_ATTENTION_QUERIES
#define OT_ATTENTION_QUERIES 4
#define OT_ATTENTION_VECTORS 1
#endif

OT_KERNEL void rotate(
    float *x, size_t head_count, size_t head_size, const float *cosines, const float *sines,
    size_t half) {
  for (size_t head = 0; head < head_count; head++, x += head_size) {
    float *y = x + half;
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 a = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                        \
    f32x16 b = OT_LOAD_N(f32x16, y + (k), n, (f32x16){0});                        \
    f32x16 cosine = OT_LOAD_N(f32x16, cosines + (k), n, (f32x16){0});             \
    f32x16 sine = OT_LOAD_N(f32x16, sines + (k), n, (f32x16){0});                 \
    f32x16 a_cos = a * cosine, b_sin = b * sine, b_cos = b * cosine, a_sin = a * sine; \
    f32x16 first = a_cos - b_sin, second = b_cos + a_sin;                         \
    OT_STORE_N(x + (k), first, n);                                                \
    OT_STORE_N(y + (k), second, n);                                               \
  }
    OT_EACH_STEP(half, STEP)
#undef STEP
  }
}

OT_KERNEL void store_keys(
    const float *k, size_t k_stride, size_t count, size_t head_size, size_t first_position,
    float *cache) {
  size_t i = 0;
  while (i < count) {
    size_t position = first_position + i, lane = position % 16;
    float *block = cache + position / 16 * 16 * head_size;
    const float *source = k + i * k_stride;
    size_t end = count - i < 16 - lane ? count - i : 16 - lane, c = 0;
    for (; end == 16 && c + 16 <= head_size; c += 16) {
      u32x16 rows[16];
      for (size_t row = 0; row < 16; row++) rows[row] = OT_LOAD(u32x16, source + row * k_stride + c);
      transpose(rows);
      for (size_t row = 0; row < 16; row++) OT_STORE(block + (c + row) * 16, rows[row]);
    }
    for (; c < head_size; c++)
      for (size_t row = 0; row < end; row++) block[c * 16 + lane + row] = source[row * k_stride + c];
    i += end;
  }
}

// MARK: Products in registers

/// target[r][v] = (clears ? 0 : target[r][v]) + sum over j < count of
/// left[r][j] * right[j][v], fused, in the order of j. `right` are vectors,
/// `vector_stride` apart; rows, vectors and clears are constants.
OT_INLINE void multiply_add(
    int rows, int vectors, int clears, const float *left, size_t left_stride, const float *right,
    size_t right_stride, size_t vector_stride, size_t count, float *target, size_t target_stride) {
  f32x16 sums[8][4];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      sums[r][v] = clears ? splat(0) : OT_LOAD(f32x16, target + (size_t)r * target_stride + v * 16);
  for (size_t j = 0; j < count; j++) {
    f32x16 columns[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      columns[v] = OT_LOAD(f32x16, right + j * right_stride + (size_t)v * vector_stride);
#pragma clang loop unroll(full)
    for (int r = 0; r < rows; r++) {
      f32x16 factor = splat(left[(size_t)r * left_stride + j]);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) sums[r][v] = fma_of(factor, columns[v], sums[r][v]);
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      OT_STORE(target + (size_t)r * target_stride + v * 16, sums[r][v]);
}

/// `multiply_add` for any number of vectors.
OT_INLINE void multiply_add_all(
    int rows, int clears, const float *left, size_t left_stride, const float *right,
    size_t right_stride, size_t vector_stride, size_t count, float *target, size_t target_stride,
    size_t vector_count) {
  // A single query has registers for more.
  const size_t most = rows == 1 ? 4 : OT_ATTENTION_VECTORS;
  size_t v = 0;
#define OT_MULTIPLY(vectors)                                                      \
  multiply_add(                                                                   \
      rows, vectors, clears, left, left_stride, right + v * vector_stride, right_stride, \
      vector_stride, count, target + v * 16, target_stride)
  if (most == 4)
    for (; v + 4 <= vector_count; v += 4) OT_MULTIPLY(4);
  if (most >= 2)
    for (; v + 2 <= vector_count; v += 2) OT_MULTIPLY(2);
  for (; v < vector_count; v++) OT_MULTIPLY(1);
#undef OT_MULTIPLY
}

// MARK: Attention

/// A block of queries: its first one is `query`, and it is the keys from `begin[r]` on
/// before `end[r]` that query r sees. Both grow with r.
struct ot_query_block {
  const struct ot_attention *a;
  size_t query;
  size_t begin[ot_most_queries], end[ot_most_queries];
  float *scores, *sums, *maxima, *tails, *accumulators;
  size_t padded;
};

/// The mask of the 16 keys from `key` on that a query sees whose keys are `begin` ..< `end`.
OT_INLINE i32x16 seen_keys(
    const uint8_t *mask, size_t key_count, size_t key, size_t begin, size_t end) {
  static const int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  size_t left = end > key ? end - key : 0;
  i32x16 lanes = OT_LOAD(i32x16, numbers), seen = lanes < (int32_t)(left < 16 ? left : 16);
  if (begin > key) seen &= lanes >= (int32_t)(begin - key < 16 ? begin - key : 16);
  if (mask == NULL || left == 0) return seen;
  size_t known = key_count - key < 16 ? key_count - key : 16;
  u8x16 bytes = OT_LOAD_N(u8x16, mask + key, known, (u8x16){0});
  return seen & (__builtin_convertvector(bytes, i32x16) != 0);
}

/// Turns the scores of query r with the block of keys from `first` on into
/// weights, and corrects what has been summed to the new maximum.
OT_INLINE void weigh(const struct ot_query_block *b, int r, size_t first, size_t vector_count) {
  const struct ot_attention *a = b->a;
  float *scores = b->scores + r * ot_key_block;
  // That of the first key's distance from the query.
  const float *bias = a->bias == NULL ? NULL : a->bias + first - (a->first_position + b->query + (size_t)r);
  f32x16 slope = splat(a->slope), values[ot_key_block / 16];
  f32x16 largest = splat(-__builtin_inff());
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 value = OT_LOAD(f32x16, scores + v * 16) * splat(a->scale);
    if (a->soft_cap != 0) value = splat(a->soft_cap) * tangent(value / splat(a->soft_cap));
    if (a->slope != 0) {
      i32x16 keys;
      for (int lane = 0; lane < 16; lane++) keys[lane] = (int32_t)(first + v * 16) + lane;
      f32x16 sloped = slope * __builtin_convertvector(keys, f32x16);
      value = value + sloped;
    }
    if (a->bias != NULL) value = value + OT_LOAD(f32x16, bias + v * 16);
    i32x16 seen = seen_keys(a->mask, a->key_count, first + v * 16, b->begin[r], b->end[r]);
    values[v] = blend(seen, value, splat(-__builtin_inff()));
    largest = greater(values[v], largest);
  }
  OT_REDUCE(largest, a > b ? a : b)
  float old = b->maxima[r], new = largest[0] > old ? largest[0] : old;
  float reference = new == -__builtin_inff() ? 0 : new;
  b->maxima[r] = new;
  f32x16 sums = OT_LOAD(f32x16, b->sums + r * 16);
  // A correction of 1 changes nothing.
  if (old != reference) {
    f32x16 correction = splat(decay(splat(old - reference))[0]);
    sums = sums * correction;
    float *accumulators = b->accumulators + (size_t)r * b->padded;
    for (size_t c = 0; c < b->padded; c += 16) {
      f32x16 corrected = OT_LOAD(f32x16, accumulators + c) * correction;
      OT_STORE(accumulators + c, corrected);
    }
  }
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 p = decay(values[v] - splat(reference));
    sums = sums + p;
    OT_STORE(scores + v * 16, p);
  }
  OT_STORE(b->sums + r * 16, sums);
}

/// Adds the weighted values of keys `start` ..< `end` of the block from `first`
/// on to the accumulators of `rows` queries from r on.
OT_INLINE void add_values(
    const struct ot_query_block *b, int rows, int r, size_t first, size_t start, size_t end) {
  const struct ot_attention *a = b->a;
  const float *weights = b->scores + r * ot_key_block + (start - first);
  const float *values = a->values + start * a->value_stride;
  float *accumulators = b->accumulators + (size_t)r * b->padded;
  size_t whole = a->value_size / 16;
  multiply_add_all(
      rows, 0, weights, ot_key_block, values, a->value_stride, 16, end - start, accumulators,
      b->padded, whole);
  if (whole * 16 < a->value_size)
    multiply_add(
        rows, 1, 0, weights, ot_key_block, b->tails + (start - first) * 16, 16, 16, end - start,
        accumulators + whole * 16, b->padded);
}

/// `add_values` for the keys that the queries see.
OT_INLINE void add_seen_values(
    const struct ot_query_block *b, int rows, size_t first, size_t block_end) {
  const struct ot_attention *a = b->a;
  for (size_t start = first; start < block_end;) {
    // A run of keys that are not masked.
    size_t end = start;
    while (end < block_end && (a->mask == NULL || a->mask[end])) {
      end++;
      if (a->mask == NULL) end = block_end;
    }
    // The keys that all queries see, at once: from the last one's first to the first one's last.
    size_t low = start > b->begin[rows - 1] ? start : b->begin[rows - 1];
    size_t high = end < b->end[0] ? end : b->end[0];
    if (low >= high) low = high = end;
    for (int r = 0; r < rows && start < low; r++) {
      size_t from = start > b->begin[r] ? start : b->begin[r];
      size_t to = low < b->end[r] ? low : b->end[r];
      if (from < to) add_values(b, 1, r, first, from, to);
    }
    if (low < high) add_values(b, rows, 0, first, low, high);
    for (int r = 1; r < rows && high < end; r++) {
      size_t to = end < b->end[r] ? end : b->end[r];
      if (high < to) add_values(b, 1, r, first, high, to);
    }
    start = end + 1;
  }
}

OT_INLINE void finish_queries(const struct ot_query_block *b, int rows) {
  const struct ot_attention *a = b->a;
  for (int r = 0; r < rows; r++) {
    float *y = a->y + (b->query + (size_t)r) * a->y_stride;
    const float *accumulators = b->accumulators + (size_t)r * b->padded;
    f32x16 sums = OT_LOAD(f32x16, b->sums + r * 16);
    OT_REDUCE(sums, a + b)
    size_t position = a->first_position + b->query + (size_t)r;
    if (sums[0] != 0) {
      f32x16 factor = splat(1 / sums[0]);
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD(f32x16, accumulators + (k)) * factor;                  \
    OT_STORE_N(y + (k), value, n);                                                \
  }
      OT_EACH_STEP(a->value_size, STEP)
#undef STEP
    } else if (position < a->key_count) {
      __builtin_memcpy(y, a->values + position * a->value_stride, a->value_size * sizeof *y);
    } else {
      __builtin_memset(y, 0, a->value_size * sizeof *y);
    }
  }
}

OT_INLINE void attend(struct ot_query_block *b, int rows, size_t query) {
  const struct ot_attention *a = b->a;
  b->query = query;
  for (int r = 0; r < rows; r++) {
    size_t position = a->first_position + query + (size_t)r;
    b->end[r] = ot_end_seen(position, a->is_causal, a->window, a->key_count);
    b->begin[r] = ot_first_seen(position, a->window);
    b->maxima[r] = a->sink == NULL ? -__builtin_inff() : *a->sink;
    OT_STORE(b->sums + r * 16, splat(0));
    if (a->sink != NULL) b->sums[r * 16] = 1;
    for (size_t c = 0; c < b->padded; c += 16)
      OT_STORE(b->accumulators + (size_t)r * b->padded + c, splat(0));
  }
  size_t last_end = b->end[rows - 1], whole = a->value_size / 16 * 16;
  size_t first = b->begin[0] / ot_key_block * ot_key_block;
  for (; first < last_end; first += ot_key_block) {
    size_t end = last_end - first < ot_key_block ? last_end : first + ot_key_block;
    size_t vector_count = (end - first + 15) / 16;
    multiply_add_all(
        rows, 1, a->q + query * a->q_stride, a->q_stride, a->keys + first * a->head_size, 16,
        a->head_size * 16, a->head_size, b->scores, ot_key_block, vector_count);
    for (int r = 0; r < rows; r++) weigh(b, r, first, vector_count);
    for (size_t key = first; whole < a->value_size && key < end; key++) {
      const float *tail = a->values + key * a->value_stride + whole;
      f32x16 padded = OT_LOAD_SOME(f32x16, tail, (a->value_size - whole) * sizeof *tail, splat(0));
      OT_STORE(b->tails + (key - first) * 16, padded);
    }
    add_seen_values(b, rows, first, end);
  }
  finish_queries(b, rows);
}

OT_KERNEL void attention(const struct ot_attention *a) {
  // Vectors of scratch start at multiples of their size.
  float *scratch = (float *)(((uintptr_t)a->scratch + 63) / 64 * 64);
  struct ot_query_block b = {
      .a = a,
      .scores = scratch,
      .sums = scratch + ot_scratch_sums,
      .maxima = scratch + ot_scratch_maxima,
      .tails = scratch + ot_scratch_values,
      .accumulators = scratch + ot_scratch_accumulators,
      .padded = ot_padded_head_size(a->value_size),
  };
  size_t query = 0;
  for (; query + OT_ATTENTION_QUERIES <= a->query_count; query += OT_ATTENTION_QUERIES)
    attend(&b, OT_ATTENTION_QUERIES, query);
  if (OT_ATTENTION_QUERIES > 4 && query + 4 <= a->query_count) {
    attend(&b, 4, query);
    query += 4;
  }
  for (; query < a->query_count; query++) attend(&b, 1, query);
}
