// The scalar activations: functions from polynomials, with fused multiply-adds.
// functions.h computes the same over lanes.
#pragma STDC FP_CONTRACT OFF

#include "forms.h"
#include "function_constants.h"
#include "scalar_arithmetic.h"

static float fma_of(float x, float y, float z) { return __builtin_fmaf(x, y, z); }

static float exponential(float x) {
  // NaN passes both; the result is 0 and infinity from these bounds on.
  x = x < OT_EXP_LOWEST ? OT_EXP_LOWEST : x;
  x = x > OT_EXP_HIGHEST ? OT_EXP_HIGHEST : x;
  // x = n ln 2 + r; the addition of 1.5 * 2^23 rounds to an integer.
  float shifted = fma_of(x, OT_LOG2_E, OT_ROUNDER);
  float n = shifted - OT_ROUNDER;
  float r = fma_of(n, -OT_LN2_HIGH, x);
  r = fma_of(n, -OT_LN2_LOW, r);
  float p = OT_EXP_7;
  p = fma_of(p, r, OT_EXP_6);
  p = fma_of(p, r, OT_EXP_5);
  p = fma_of(p, r, OT_EXP_4);
  p = fma_of(p, r, OT_EXP_3);
  p = fma_of(p, r, OT_EXP_2);
  float square = r * r;
  p = fma_of(p, square, r);
  p = p + 1.0f;
  // 2^n in two factors, each a normal float: only the last product rounds.
  int32_t power = (int32_t)(bits_of(shifted) - bits_of(OT_ROUNDER));
  int32_t half = power >> 1;
  p = p * float_of((uint32_t)(half + 127) << 23);
  return p * float_of((uint32_t)(power - half + 127) << 23);
}

static float error_function(float x) {
  float t = __builtin_fabsf(x), square = x * x;
  float far = fma_of(OT_ERF_FAR_7, t, OT_ERF_FAR_6);
  float u = fma_of(OT_ERF_FAR_5, t, OT_ERF_FAR_4);
  far = fma_of(far, square, u);
  far = fma_of(far, t, OT_ERF_FAR_3);
  far = fma_of(far, t, OT_ERF_FAR_2);
  far = fma_of(far, t, OT_ERF_FAR_1);
  far = fma_of(far, t, -t);
  far = __builtin_copysignf(1.0f - exponential(far), x);
  float near = OT_ERF_NEAR_11;
  near = fma_of(near, square, OT_ERF_NEAR_9);
  near = fma_of(near, square, OT_ERF_NEAR_7);
  near = fma_of(near, square, OT_ERF_NEAR_5);
  near = fma_of(near, square, OT_ERF_NEAR_3);
  near = fma_of(near, square, OT_ERF_NEAR_1);
  near = fma_of(near, x, x);
  return t > OT_ERF_BOUND ? far : near;
}

static float tangent(float x) {
  float t = __builtin_fabsf(x), square = x * x;
  float quotient = 2.0f / (exponential(t + t) + 1.0f);
  float far = __builtin_copysignf(1.0f - quotient, x);
  float near = OT_TANH_11;
  near = fma_of(near, square, OT_TANH_9);
  near = fma_of(near, square, OT_TANH_7);
  near = fma_of(near, square, OT_TANH_5);
  near = fma_of(near, square, OT_TANH_3);
  near = near * square;
  near = fma_of(near, x, x);
  return t > OT_TANH_BOUND ? far : near;
}

static float activated(enum ot_activation kind, float x) {
  switch (kind) {
    case OT_RELU:
      return x <= 0 ? 0 : x;
    case OT_GELU: {
      float e = error_function(x * OT_SQRT_HALF);
      return 0.5f * x * (1.0f + e);
    }
    case OT_GELU_TANH: {
      float cube = x * x * x;
      float bent = OT_GELU_CUBIC * cube;
      float inner = OT_GELU_FACTOR * (x + bent);
      return 0.5f * x * (1.0f + tangent(inner));
    }
    case OT_SILU:
      return x / (1.0f + exponential(-x));
    case OT_TANH:
      return tangent(x);
  }
  return x;
}

void ot_activate_scalar(enum ot_activation kind, const float *x, size_t count, float *y) {
  for (size_t k = 0; k < count; k++) y[k] = activated(kind, x[k]);
}

void ot_activate_multiply_scalar(
    enum ot_activation kind, const float *g, const float *x, size_t count, float *y) {
  for (size_t k = 0; k < count; k++) y[k] = activated(kind, g[k]) * x[k];
}
