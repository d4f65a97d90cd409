// The scalar form of attention of codes, one query after the other, each sum in
// one piece. code_attention.h computes the same over lanes and for several queries.
#pragma STDC FP_CONTRACT OFF

#include "attention_layout.h"
#include "forms.h"
#include "scalar_exponential.h"

size_t ot_code_attention_scratch_count(size_t head_size, size_t value_size) {
  size_t floats = ot_padded_head_size(value_size), bytes = ot_padded_head_size(head_size);
  // 16 more, so that the start can be moved to an address that suits vectors.
  return ot_code_scratch_accumulators + ot_most_queries * (floats + bytes / 4) + 16;
}

static size_t key_place(size_t position, size_t channel, size_t head_size) {
  size_t words = (head_size + 3) / 4;
  return ((position / 16 * words + channel / 4) * 16 + position % 16) * 4 + channel % 4;
}

static size_t value_place(size_t position, size_t channel, size_t value_size) {
  return (position / 4 * ot_padded_head_size(value_size) + channel) * 4 + position % 4;
}

void ot_store_key_codes_scalar(
    const int8_t *k, size_t k_stride, size_t count, size_t head_size, size_t first_position,
    uint8_t *cache) {
  for (size_t i = 0; i < count; i++)
    for (size_t c = 0; c < head_size; c++)
      cache[key_place(first_position + i, c, head_size)] = (uint8_t)(k[i * k_stride + c] + 128);
}

void ot_store_value_codes_scalar(
    const int8_t *v, size_t v_stride, size_t count, size_t head_size, size_t first_position,
    int8_t *cache) {
  for (size_t i = 0; i < count; i++)
    for (size_t c = 0; c < head_size; c++)
      cache[value_place(first_position + i, c, head_size)] = v[i * v_stride + c];
}

/// A query's state from block to block.
struct query {
  const struct ot_code_attention *a;
  const int8_t *codes;
  /// The first key that it sees.
  size_t begin;
  size_t position;
  /// q_scale * scale * log2(e), and the slope times log2(e): weights are powers of 2.
  /// With a soft cap c instead q_scale * scale / c, and c * log2(e); c is 0 for none.
  float factor, slope, cap;
  float maximum, total, *accumulators;
};

static int is_seen(const struct query *q, size_t key) {
  return key >= q->begin && (q->a->mask == NULL || q->a->mask[key] != 0);
}

static float score(const struct query *q, size_t key) {
  const struct ot_code_attention *a = q->a;
  int32_t sum = 0;
  for (size_t c = 0; c < a->head_size; c++)
    sum += q->codes[c] * (a->keys[key_place(key, c, a->head_size)] - 128);
  float value = (float)sum * (a->key_scales[key] * q->factor);
  if (q->cap != 0) value = q->cap * tangent(value);
  if (q->slope != 0) {
    float bias = q->slope * (float)key;
    value = value + bias;
  }
  if (a->bias != NULL) {
    float bias = a->bias[(ptrdiff_t)key - (ptrdiff_t)q->position] * OT_LOG2_E;
    value = value + bias;
  }
  return value;
}

/// Adds keys `first` ..< `end`, all of one block, to the query's sums.
static void add_block(struct query *q, size_t first, size_t end) {
  const struct ot_code_attention *a = q->a;
  float scores[OT_CODE_BLOCK], sums[lane_count] = {0}, scaled_sums[lane_count] = {0};
  int32_t weights[OT_CODE_BLOCK];
  float largest = -__builtin_inff(), largest_scale = OT_SMALLEST_VALUE_SCALE;
  int is_finite = 1;
  for (size_t key = first; key < end; key++) {
    if (!is_seen(q, key)) continue;
    float value = scores[key - first] = score(q, key), value_scale = a->value_scales[key];
    if (value > largest) largest = value;
    if (value_scale > largest_scale) largest_scale = value_scale;
    if (a->key_scales[key] != a->key_scales[key] || value_scale != value_scale) is_finite = 0;
  }
  // The sums so far or the new ones are corrected to the larger maximum.
  float correction = 1, unit = 1;
  if (largest > q->maximum) {
    correction = decay2(q->maximum - largest);
    q->maximum = largest;
  } else {
    unit = decay2(largest - q->maximum);
  }
  float step = OT_LARGEST_DIGIT / largest_scale;
  for (size_t key = first; key < end; key++) {
    size_t j = key - first, lane = j % lane_count;
    float p = is_seen(q, key) ? decay2(scores[j] - largest) : 0;
    sums[lane] = sums[lane] + p;
    scores[j] = p;
    if (p != 0) scaled_sums[lane] = fma_of(p, a->value_scales[key] * step, scaled_sums[lane]);
  }
  for (int width = lane_count / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; lane++) {
      sums[lane] = sums[lane] + sums[lane + width];
      scaled_sums[lane] = scaled_sums[lane] + scaled_sums[lane + width];
    }
  }
  int is_fine = scaled_sums[0] < OT_COARSE_SUM * OT_LARGEST_DIGIT &&
                unit * OT_COARSE_PART > q->total * correction;
  for (size_t key = first; key < end; key++) {
    float p = scores[key - first];
    weights[key - first] = 0;
    if (p == 0) continue;
    float weight_step = a->value_scales[key] * step;
    if (is_fine) weight_step = weight_step * OT_WEIGHT_BASE;
    // The addition of 1.5 * 2^23 leaves the integer in the lowest bits.
    int32_t weight = (int32_t)(bits_of(fma_of(p, weight_step, OT_ROUNDER)) & 0x3FFF);
    weights[key - first] = is_fine ? weight : weight * OT_WEIGHT_BASE;
  }
  if (!is_finite || largest == __builtin_inff()) unit = __builtin_nanf("");
  q->total = fma_of(sums[0], unit, q->total * correction);
  unit = unit * (largest_scale * (1 / (OT_LARGEST_DIGIT * OT_WEIGHT_BASE)));
  for (size_t c = 0; c < a->value_size; c++) {
    int32_t sum = 0;
    for (size_t key = first; key < end; key++) {
      if (weights[key - first] != 0)
        sum += weights[key - first] * a->values[value_place(key, c, a->value_size)];
    }
    q->accumulators[c] = fma_of((float)sum, unit, q->accumulators[c] * correction);
  }
}

void ot_code_attention_scalar(const struct ot_code_attention *a) {
  for (size_t i = 0; i < a->query_count; i++) {
    size_t position = a->first_position + i;
    size_t end = ot_end_seen(position, a->is_causal, a->window, a->key_count);
    struct query q = {
        .a = a,
        .codes = a->q + i * a->q_stride,
        .begin = ot_first_seen(position, a->window),
        .position = position,
        .factor = a->q_scales[i] * a->scale * (a->soft_cap != 0 ? 1 / a->soft_cap : OT_LOG2_E),
        .slope = a->slope * OT_LOG2_E,
        .cap = a->soft_cap * OT_LOG2_E,
        .maximum = -__builtin_inff(),
        .accumulators = a->scratch,
    };
    // NaN for a query whose scale is.
    q.total = q.factor * 0;
    if (a->sink != NULL) {
      q.maximum = *a->sink * OT_LOG2_E;
      q.total = q.total + 1;
    }
    for (size_t c = 0; c < a->value_size; c++) q.accumulators[c] = 0;
    for (size_t first = q.begin / OT_CODE_BLOCK * OT_CODE_BLOCK; first < end; first += OT_CODE_BLOCK)
      add_block(&q, first, end - first < OT_CODE_BLOCK ? end : first + OT_CODE_BLOCK);
    for (size_t c = 0; c < a->value_size; c++) {
      float value = 0;
      if (q.total != 0) {
        // The sign of a zero depends on the blocks passed over; the addition makes it positive.
        value = q.accumulators[c] * (1 / q.total) + 0.0f;
      } else if (position < a->key_count) {
        value = a->value_scales[position] * (float)a->values[value_place(position, c, a->value_size)];
      }
      a->y[i * a->y_stride + c] = value;
    }
  }
}
