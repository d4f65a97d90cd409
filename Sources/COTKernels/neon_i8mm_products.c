// The integer products for NEON with i8mm, whose usdot multiplies unsigned by
// signed bytes.
#if defined(__aarch64__)

#include <arm_neon.h>

#define OT_INLINE static inline __attribute__((always_inline, target("i8mm,dotprod")))
#define OT_FUNCTION __attribute__((target("i8mm,dotprod")))
#define OT_FORM(name) name##_neon_i8mm
#define dot(sum, u, x, lane) vusdotq_laneq_s32(sum, u, x, lane)
#define prepared(u, bits) (u)
#define correct(sums, x, column_count, bits) ((void)(bits))

#include "neon_products.h"

#endif
