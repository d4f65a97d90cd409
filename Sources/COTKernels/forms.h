// The forms that dispatch.c chooses from.
#ifndef OT_FORMS_H
#define OT_FORMS_H

#include "COTKernels.h"

/// The products of a form.
#define OT_PRODUCTS(form)                                           \
  void ot_product8_##form(const struct ot_product *product);         \
  void ot_product6_##form(const struct ot_product *product);         \
  void ot_product4_##form(const struct ot_product *product);         \
  void ot_grouped_product8_##form(const struct ot_product *product); \
  void ot_grouped_product6_##form(const struct ot_product *product); \
  void ot_grouped_product4_##form(const struct ot_product *product);

extern const struct ot_kernels ot_kernels_scalar;
OT_PRODUCTS(scalar)

// A model's float kernels in scalar form.
void ot_activate_scalar(enum ot_activation kind, const float *x, size_t count, float *y);
void ot_add_scalar(const float *x, const float *y, size_t count, float *z);
void ot_multiply_scalar(const float *x, const float *y, size_t count, float *z);
void ot_affine_scalar(
    const float *x, const float *shift, const float *scale, size_t count, float *y);
void ot_hadamard_scalar(const float *x, size_t count, size_t block_size, float *y);
void ot_layer_norm_scalar(
    const float *x, size_t count, float epsilon, const float *gamma, const float *beta, float *y);
void ot_rms_norm_scalar(
    const float *x, size_t count, float epsilon, const float *gamma, const float *beta, float *y);
struct ot_code_row ot_quantize_static_scalar(
    const float *x, size_t count, int low, int high, int8_t *q);
struct ot_code_row ot_quantize_dynamic_scalar(
    const float *x, size_t count, int low, int high, int8_t *q);
struct ot_offset_row ot_quantize_asymmetric_scalar(
    const float *x, size_t count, int low, int high, int8_t *q);
void ot_quantize_groups_scalar(
    const float *x, size_t count, size_t group_size, int low, int high, int8_t *q,
    struct ot_code_row *groups);
float ot_split_digits_scalar(
    const float *x, size_t count, int8_t *q, size_t stride, int32_t *sums);
void ot_epilogue_scalar(const struct ot_epilogue *epilogue);
void ot_rotate_scalar(
    float *x, size_t head_count, size_t head_size, const float *cosines, const float *sines,
    size_t half);
void ot_store_keys_scalar(
    const float *k, size_t k_stride, size_t count, size_t head_size, size_t first_position,
    float *cache);
void ot_attention_scalar(const struct ot_attention *attention);
void ot_store_key_codes_scalar(
    const int8_t *k, size_t k_stride, size_t count, size_t head_size, size_t first_position,
    uint8_t *cache);
void ot_store_value_codes_scalar(
    const int8_t *v, size_t v_stride, size_t count, size_t head_size, size_t first_position,
    int8_t *cache);
void ot_code_attention_scalar(const struct ot_code_attention *attention);

#if defined(__x86_64__)
extern const struct ot_kernels ot_kernels_avx2;
OT_PRODUCTS(avx2)

extern const struct ot_kernels ot_kernels_avxvnni;
OT_PRODUCTS(avxvnni)

extern const struct ot_kernels ot_kernels_avx512vnni;
OT_PRODUCTS(avx512vnni)

extern const struct ot_kernels ot_kernels_amx;
OT_PRODUCTS(amx)
#elif defined(__aarch64__)
extern const struct ot_kernels ot_kernels_neon;
/// True when the processor multiplies unsigned by signed bytes.
int ot_has_i8mm(void);
OT_PRODUCTS(neon)
OT_PRODUCTS(neon_dotprod)
OT_PRODUCTS(neon_i8mm)
#endif

#endif
