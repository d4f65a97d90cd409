// Attention of codes over 16 lanes and for several queries at once: for each query
// step by step what scalar_code_attention.c does.
#include "code_products.h"
#include "code_weights.h"

OT_INLINE void begin_queries(struct ot_code_queries *b, int rows, size_t query) {
  const struct ot_code_attention *a = b->a;
  b->query = query;
  b->slope = a->slope * OT_LOG2_E;
  b->cap = a->soft_cap * OT_LOG2_E;
  b->maxima = splat(a->sink == NULL ? -__builtin_inff() : *a->sink * OT_LOG2_E);
  __builtin_memset(b->codes, 0, ot_padded_head_size(a->head_size) * ot_most_queries);
  for (int r = 0; r < rows; r++) {
    size_t i = query + (size_t)r;
    const int8_t *codes = a->q + i * a->q_stride;
    size_t position = a->first_position + i;
    b->end[r] = ot_end_seen(position, a->is_causal, a->window, a->key_count);
    b->begin[r] = ot_first_seen(position, a->window);
    b->factor[r] =
        a->q_scales[i] * a->scale * (a->soft_cap != 0 ? 1 / a->soft_cap : OT_LOG2_E);
    b->start[r] = -OT_KEY_OFFSET * sum(codes, a->head_size);
    b->totals[r] = b->factor[r] * 0;
    if (a->sink != NULL) b->totals[r] = b->totals[r] + 1;
    for (size_t c = 0; c < a->head_size; c += 4) {
      int8_t *place = b->codes + (c * ot_most_queries + (size_t)r * 4);
      __builtin_memcpy(place, codes + c, a->head_size - c < 4 ? a->head_size - c : 4);
    }
    for (size_t c = 0; c < b->padded; c += 16)
      OT_STORE(b->accumulators + (size_t)r * b->padded + c, splat(0));
  }
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
      OT_EACH_STEP(a->value_size, STEP)
#undef STEP
    } else if (position < a->key_count) {
      const int8_t *own = a->values + position / 4 * b->padded * 4 + position % 4;
      for (size_t c = 0; c < a->value_size; c++)
        y[c] = a->value_scales[position] * (float)own[c * 4];
    } else {
      __builtin_memset(y, 0, a->value_size * sizeof *y);
    }
  }
}

OT_INLINE void attend_codes(struct ot_code_queries *b, int rows, size_t query) {
  const struct ot_code_attention *a = b->a;
  begin_queries(b, rows, query);
  size_t last_end = b->end[rows - 1], words = (a->head_size + 3) / 4;
  size_t first = b->begin[0] / OT_CODE_BLOCK * OT_CODE_BLOCK;
  for (; first < last_end; first += OT_CODE_BLOCK) {
    size_t end = last_end - first < OT_CODE_BLOCK ? last_end : first + OT_CODE_BLOCK;
    size_t vector_count = (end - first + 15) / 16;
#define OT_KEYS(vectors, v)                                                       \
  multiply_keys(b, rows, vectors, a->keys + (first / 16 + v) * words * 64, b->scores + v * 16)
    OT_EACH_VECTORS(rows, vector_count, OT_KEYS)
#undef OT_KEYS
    // The first query sees the fewest keys at the end, the last one at the start.
    int sees_all = a->mask == NULL && a->slope == 0 && a->bias == NULL && b->begin[rows - 1] <= first &&
                   first + OT_CODE_BLOCK <= b->end[0];
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
  size_t padded = ot_padded_head_size(a->value_size);
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
