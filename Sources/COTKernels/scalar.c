// The scalar kernels: plain loops, and the oracle of every other form.
#pragma STDC FP_CONTRACT OFF

#include <float.h>
#include <string.h>

#include "forms.h"
#include "scalar_arithmetic.h"

static float f32_from_f16_bits(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16;
  uint32_t exponent = half >> 10 & 0x1F, fraction = half & 0x3FF;
  if (exponent == 0x1F) {
    uint32_t quiet = fraction ? 0x400000 : 0;
    return float_of(sign | 0x7F800000 | quiet | fraction << 13);
  }
  // A subnormal half is a multiple of 2^-24, a normal float.
  if (exponent == 0) return float_of(sign | bits_of((float)fraction * 0x1p-24f));
  return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

static uint16_t f16_bits_from_f32(float x) {
  uint32_t bits = bits_of(x);
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
  // 65520 lies half way between the largest half and 2^16, and goes up.
  if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
  if (magnitude < 0x38800000) {
    // Subnormal: the multiple of 2^-24 nearest to x. The scaling is exact.
    float steps = round_even(float_of(magnitude) * 0x1p24f);
    return (uint16_t)(sign | (uint32_t)steps);
  }
  uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
  return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}

static void f32_from_f16(const void *source, float *y, size_t count) {
  for (size_t k = 0; k < count; k++) {
    uint16_t half;
    memcpy(&half, (const char *)source + 2 * k, 2);
    y[k] = f32_from_f16_bits(half);
  }
}

static void f32_from_bf16(const void *source, float *y, size_t count) {
  for (size_t k = 0; k < count; k++) {
    uint16_t brain;
    memcpy(&brain, (const char *)source + 2 * k, 2);
    y[k] = float_of((uint32_t)brain << 16);
  }
}

static void f32_from_f64(const void *source, float *y, size_t count) {
  for (size_t k = 0; k < count; k++) {
    double x;
    memcpy(&x, (const char *)source + 8 * k, 8);
    y[k] = (float)x;
  }
}

static void f16_from_f32(const float *x, void *target, size_t count) {
  for (size_t k = 0; k < count; k++) {
    uint16_t half = f16_bits_from_f32(x[k]);
    memcpy((char *)target + 2 * k, &half, 2);
  }
}

static void bf16_from_f32(const float *x, void *target, size_t count) {
  for (size_t k = 0; k < count; k++) {
    uint32_t bits = bits_of(x[k]);
    int is_nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    uint16_t brain = is_nan ? (uint16_t)(bits >> 16 | 0x40)
                            : (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    memcpy((char *)target + 2 * k, &brain, 2);
  }
}

static void transform_row(
    float *x, const float *column_scale, const float *row_scale, size_t count) {
  for (size_t k = 0; k < count; k++) {
    if (column_scale) x[k] = x[k] * column_scale[k];
    if (row_scale) x[k] = x[k] / *row_scale;
  }
}

static float dot(const float *x, const float *y, size_t count) {
  float lanes[lane_count] = {0};
  for (size_t k = 0; k < count; k++) {
    float product = x[k] * y[k];
    lanes[k % lane_count] = lanes[k % lane_count] + product;
  }
  for (int width = lane_count / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] = lanes[i] + lanes[i + width];
  return lanes[0];
}

static struct ot_range range(const float *x, size_t count) {
  struct ot_range result = {0, 0, -1};
  if (count == 0) return result;
  float minimum = __builtin_inff(), maximum = -__builtin_inff();
  for (size_t k = 0; k < count; k++) {
    if (x[k] < minimum) minimum = x[k];
    if (x[k] > maximum) maximum = x[k];
    if (result.first_nonfinite < 0 && (bits_of(x[k]) & 0x7F800000) == 0x7F800000)
      result.first_nonfinite = (ptrdiff_t)k;
  }
  // Adding 0 makes -0 positive: the result cannot depend on the order.
  result.minimum = minimum + 0.0f;
  result.maximum = maximum + 0.0f;
  return result;
}

static void quantize_row(
    const float *x, size_t count, float scale, int zero_point, int low, int high, uint8_t *u,
    struct ot_error *error) {
  double squared_errors[lane_count] = {0}, squares[lane_count] = {0};
  float zero = (float)zero_point;
  for (size_t k = 0; k < count; k++) {
    float code = round_even(x[k] / scale) + zero;
    code = code > (float)low ? code : (float)low;
    code = code < (float)high ? code : (float)high;
    u[k] = (uint8_t)code;
    float restored = scale * (code - zero);
    float difference = x[k] - restored;
    double squared_error = (double)difference * difference, square = (double)x[k] * x[k];
    squared_errors[k % lane_count] = squared_errors[k % lane_count] + squared_error;
    squares[k % lane_count] = squares[k % lane_count] + square;
    float magnitude = __builtin_fabsf(difference);
    if (magnitude > error->maximum) error->maximum = magnitude;
  }
  error->squared_error = error->squared_error + sum_of_lanes(squared_errors);
  error->squares = error->squares + sum_of_lanes(squares);
}

static void dequantize_row(
    const uint8_t *u, size_t count, float scale, int zero_point, float *x) {
  for (size_t k = 0; k < count; k++) x[k] = scale * (float)(u[k] - zero_point);
}

static void interleave(
    const uint8_t *rows, size_t stride, size_t column_count, uint8_t *tile) {
  for (size_t k = 0; k < column_count; k++)
    for (size_t r = 0; r < 16; r++) tile[k / 4 * 64 + r * 4 + k % 4] = rows[r * stride + k];
}

static void deinterleave(
    const uint8_t *tile, size_t column_count, uint8_t *rows, size_t stride) {
  for (size_t k = 0; k < column_count; k++)
    for (size_t r = 0; r < 16; r++) rows[r * stride + k] = tile[k / 4 * 64 + r * 4 + k % 4];
}

static void pack6(const uint8_t *codes, size_t count, uint8_t *packed) {
  for (size_t block = 0; block < count / 256; block++, codes += 256, packed += 192) {
    for (size_t i = 0; i < 64; i++) {
      uint8_t last = codes[192 + i];
      packed[i] = (uint8_t)(codes[i] | (last & 3) << 6);
      packed[64 + i] = (uint8_t)(codes[64 + i] | (last >> 2 & 3) << 6);
      packed[128 + i] = (uint8_t)(codes[128 + i] | last >> 4 << 6);
    }
  }
}

static void unpack6(const uint8_t *packed, size_t count, uint8_t *codes) {
  for (size_t block = 0; block < count / 256; block++, codes += 256, packed += 192) {
    for (size_t i = 0; i < 64; i++) {
      uint8_t v0 = packed[i], v1 = packed[64 + i], v2 = packed[128 + i];
      codes[i] = v0 & 63;
      codes[64 + i] = v1 & 63;
      codes[128 + i] = v2 & 63;
      codes[192 + i] = (uint8_t)(v0 >> 6 | v1 >> 6 << 2 | v2 >> 6 << 4);
    }
  }
}

static void pack4(const uint8_t *codes, size_t count, uint8_t *packed) {
  for (size_t block = 0; block < count / 128; block++, codes += 128, packed += 64)
    for (size_t i = 0; i < 64; i++) packed[i] = (uint8_t)(codes[i] | codes[64 + i] << 4);
}

static void unpack4(const uint8_t *packed, size_t count, uint8_t *codes) {
  for (size_t block = 0; block < count / 128; block++, codes += 128, packed += 64) {
    for (size_t i = 0; i < 64; i++) {
      codes[i] = packed[i] & 15;
      codes[64 + i] = packed[i] >> 4;
    }
  }
}

static ptrdiff_t first_outside(const uint8_t *codes, size_t count, uint8_t low, uint8_t high) {
  for (size_t k = 0; k < count; k++)
    if (codes[k] < low || codes[k] > high) return (ptrdiff_t)k;
  return -1;
}

static int32_t sum(const int8_t *q, size_t count) {
  int32_t result = 0;
  for (size_t k = 0; k < count; k++) result += q[k];
  return result;
}

#define OT_NAME "scalar"
#define OT_FORM(name) name##_scalar
// They have files of their own.
#define OT_MODEL_KERNEL(name) ot_##name##_scalar
#include "table.h"
