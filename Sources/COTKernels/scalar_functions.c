// The scalar activations: functions from polynomials, with fused multiply-adds.
// functions.h computes the same over lanes.
#pragma STDC FP_CONTRACT OFF

#include "forms.h"
#include "scalar_exponential.h"

static float error_function(float x) {
  float t = __builtin_fabsf(x), square = x * x;
  float far = fma_of(OT_ERF_FAR_7, t, OT_ERF_FAR_6);
  float u = fma_of(OT_ERF_FAR_5, t, OT_ERF_FAR_4);
  far = fma_of(far, square, u);
  far = fma_of(far, t, OT_ERF_FAR_3);
  far = fma_of(far, t, OT_ERF_FAR_2);
  far = fma_of(far, t, OT_ERF_FAR_1);
  far = fma_of(far, t, -t);
  far = __builtin_copysignf(1.0f - decay(far), x);
  float near = OT_ERF_NEAR_11;
  near = fma_of(near, square, OT_ERF_NEAR_9);
  near = fma_of(near, square, OT_ERF_NEAR_7);
  near = fma_of(near, square, OT_ERF_NEAR_5);
  near = fma_of(near, square, OT_ERF_NEAR_3);
  near = fma_of(near, square, OT_ERF_NEAR_1);
  near = fma_of(near, x, x);
  return t > OT_ERF_BOUND ? far : near;
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
