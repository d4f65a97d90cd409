// The scalar form of what a model does with single elements and rows.
#pragma STDC FP_CONTRACT OFF

#include <float.h>

#include "forms.h"
#include "scalar_arithmetic.h"

void ot_add_scalar(const float *x, const float *y, size_t count, float *z) {
  for (size_t k = 0; k < count; k++) z[k] = x[k] + y[k];
}

void ot_multiply_scalar(const float *x, const float *y, size_t count, float *z) {
  for (size_t k = 0; k < count; k++) z[k] = x[k] * y[k];
}

void ot_affine_scalar(
    const float *x, const float *shift, const float *scale, size_t count, float *y) {
  for (size_t k = 0; k < count; k++) {
    float value = x[k];
    if (shift) value = value - shift[k];
    if (scale) value = value / scale[k];
    y[k] = value;
  }
}

// MARK: Norms

/// Mean of (x - center)^power, power 1 or 2.
static double mean(const float *x, size_t count, double center, int power) {
  double lanes[lane_count] = {0};
  for (size_t k = 0; k < count; k++) {
    double term = (double)x[k] - center;
    if (power == 2) term = term * term;
    lanes[k % lane_count] = lanes[k % lane_count] + term;
  }
  return sum_of_lanes(lanes) / (double)count;
}

static void normalize(
    const float *x, size_t count, float center, double mean_square, float epsilon,
    const float *gamma, const float *beta, float *y) {
  float factor = (float)(1 / __builtin_sqrt(mean_square + (double)epsilon));
  for (size_t k = 0; k < count; k++) {
    float value = (x[k] - center) * factor;
    if (gamma) value = value * gamma[k];
    if (beta) value = value + beta[k];
    y[k] = value;
  }
}

void ot_layer_norm_scalar(
    const float *x, size_t count, float epsilon, const float *gamma, const float *beta, float *y) {
  double center = mean(x, count, 0, 1);
  double variance = mean(x, count, center, 2);
  normalize(x, count, (float)center, variance, epsilon, gamma, beta, y);
}

void ot_rms_norm_scalar(
    const float *x, size_t count, float epsilon, const float *gamma, const float *beta, float *y) {
  normalize(x, count, 0, mean(x, count, 0, 2), epsilon, gamma, beta, y);
}

// MARK: Codes

static struct ot_code_row quantize(
    const float *x, size_t count, float scale, int zero, int low, int high, int8_t *q) {
  struct ot_code_row row = {scale, 0};
  for (size_t k = 0; k < count; k++) {
    float code = round_even(x[k] / scale) + (float)zero;
    code = code > (float)low ? code : (float)low;
    code = code < (float)high ? code : (float)high;
    q[k] = (int8_t)code;
    row.sum += q[k];
  }
  return row;
}

/// The scale that takes the largest magnitude to `high`.
static float scale_of_row(const float *x, size_t count, float high) {
  uint32_t largest = 0;
  for (size_t k = 0; k < count; k++) {
    uint32_t magnitude = bits_of(x[k]) & 0x7FFFFFFF;
    if (magnitude > largest) largest = magnitude;
  }
  if (largest >= 0x7F800000) return __builtin_nanf("");
  if (largest == 0) return 1;
  float scale = float_of(largest) / high;
  return scale < FLT_MIN ? FLT_MIN : scale;
}

struct ot_code_row ot_quantize_static_scalar(
    const float *x, size_t count, int low, int high, int8_t *q) {
  return quantize(x, count, 1, 0, low, high, q);
}

struct ot_code_row ot_quantize_dynamic_scalar(
    const float *x, size_t count, int low, int high, int8_t *q) {
  float scale = scale_of_row(x, count, (float)high);
  if (scale == scale) return quantize(x, count, scale, 0, low, high, q);
  memset(q, 0, count);
  return (struct ot_code_row){scale, 0};
}

struct ot_offset_row ot_quantize_asymmetric_scalar(
    const float *x, size_t count, int low, int high, int8_t *q) {
  struct ot_offset_row row = {scale_of_row(x, count, 1), 0, 0};
  if (row.scale != row.scale) {
    memset(q, 0, count);
    return row;
  }
  float minimum = 0, maximum = 0, steps = (float)(high - low);
  for (size_t k = 0; k < count; k++) {
    minimum = x[k] < minimum ? x[k] : minimum;
    maximum = x[k] > maximum ? x[k] : maximum;
  }
  row.scale = maximum / steps - minimum / steps;
  if (minimum == maximum) row.scale = 1;
  if (row.scale < FLT_MIN) row.scale = FLT_MIN;
  float zero = round_even((float)low - minimum / row.scale);
  // `low` is the least that comes.
  row.zero = zero < (float)high ? (int32_t)zero : high;
  row.sum = quantize(x, count, row.scale, row.zero, low, high, q).sum;
  return row;
}

void ot_quantize_groups_scalar(
    const float *x, size_t count, size_t group_size, int low, int high, int8_t *q,
    struct ot_code_row *groups) {
  for (size_t k = 0; k < count; k += group_size, groups++) {
    size_t left = count - k;
    *groups = ot_quantize_dynamic_scalar(
        x + k, left < group_size ? left : group_size, low, high, q + k);
  }
}

float ot_split_digits_scalar(
    const float *x, size_t count, int8_t *q, size_t stride, int32_t *sums) {
  // 8355711 = 127 * (65536 + 256 + 1): the largest number of which no digit
  // exceeds 127.
  float scale = scale_of_row(x, count, 8355711);
  sums[0] = sums[1] = sums[2] = 0;
  int is_finite = scale == scale;
  double factor = 1 / (double)scale;
  for (size_t k = 0; k < count; k++) {
    double scaled = (double)x[k] * factor;
    // Adding 1.5 * 2^52 leaves no bits below 1, so the addition itself rounds.
    int32_t rest = is_finite ? (int32_t)(scaled + 0x1.8p52 - 0x1.8p52) : 0;
    for (int digit = 2; digit >= 0; digit--) {
      int8_t code = (int8_t)rest;
      q[(size_t)digit * stride + k] = code;
      sums[digit] += code;
      rest = (rest - code) / 256;
    }
  }
  return scale;
}

// MARK: Epilogue

static int32_t without_zero_point(const struct ot_epilogue *e, size_t row, size_t n) {
  uint32_t correction = (uint32_t)e->zero_point[n] * (uint32_t)e->sums[row];
  return (int32_t)((uint32_t)e->p[row * e->p_stride + n] - correction);
}

void ot_epilogue_scalar(const struct ot_epilogue *e) {
  for (size_t t = 0; t < e->row_count; t++) {
    for (size_t n = 0; n < e->count; n++) {
      float sum;
      if (e->parts) {
        sum = e->parts[t * e->p_stride + n];
      } else if (e->is_split) {
        int64_t e0 = without_zero_point(e, 3 * t, n), e1 = without_zero_point(e, 3 * t + 1, n);
        sum = (float)(65536 * e0 + 256 * e1 + without_zero_point(e, 3 * t + 2, n));
      } else {
        int64_t whole = without_zero_point(e, t, n);
        if (e->token_zero) whole -= (int64_t)e->weight_sum[n] * e->token_zero[t];
        sum = (float)whole;
      }
      float *y = &e->y[t * e->y_stride + n];
      float value = e->scale[n] * sum;
      if (e->accumulate) value = *y + value;
      if (e->is_last && e->token_scale) value = value * e->token_scale[t];
      if (e->is_last && e->bias) value = value + e->bias[n];
      *y = value;
    }
  }
}
