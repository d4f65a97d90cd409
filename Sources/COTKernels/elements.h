// A model's operations on single elements and rows, over 16 lanes: step by step
// what scalar_elements.c does.

#include <float.h>

OT_KERNEL void add(const float *x, const float *y, size_t count, float *z) {
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 a = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                        \
    f32x16 value = a + OT_LOAD_N(f32x16, y + (k), n, (f32x16){0});                \
    OT_STORE_N(z + (k), value, n);                                                \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL void multiply(const float *x, const float *y, size_t count, float *z) {
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 a = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                        \
    f32x16 value = a * OT_LOAD_N(f32x16, y + (k), n, (f32x16){0});                \
    OT_STORE_N(z + (k), value, n);                                                \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL void affine(
    const float *x, const float *shift, const float *scale, size_t count, float *y) {
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                    \
    if (shift) value = value - OT_LOAD_N(f32x16, shift + (k), n, (f32x16){0});    \
    if (scale) value = value / OT_LOAD_N(f32x16, scale + (k), n, splat(1));       \
    OT_STORE_N(y + (k), value, n);                                                \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

// MARK: Norms

/// Mean of (x - center)^power, power 1 or 2. Lanes beyond the end add nothing.
OT_INLINE double mean(const float *x, size_t count, double center, int power) {
  f64x16 lanes = {0};
  size_t k = 0;
  for (; k + lane_count <= count; k += lane_count) {
    f64x16 term = __builtin_convertvector(OT_LOAD(f32x16, x + k), f64x16) - center;
    if (power == 2) term = term * term;
    lanes = lanes + term;
  }
  for (size_t lane = 0; k + lane < count; lane++) {
    double term = (double)x[k + lane] - center;
    if (power == 2) term = term * term;
    lanes[lane] = lanes[lane] + term;
  }
  OT_REDUCE(lanes, a + b)
  return lanes[0] / (double)count;
}

OT_INLINE void normalize(
    const float *x, size_t count, float center, double mean_square, float epsilon,
    const float *gamma, const float *beta, float *y) {
  f32x16 factor = splat((float)(1 / __builtin_sqrt(mean_square + (double)epsilon)));
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                    \
    value = (value - splat(center)) * factor;                                     \
    if (gamma) value = value * OT_LOAD_N(f32x16, gamma + (k), n, (f32x16){0});    \
    if (beta) value = value + OT_LOAD_N(f32x16, beta + (k), n, (f32x16){0});      \
    OT_STORE_N(y + (k), value, n);                                                \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL void layer_norm(
    const float *x, size_t count, float epsilon, const float *gamma, const float *beta, float *y) {
  double center = mean(x, count, 0, 1);
  double variance = mean(x, count, center, 2);
  normalize(x, count, (float)center, variance, epsilon, gamma, beta, y);
}

OT_KERNEL void rms_norm(
    const float *x, size_t count, float epsilon, const float *gamma, const float *beta, float *y) {
  normalize(x, count, 0, mean(x, count, 0, 2), epsilon, gamma, beta, y);
}

// MARK: Codes

OT_INLINE struct ot_code_row quantize(
    const float *x, size_t count, float scale, int zero, int low, int high, int8_t *q) {
  f32x16 step = splat(scale), lowest = splat((float)low), highest = splat((float)high);
  f32x16 offset = splat((float)zero);
  i32x16 sums = {0};
  size_t k = 0;
  // Lanes beyond the end could become `low`: the last step leaves them out of the sum.
#define CODES(n)                                                                  \
  f32x16 value = OT_LOAD_N(f32x16, x + k, n, (f32x16){0});                        \
  f32x16 code = __builtin_elementwise_roundeven(value / step);                    \
  if (zero) code = code + offset;                                                 \
  code = lesser(greater(code, lowest), highest);                                  \
  i32x16 wide = __builtin_convertvector(code, i32x16);                            \
  i8x16 bytes = __builtin_convertvector(wide, i8x16);                             \
  OT_STORE_N(q + k, bytes, n);
  for (; k + lane_count <= count; k += lane_count) {
    CODES((size_t)lane_count)
    sums += wide;
  }
  if (k < count) {
    size_t rest = count - k;
    CODES(rest)
    for (size_t lane = 0; lane < rest; lane++) sums[lane] += bytes[lane];
  }
#undef CODES
  OT_REDUCE(sums, a + b)
  return (struct ot_code_row){scale, sums[0]};
}

/// The scale that takes the largest magnitude to `high`.
OT_INLINE float scale_of_row(const float *x, size_t count, float high) {
  float largest = absolute_maximum(x, count);
  if (!(largest <= FLT_MAX)) return __builtin_nanf("");
  if (largest == 0) return 1;
  float scale = largest / high;
  return scale < FLT_MIN ? FLT_MIN : scale;
}

OT_KERNEL struct ot_code_row quantize_static(
    const float *x, size_t count, int low, int high, int8_t *q) {
  return quantize(x, count, 1, 0, low, high, q);
}

OT_KERNEL struct ot_code_row quantize_dynamic(
    const float *x, size_t count, int low, int high, int8_t *q) {
  float scale = scale_of_row(x, count, (float)high);
  if (scale == scale) return quantize(x, count, scale, 0, low, high, q);
  __builtin_memset(q, 0, count);
  return (struct ot_code_row){scale, 0};
}

OT_KERNEL struct ot_offset_row quantize_asymmetric(
    const float *x, size_t count, int low, int high, int8_t *q) {
  struct ot_offset_row row = {scale_of_row(x, count, 1), 0, 0};
  if (row.scale != row.scale) {
    __builtin_memset(q, 0, count);
    return row;
  }
  f32x16 minima = {0}, maxima = {0};
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                    \
    minima = lesser(value, minima);                                               \
    maxima = greater(value, maxima);                                              \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
  OT_REDUCE(minima, a < b ? a : b)
  OT_REDUCE(maxima, a > b ? a : b)
  float minimum = minima[0], maximum = maxima[0], steps = (float)(high - low);
  row.scale = maximum / steps - minimum / steps;
  if (minimum == maximum) row.scale = 1;
  if (row.scale < FLT_MIN) row.scale = FLT_MIN;
  float zero = __builtin_roundevenf((float)low - minimum / row.scale);
  row.zero = zero < (float)high ? (int32_t)zero : high;
  row.sum = quantize(x, count, row.scale, row.zero, low, high, q).sum;
  return row;
}

OT_KERNEL void quantize_groups(
    const float *x, size_t count, size_t group_size, int low, int high, int8_t *q,
    struct ot_code_row *groups) {
  for (size_t k = 0; k < count; k += group_size, groups++) {
    size_t left = count - k;
    *groups = quantize_dynamic(x + k, left < group_size ? left : group_size, low, high, q + k);
  }
}

OT_KERNEL float split_digits(
    const float *x, size_t count, int8_t *q, size_t stride, int32_t *sums) {
  float scale = scale_of_row(x, count, 8355711);
  i32x16 lanes[3] = {{0}};
  int is_finite = scale == scale;
  double factor = 1 / (double)scale;
// A byte holds the lowest digit; what is left of it is divisible by 256.
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                    \
    f64x16 scaled = __builtin_convertvector(value, f64x16) * factor;              \
    f64x16 integer = scaled + 0x1.8p52 - 0x1.8p52;                                \
    i32x16 rest = __builtin_convertvector(integer, i32x16);                       \
    for (int digit = 2; digit >= 0; digit--) {                                    \
      i8x16 code = __builtin_convertvector(rest, i8x16);                          \
      OT_STORE_N(q + (size_t)digit * stride + (k), code, n);                      \
      i32x16 wide = __builtin_convertvector(code, i32x16);                        \
      lanes[digit] += wide;                                                       \
      rest = (rest - wide) >> 8;                                                  \
    }                                                                             \
  }
  if (is_finite) {
    OT_EACH_STEP(count, STEP)
  } else {
    for (size_t digit = 0; digit < 3; digit++) __builtin_memset(q + digit * stride, 0, count);
  }
#undef STEP
  for (int digit = 0; digit < 3; digit++) {
    OT_REDUCE(lanes[digit], a + b)
    sums[digit] = lanes[digit][0];
  }
  return scale;
}

// MARK: Epilogue

#define OT_LOAD_SUMS(row, k, n)                                                   \
  (OT_LOAD_N(u32x16, e->p + (row) * e->p_stride + (k), n, (u32x16){0}) -          \
   OT_LOAD_N(u32x16, e->zero_point + (k), n, (u32x16){0}) * (uint32_t)e->sums[row])

enum sums { sums_of_rows, sums_of_offset_rows, sums_of_digits, sums_of_groups };

// `kind` is a constant where this is inlined.
OT_INLINE void finish_row(const struct ot_epilogue *e, size_t t, enum sums kind) {
  float *y = e->y + t * e->y_stride;
  int accumulates = e->accumulate;
  const float *bias = e->is_last ? e->bias : NULL, *scale = e->scale;
  const float *token_scale = e->is_last && e->token_scale ? &e->token_scale[t] : NULL;
  f32x16 factor = splat(token_scale ? *token_scale : 1);
  double token_zero = kind == sums_of_offset_rows ? e->token_zero[t] : 0;
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 sum;                                                                   \
    if (kind == sums_of_digits) {                                                 \
      i32x16 e0 = (i32x16)OT_LOAD_SUMS(3 * t, k, n);                              \
      i32x16 e1 = (i32x16)OT_LOAD_SUMS(3 * t + 1, k, n);                          \
      i32x16 e2 = (i32x16)OT_LOAD_SUMS(3 * t + 2, k, n);                          \
      f64x16 high = __builtin_convertvector(e0, f64x16) * 65536.0;                \
      f64x16 middle = __builtin_convertvector(e1, f64x16) * 256.0;                \
      /* Below 2^49: exact. */                                                    \
      f64x16 whole = high + middle + __builtin_convertvector(e2, f64x16);         \
      sum = __builtin_convertvector(whole, f32x16);                               \
    } else if (kind == sums_of_groups) {                                          \
      sum = OT_LOAD_N(f32x16, e->parts + t * e->p_stride + (k), n, (f32x16){0});  \
    } else if (kind == sums_of_offset_rows) {                                     \
      i32x16 weights = OT_LOAD_N(i32x16, e->weight_sum + (k), n, (i32x16){0});    \
      f64x16 offset = __builtin_convertvector(weights, f64x16) * token_zero;      \
      /* Below 2^33: exact. */                                                    \
      f64x16 whole =                                                              \
          __builtin_convertvector((i32x16)OT_LOAD_SUMS(t, k, n), f64x16) - offset; \
      sum = __builtin_convertvector(whole, f32x16);                               \
    } else {                                                                      \
      sum = __builtin_convertvector((i32x16)OT_LOAD_SUMS(t, k, n), f32x16);       \
    }                                                                             \
    f32x16 value = OT_LOAD_N(f32x16, scale + (k), n, (f32x16){0}) * sum;          \
    if (accumulates) value = OT_LOAD_N(f32x16, y + (k), n, (f32x16){0}) + value;  \
    if (token_scale) value = value * factor;                                      \
    if (bias) value = value + OT_LOAD_N(f32x16, bias + (k), n, (f32x16){0});      \
    OT_STORE_N(y + (k), value, n);                                                \
  }
  OT_EACH_STEP(e->count, STEP)
#undef STEP
}

OT_KERNEL void epilogue(const struct ot_epilogue *e) {
  if (e->parts) {
    for (size_t t = 0; t < e->row_count; t++) finish_row(e, t, sums_of_groups);
  } else if (e->is_split) {
    for (size_t t = 0; t < e->row_count; t++) finish_row(e, t, sums_of_digits);
  } else if (e->token_zero) {
    for (size_t t = 0; t < e->row_count; t++) finish_row(e, t, sums_of_offset_rows);
  } else {
    for (size_t t = 0; t < e->row_count; t++) finish_row(e, t, sums_of_rows);
  }
}
