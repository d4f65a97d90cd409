// The integer products for NEON with dotprod, whose sdot multiplies signed bytes
// only: codes of 8 bits are taken less 128, and 128 times the activations' sum is
// added in the end. All of it is exact modulo 2^32, and so is the result.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "forms.h"

#define OT_INLINE static inline __attribute__((always_inline, target("dotprod")))
#define OT_FUNCTION __attribute__((target("dotprod")))
#define OT_FORM(name) name##_neon_dotprod
#define dot(sum, u, x, lane) vdotq_laneq_s32(sum, vreinterpretq_s8_u8(u), x, lane)
#define prepared(u, bits) ((bits) == 8 ? veorq_u8(u, vdupq_n_u8(128)) : (u))
#define correct(sums, x, column_count, bits) \
  for (int j = 0; (bits) == 8 && j < 4; j++) sums[j] += lacking(x, column_count)

/// 128 times the sum of a row of activations, of which the columns are a multiple of 16.
OT_INLINE int32_t lacking(const int8_t *x, size_t column_count) {
  int32x4_t lanes = vdupq_n_s32(0);
  for (size_t k = 0; k < column_count; k += 16)
    lanes = vdotq_s32(lanes, vdupq_n_s8(1), vld1q_s8(x + k));
  return (int32_t)((uint32_t)vaddvq_s32(lanes) * 128);
}

#include "neon_products.h"

#define OT_PRODUCT(name)                                                            \
  void ot_##name##_neon(const struct ot_product *product) {                         \
    (ot_has_i8mm() ? ot_##name##_neon_i8mm : ot_##name##_neon_dotprod)(product);    \
  }
OT_PRODUCT(product8)
OT_PRODUCT(product6)
OT_PRODUCT(product4)
OT_PRODUCT(grouped_product8)
OT_PRODUCT(grouped_product6)
OT_PRODUCT(grouped_product4)

#endif
