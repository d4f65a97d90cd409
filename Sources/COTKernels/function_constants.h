// The constants of the functions in scalar_functions.c and functions.h, which
// thereby agree.
#ifndef OT_FUNCTION_CONSTANTS_H
#define OT_FUNCTION_CONSTANTS_H

// exp: e^r = 1 + r + r^2 p(r) for |r| <= ln(2) / 2 (Cephes, expf). Beyond the
// bounds the result is 0 or infinity.
#define OT_EXP_LOWEST (-104.0f)
#define OT_EXP_HIGHEST 89.0f
#define OT_LOG2_E 0x1.715476p+0f
#define OT_ROUNDER 0x1.8p+23f
#define OT_LN2_HIGH 0x1.62e430p-1f
#define OT_LN2_LOW (-0x1.05c610p-29f)
#define OT_EXP_2 5.0000001201e-1f
#define OT_EXP_3 1.6666665459e-1f
#define OT_EXP_4 4.1665795894e-2f
#define OT_EXP_5 8.3334519073e-3f
#define OT_EXP_6 1.3981999507e-3f
#define OT_EXP_7 1.9875691500e-4f

// For negative arguments only: below this bound the result is 0 instead of a
// subnormal. It is just above -126 ln(2).
#define OT_DECAY_LOWEST (-87.33f)

// 2^x = 2^n 2^r, for x <= 0, |r| <= 1/2: 2^r = 1 + r p(r) with the largest relative
// error as small as can be. Below the bound the result is that of the bound,
// which nothing that counts depends on.
#define OT_EXP2_LOWEST (-125.0f)
#define OT_EXP2_1 0x1.62e42ap-1f
#define OT_EXP2_2 0x1.ebf9bcp-3f
#define OT_EXP2_3 0x1.c6b752p-5f
#define OT_EXP2_4 0x1.3cea88p-7f
#define OT_EXP2_5 0x1.5bba14p-10f

// erf: x + x p(x^2) up to the bound, 1 - e^(p(|x|)) beyond.
#define OT_ERF_BOUND 0.927734375f
#define OT_ERF_FAR_7 (-1.72853470e-5f)
#define OT_ERF_FAR_6 3.83197126e-4f
#define OT_ERF_FAR_5 (-3.88396438e-3f)
#define OT_ERF_FAR_4 2.42546219e-2f
#define OT_ERF_FAR_3 (-1.06777877e-1f)
#define OT_ERF_FAR_2 (-6.34846687e-1f)
#define OT_ERF_FAR_1 (-1.28717512e-1f)
#define OT_ERF_NEAR_11 (-5.96761703e-4f)
#define OT_ERF_NEAR_9 4.99119423e-3f
#define OT_ERF_NEAR_7 (-2.67681349e-2f)
#define OT_ERF_NEAR_5 1.12819925e-1f
#define OT_ERF_NEAR_3 (-3.76125336e-1f)
#define OT_ERF_NEAR_1 1.28379166e-1f

// tanh: x + x^3 p(x^2) up to the bound (Cephes, tanhf), 1 - 2e / (1 + e)
// with e = e^(-2|x|) beyond.
#define OT_TANH_BOUND 0.625f
#define OT_TANH_3 (-3.33332819422e-1f)
#define OT_TANH_5 1.33314422036e-1f
#define OT_TANH_7 (-5.37397155531e-2f)
#define OT_TANH_9 2.06390887954e-2f
#define OT_TANH_11 (-5.70498872745e-3f)

#define OT_SQRT_HALF 0x1.6a09e6p-1f
#define OT_GELU_CUBIC 0.044715f
#define OT_GELU_FACTOR 0.7978845608f

#endif
