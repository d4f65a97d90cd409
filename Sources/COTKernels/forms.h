// The forms that dispatch.c chooses from.
#ifndef OT_FORMS_H
#define OT_FORMS_H

#include "COTKernels.h"

extern const struct ot_kernels ot_kernels_scalar;
void ot_product8_scalar(const struct ot_product *product);
void ot_product6_scalar(const struct ot_product *product);
void ot_product4_scalar(const struct ot_product *product);

#if defined(__x86_64__)
extern const struct ot_kernels ot_kernels_avx2;
void ot_product8_avx2(const struct ot_product *product);
void ot_product6_avx2(const struct ot_product *product);
void ot_product4_avx2(const struct ot_product *product);

extern const struct ot_kernels ot_kernels_avxvnni;
void ot_product8_avxvnni(const struct ot_product *product);
void ot_product6_avxvnni(const struct ot_product *product);
void ot_product4_avxvnni(const struct ot_product *product);

extern const struct ot_kernels ot_kernels_avx512vnni;
void ot_product8_avx512vnni(const struct ot_product *product);
void ot_product6_avx512vnni(const struct ot_product *product);
void ot_product4_avx512vnni(const struct ot_product *product);

extern const struct ot_kernels ot_kernels_amx;
void ot_product8_amx(const struct ot_product *product);
void ot_product6_amx(const struct ot_product *product);
void ot_product4_amx(const struct ot_product *product);
#elif defined(__aarch64__)
extern const struct ot_kernels ot_kernels_neon;
/// Whether the processor multiplies unsigned by signed bytes.
int ot_has_i8mm(void);
void ot_product8_neon(const struct ot_product *product);
void ot_product6_neon(const struct ot_product *product);
void ot_product4_neon(const struct ot_product *product);
void ot_product8_neon_dotprod(const struct ot_product *product);
void ot_product6_neon_dotprod(const struct ot_product *product);
void ot_product4_neon_dotprod(const struct ot_product *product);
void ot_product8_neon_i8mm(const struct ot_product *product);
void ot_product6_neon_i8mm(const struct ot_product *product);
void ot_product4_neon_i8mm(const struct ot_product *product);
#endif

#endif
