// The functions of scalar_functions.c over 16 lanes, step by step the same.
#include "function_constants.h"

OT_INLINE f32x16 fma_of(f32x16 x, f32x16 y, f32x16 z) { return __builtin_elementwise_fma(x, y, z); }

OT_INLINE f32x16 with_sign_of(f32x16 magnitude, f32x16 x) {
  return (f32x16)(((u32x16)magnitude & 0x7FFFFFFFu) | ((u32x16)x & 0x80000000u));
}

/// e^r = 1 + r + r^2 p(r) and n, of x = n ln 2 + r.
OT_INLINE f32x16 exponential_parts(f32x16 x, i32x16 *n) {
  f32x16 shifted = fma_of(x, splat(OT_LOG2_E), splat(OT_ROUNDER));
  f32x16 rounded = shifted - splat(OT_ROUNDER);
  *n = (i32x16)((u32x16)shifted - (u32x16)splat(OT_ROUNDER));
  f32x16 r = fma_of(rounded, splat(-OT_LN2_HIGH), x);
  r = fma_of(rounded, splat(-OT_LN2_LOW), r);
  f32x16 p = splat(OT_EXP_7);
  p = fma_of(p, r, splat(OT_EXP_6));
  p = fma_of(p, r, splat(OT_EXP_5));
  p = fma_of(p, r, splat(OT_EXP_4));
  p = fma_of(p, r, splat(OT_EXP_3));
  p = fma_of(p, r, splat(OT_EXP_2));
  f32x16 square = r * r;
  p = fma_of(p, square, r);
  return p + splat(1);
}

OT_INLINE f32x16 exponential(f32x16 x) {
  x = blend(x < splat(OT_EXP_LOWEST), splat(OT_EXP_LOWEST), x);
  x = blend(x > splat(OT_EXP_HIGHEST), splat(OT_EXP_HIGHEST), x);
  i32x16 n;
  f32x16 p = exponential_parts(x, &n);
  i32x16 half = n >> 1;
  p = p * (f32x16)((u32x16)(half + 127) << 23);
  return p * (f32x16)((u32x16)(n - half + 127) << 23);
}

/// e^x for x <= 0, with 0 for subnormal results.
OT_INLINE f32x16 decay(f32x16 x) {
  i32x16 is_low = x < splat(OT_DECAY_LOWEST), n;
  f32x16 clamped = blend(is_low, splat(OT_DECAY_LOWEST), x);
  f32x16 p = exponential_parts(clamped, &n);
  p = p * (f32x16)((u32x16)(n + 127) << 23);
  return blend(is_low, splat(0), p);
}

/// 2^x for x <= 0, NaN included as very small.
OT_INLINE f32x16 decay2(f32x16 x) {
  x = greater(x, splat(OT_EXP2_LOWEST));
  f32x16 shifted = x + splat(OT_ROUNDER);
  f32x16 r = x - (shifted - splat(OT_ROUNDER));
  f32x16 p = fma_of(splat(OT_EXP2_5), r, splat(OT_EXP2_4));
  p = fma_of(p, r, splat(OT_EXP2_3));
  p = fma_of(p, r, splat(OT_EXP2_2));
  p = fma_of(p, r, splat(OT_EXP2_1));
  p = fma_of(p, r, splat(1));
  // The shift leaves n alone, in the exponent's place.
  return (f32x16)((u32x16)p + ((u32x16)shifted << 23));
}

OT_INLINE f32x16 error_function(f32x16 x) {
  f32x16 t = magnitude(x), square = x * x;
  f32x16 far = fma_of(splat(OT_ERF_FAR_7), t, splat(OT_ERF_FAR_6));
  f32x16 u = fma_of(splat(OT_ERF_FAR_5), t, splat(OT_ERF_FAR_4));
  far = fma_of(far, square, u);
  far = fma_of(far, t, splat(OT_ERF_FAR_3));
  far = fma_of(far, t, splat(OT_ERF_FAR_2));
  far = fma_of(far, t, splat(OT_ERF_FAR_1));
  far = fma_of(far, t, -t);
  far = with_sign_of(splat(1) - decay(far), x);
  f32x16 near = splat(OT_ERF_NEAR_11);
  near = fma_of(near, square, splat(OT_ERF_NEAR_9));
  near = fma_of(near, square, splat(OT_ERF_NEAR_7));
  near = fma_of(near, square, splat(OT_ERF_NEAR_5));
  near = fma_of(near, square, splat(OT_ERF_NEAR_3));
  near = fma_of(near, square, splat(OT_ERF_NEAR_1));
  near = fma_of(near, x, x);
  return blend(t > splat(OT_ERF_BOUND), far, near);
}

OT_INLINE f32x16 tangent(f32x16 x) {
  f32x16 t = magnitude(x), square = x * x;
  f32x16 e = decay(splat(-2) * t);
  f32x16 quotient = (e + e) / (splat(1) + e);
  f32x16 far = with_sign_of(splat(1) - quotient, x);
  f32x16 near = splat(OT_TANH_11);
  near = fma_of(near, square, splat(OT_TANH_9));
  near = fma_of(near, square, splat(OT_TANH_7));
  near = fma_of(near, square, splat(OT_TANH_5));
  near = fma_of(near, square, splat(OT_TANH_3));
  near = near * square;
  near = fma_of(near, x, x);
  return blend(t > splat(OT_TANH_BOUND), far, near);
}

OT_INLINE f32x16 activated(enum ot_activation kind, f32x16 x) {
  switch (kind) {
    case OT_RELU:
      return blend(x <= splat(0), splat(0), x);
    case OT_GELU: {
      f32x16 e = error_function(x * splat(OT_SQRT_HALF));
      return splat(0.5f) * x * (splat(1) + e);
    }
    case OT_GELU_TANH: {
      f32x16 cube = x * x * x;
      f32x16 bent = splat(OT_GELU_CUBIC) * cube;
      f32x16 inner = splat(OT_GELU_FACTOR) * (x + bent);
      return splat(0.5f) * x * (splat(1) + tangent(inner));
    }
    case OT_SILU:
      return x / (splat(1) + exponential(-x));
    case OT_TANH:
      return tangent(x);
  }
  return x;
}

// `kind` is a constant where this is inlined.
OT_INLINE void activate_row(enum ot_activation kind, const float *x, size_t count, float *y) {
#define STEP(k, n) OT_STORE_N(y + (k), activated(kind, OT_LOAD_N(f32x16, x + (k), n, (f32x16){0})), n);
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL void activate(enum ot_activation kind, const float *x, size_t count, float *y) {
  switch (kind) {
    case OT_RELU: activate_row(OT_RELU, x, count, y); break;
    case OT_GELU: activate_row(OT_GELU, x, count, y); break;
    case OT_GELU_TANH: activate_row(OT_GELU_TANH, x, count, y); break;
    case OT_SILU: activate_row(OT_SILU, x, count, y); break;
    case OT_TANH: activate_row(OT_TANH, x, count, y); break;
  }
}
