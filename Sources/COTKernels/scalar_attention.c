// The scalar form of attention and of what prepares it, one query after the
// other. attention.h computes the same over lanes and for several queries.
#pragma STDC FP_CONTRACT OFF

#include "attention_layout.h"
#include "forms.h"
#include "scalar_exponential.h"

size_t ot_attention_scratch_count(size_t head_size, size_t value_size) {
  (void)head_size;
  // 16 more, so that the start can be moved to an address that suits vectors.
  return ot_scratch_accumulators + ot_most_queries * ot_padded_head_size(value_size) + 16;
}

void ot_rotate_scalar(
    float *x, size_t head_count, size_t head_size, const float *cosines, const float *sines,
    size_t half) {
  for (size_t head = 0; head < head_count; head++, x += head_size) {
    for (size_t i = 0; i < half; i++) {
      float a = x[i], b = x[i + half];
      float a_cos = a * cosines[i], b_sin = b * sines[i];
      float b_cos = b * cosines[i], a_sin = a * sines[i];
      x[i] = a_cos - b_sin;
      x[i + half] = b_cos + a_sin;
    }
  }
}

void ot_store_keys_scalar(
    const float *k, size_t k_stride, size_t count, size_t head_size, size_t first_position,
    float *cache) {
  for (size_t i = 0; i < count; i++) {
    size_t position = first_position + i;
    float *first = cache + position / 16 * 16 * head_size + position % 16;
    for (size_t c = 0; c < head_size; c++) first[c * 16] = k[i * k_stride + c];
  }
}

static int is_seen(const struct ot_attention *a, size_t begin, size_t key) {
  return key >= begin && (a->mask == NULL || a->mask[key] != 0);
}

static float score(
    const struct ot_attention *a, const float *q, size_t key, size_t position) {
  const float *k = a->keys + key / 16 * 16 * a->head_size + key % 16;
  float sum = 0;
  for (size_t c = 0; c < a->head_size; c++) sum = fma_of(q[c], k[c * 16], sum);
  sum = sum * a->scale;
  if (a->soft_cap != 0) sum = a->soft_cap * tangent(sum / a->soft_cap);
  if (a->slope != 0) {
    float bias = a->slope * (float)key;
    sum = sum + bias;
  }
  if (a->bias != NULL) sum = sum + a->bias[(ptrdiff_t)key - (ptrdiff_t)position];
  return sum;
}

void ot_attention_scalar(const struct ot_attention *a) {
  float *scores = a->scratch, *accumulators = a->scratch + ot_scratch_accumulators;
  for (size_t i = 0; i < a->query_count; i++) {
    size_t position = a->first_position + i;
    size_t end = ot_end_seen(position, a->is_causal, a->window, a->key_count);
    size_t begin = ot_first_seen(position, a->window);
    float maximum = -__builtin_inff(), sums[lane_count] = {0};
    if (a->sink != NULL) {
      maximum = *a->sink;
      sums[0] = 1;
    }
    for (size_t c = 0; c < a->value_size; c++) accumulators[c] = 0;
    for (size_t first = begin / ot_key_block * ot_key_block; first < end; first += ot_key_block) {
      size_t count = end - first < ot_key_block ? end - first : ot_key_block;
      float largest = maximum;
      for (size_t j = 0; j < count; j++) {
        scores[j] = -__builtin_inff();
        if (is_seen(a, begin, first + j))
          scores[j] = score(a, a->q + i * a->q_stride, first + j, position);
        if (scores[j] > largest) largest = scores[j];
      }
      // -infinity - -infinity is no number; what has been summed is 0 then.
      float reference = largest == -__builtin_inff() ? 0 : largest;
      float correction = decay(maximum - reference);
      maximum = largest;
      for (int lane = 0; lane < lane_count; lane++) sums[lane] = sums[lane] * correction;
      for (size_t c = 0; c < a->value_size; c++) accumulators[c] = accumulators[c] * correction;
      for (size_t j = 0; j < count; j++) {
        float p = decay(scores[j] - reference);
        sums[j % lane_count] = sums[j % lane_count] + p;
        if (!is_seen(a, begin, first + j)) continue;
        const float *v = a->values + (first + j) * a->value_stride;
        for (size_t c = 0; c < a->value_size; c++)
          accumulators[c] = fma_of(p, v[c], accumulators[c]);
      }
    }
    for (int width = lane_count / 2; width > 0; width /= 2)
      for (int lane = 0; lane < width; lane++) sums[lane] = sums[lane] + sums[lane + width];
    const float *own = position < a->key_count ? a->values + position * a->value_stride : NULL;
    // The largest weight is 1, so that a sum of 0 means that no key was seen, and that there is no sink.
    for (size_t c = 0; c < a->value_size; c++) {
      float value = sums[0] != 0 ? accumulators[c] * (1 / sums[0]) : own ? own[c] : 0;
      a->y[i * a->y_stride + c] = value;
    }
  }
}
