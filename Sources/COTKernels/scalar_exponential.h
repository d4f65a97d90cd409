// The scalar exponentials and tangent. A file that includes this turns contraction off.
#ifndef OT_SCALAR_EXPONENTIAL_H
#define OT_SCALAR_EXPONENTIAL_H

#include "function_constants.h"
#include "scalar_arithmetic.h"

static inline float fma_of(float x, float y, float z) { return __builtin_fmaf(x, y, z); }

/// e^r = 1 + r + r^2 p(r) and n, of x = n ln 2 + r.
static inline float exponential_parts(float x, int32_t *n) {
  // The addition of 1.5 * 2^23 rounds to an integer, n in the lowest bits.
  float shifted = fma_of(x, OT_LOG2_E, OT_ROUNDER);
  float rounded = shifted - OT_ROUNDER;
  *n = (int32_t)(bits_of(shifted) - bits_of(OT_ROUNDER));
  float r = fma_of(rounded, -OT_LN2_HIGH, x);
  r = fma_of(rounded, -OT_LN2_LOW, r);
  float p = OT_EXP_7;
  p = fma_of(p, r, OT_EXP_6);
  p = fma_of(p, r, OT_EXP_5);
  p = fma_of(p, r, OT_EXP_4);
  p = fma_of(p, r, OT_EXP_3);
  p = fma_of(p, r, OT_EXP_2);
  float square = r * r;
  p = fma_of(p, square, r);
  return p + 1.0f;
}

static inline float exponential(float x) {
  // NaN passes both; the result is 0 and infinity from these bounds on.
  x = x < OT_EXP_LOWEST ? OT_EXP_LOWEST : x;
  x = x > OT_EXP_HIGHEST ? OT_EXP_HIGHEST : x;
  int32_t n;
  float p = exponential_parts(x, &n);
  // 2^n in two factors, each a normal float: only the last product rounds.
  int32_t half = n >> 1;
  p = p * float_of((uint32_t)(half + 127) << 23);
  return p * float_of((uint32_t)(n - half + 127) << 23);
}

/// e^x for x <= 0, with 0 for subnormal results.
static inline float decay(float x) {
  float clamped = x < OT_DECAY_LOWEST ? OT_DECAY_LOWEST : x;
  int32_t n;
  float p = exponential_parts(clamped, &n);
  p = p * float_of((uint32_t)(n + 127) << 23);
  return x < OT_DECAY_LOWEST ? 0 : p;
}

/// 2^x for x <= 0, NaN included as very small.
static inline float decay2(float x) {
  x = x > OT_EXP2_LOWEST ? x : OT_EXP2_LOWEST;
  float shifted = x + OT_ROUNDER;
  float r = x - (shifted - OT_ROUNDER);
  float p = fma_of(OT_EXP2_5, r, OT_EXP2_4);
  p = fma_of(p, r, OT_EXP2_3);
  p = fma_of(p, r, OT_EXP2_2);
  p = fma_of(p, r, OT_EXP2_1);
  p = fma_of(p, r, 1.0f);
  return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

/// The hyperbolic tangent.
static inline float tangent(float x) {
  float t = __builtin_fabsf(x), square = x * x;
  float e = decay(-2.0f * t);
  float quotient = (e + e) / (1.0f + e);
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

#endif
