#ifndef C_OT_KERNELS_H
#define C_OT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "ot_attention.h"

// Kernels in one form per instruction set. Every form gives the same result as
// the scalar one, bit for bit, floats included:
// - Arithmetic is IEEE float32 with one rounding per operation, to nearest,
//   ties to even; multiply and add are fused (one rounding) only in the
//   exponential, error function and tangent of the activations, in
//   `attention` and in sums over groups, and there in every form.
// - A sum over a row uses 16 lanes: lane j takes elements j, j+16, ...; the
//   elements of an incomplete last step go to lanes 0, 1, ... The lanes are then
//   added in a fixed tree: lane i and i+8, then i+4, i+2, i+1.
// - Only which NaN arithmetic gives is left open, as IEEE 754 leaves it.
// Pointers need no alignment beyond that of their element type, and those named
// `source` or `target` none at all. Counts are in elements.

/// Extremes of a row.
struct ot_range {
  /// Smallest and largest element, NaN left out, a zero always positive.
  /// 0 and 0 for no elements, +infinity and -infinity when all are NaN.
  float minimum, maximum;
  /// Index of the first NaN or infinity; -1 when there is none.
  ptrdiff_t first_nonfinite;
};

/// The error of quantizing; a kernel adds to the sums and raises the maximum.
struct ot_error {
  /// Sum of (x - x^)^2 and of x^2. x - x^ is a float32; the square is exact in
  /// float64, and the 16 lanes of one call are float64.
  double squared_error, squares;
  /// Largest |x - x^|.
  float maximum;
};

/// The meaning of a row of quantized activations, or of a group of a row:
/// x = scale * q. `sum` is that of the codes.
struct ot_code_row {
  float scale;
  int32_t sum;
};

/// The meaning of a row whose codes are not symmetric around 0: x = scale * (q - zero).
/// `sum` is that of the codes.
struct ot_offset_row {
  float scale;
  int32_t sum, zero;
};

/// One integer matrix product: y[m][n] = sum over k of u[n][k] * x[m][k], int32.
///
/// Sums wrap around at 32 bits, which at most 65,536 columns cannot reach.
///
/// With groups of columns that have an activation scale each, the result is float:
///   e[g] = sum over the k of g of u[n][k] * x[m][k], less zero_point[n] * groups[m][g].sum;
///   y[m][n] = the sum of groups[m][g].scale * (float)e[g] from the first group on,
///     multiply and add fused.
/// Then a group has 32, 64, 128 or 256 columns, so that e[g] is exact as a float. Codes x
/// are -127 ... 127; or, where groups have codes of 0, any, and e[g] is less
/// group_zeros[m][g] * weight_sums[n][g], the sum over the k of g of u[n][k] - zero_point[n].
struct ot_product {
  /// The first row tile of weight codes (Swift's `TileLayout`), packed, and the
  /// bytes from one row tile to the next. Offset 0 is column 0.
  const uint8_t *_Nonnull tiles;
  size_t tile_byte_count, tile_count;
  /// The columns to sum over: multiples of 16.
  size_t first_column, column_count;
  /// Rows of activation codes; element 0 of a row is column 0.
  const int8_t *_Nonnull x;
  size_t x_stride, x_count;
  /// Results [x_count][16 * tile_count], int32_t or float, `y_stride` from row to row.
  void *_Nonnull y;
  size_t y_stride;
  /// OT_PRODUCT_SCRATCH bytes for unpacked codes, best at a multiple of 64.
  uint8_t *_Nonnull scratch;

  // For groups alone; `first_column` is a multiple of `group_size`.
  size_t group_size;
  /// The groups of each row of x; group 0 has column 0.
  const struct ot_code_row *_Nullable groups;
  size_t group_stride;
  /// [16 * tile_count], 0 ... 255.
  const int32_t *_Nullable zero_point;
  /// Codes of 0, `group_stride` a row as `groups`; none: all are 0.
  const int32_t *_Nullable group_zeros;
  /// With them, [tile_count][group_stride][16].
  const int32_t *_Nullable weight_sums;
};

enum {
  /// Bytes of unpacked codes that a product works on at a time: with some
  /// activations they fit a first-level cache of 48 KiB.
  OT_PANEL_BYTE_COUNT = 32768,
  /// Bytes of an `ot_product`'s scratch.
  OT_PRODUCT_SCRATCH = OT_PANEL_BYTE_COUNT,
};

/// Functions of single elements. GELU has erf (`OT_GELU`) or its approximation
/// by tanh (`OT_GELU_TANH`); SiLU is x / (1 + exp(-x)).
enum ot_activation { OT_RELU, OT_GELU, OT_GELU_TANH, OT_SILU, OT_TANH };

/// From integer products to floats. For each token t and output channel n:
///   e = p[t][n] - zero_point[n] * sums[t], wrapping at 32 bits;
///   where tokens have codes of 0: e - weight_sum[n] * token_zero[t], exact;
///   of digits: e0, e1, e2 so from rows 3t, 3t+1, 3t+2 of p and sums, and
///     e = 65536 e0 + 256 e1 + e2, exact;
///   of groups: e = parts[t][n], a product of groups, which p, sums and zero_point are
///     not read for;
///   v = scale[n] * (float)e;
///   y = v, or y + v to accumulate;
///   if this is the last part of the sum: y * token_scale[t], then + bias[n].
struct ot_epilogue {
  const int32_t *_Nullable p;
  const float *_Nullable parts;
  /// Elements from row to row of `p` or `parts`.
  size_t p_stride;
  const int32_t *_Nullable sums;
  const float *_Nonnull scale;
  const int32_t *_Nullable zero_point;
  const float *_Nullable token_scale;
  /// For p of tokens alone, not digits, and with `weight_sum`: the sum of each channel's
  /// codes less its zero point.
  const int32_t *_Nullable token_zero;
  const int32_t *_Nullable weight_sum;
  const float *_Nullable bias;
  /// Tokens and channels.
  size_t row_count, count;
  int is_split, accumulate, is_last;
  float *_Nonnull y;
  size_t y_stride;
};

/// One instruction set's kernels.
struct ot_kernels {
  const char *_Nonnull name;

  // Little-endian elements of a tensor to float32. A signalling NaN of F16 or
  // F64 becomes quiet; BF16 keeps its bits.
  void (*_Nonnull f32_from_f16)(const void *_Nonnull source, float *_Nonnull y, size_t count);
  void (*_Nonnull f32_from_bf16)(const void *_Nonnull source, float *_Nonnull y, size_t count);
  void (*_Nonnull f32_from_f64)(const void *_Nonnull source, float *_Nonnull y, size_t count);
  // To nearest, ties to even; beyond the range infinity; NaN quiet, its leading
  // bits kept.
  void (*_Nonnull f16_from_f32)(const float *_Nonnull x, void *_Nonnull target, size_t count);
  void (*_Nonnull bf16_from_f32)(const float *_Nonnull x, void *_Nonnull target, size_t count);

  /// x[k] = (x[k] * column_scale[k]) / row_scale, either step left out for null.
  void (*_Nonnull transform_row)(
      float *_Nonnull x, const float *_Nullable column_scale, const float *_Nullable row_scale,
      size_t count);
  /// Sum of x[k] * y[k] in 16 float32 lanes.
  float (*_Nonnull dot)(const float *_Nonnull x, const float *_Nonnull y, size_t count);
  struct ot_range (*_Nonnull range)(const float *_Nonnull x, size_t count);

  /// u[k] = clamp(round(x[k] / scale) + zero_point, low, high), ties to even.
  /// NaN becomes `low`. Needs 0 <= low <= zero_point <= high <= 255.
  void (*_Nonnull quantize_row)(
      const float *_Nonnull x, size_t count, float scale, int zero_point, int low, int high,
      uint8_t *_Nonnull u, struct ot_error *_Nonnull error);
  /// x[k] = scale * (u[k] - zero_point).
  void (*_Nonnull dequantize_row)(
      const uint8_t *_Nonnull u, size_t count, float scale, int zero_point, float *_Nonnull x);

  /// 16 rows of codes, `stride` bytes apart, to one row tile and back.
  /// `column_count` is a multiple of 64.
  void (*_Nonnull interleave)(
      const uint8_t *_Nonnull rows, size_t stride, size_t column_count, uint8_t *_Nonnull tile);
  void (*_Nonnull deinterleave)(
      const uint8_t *_Nonnull tile, size_t column_count, uint8_t *_Nonnull rows, size_t stride);
  // `count` codes, one to a byte, from and to their packed form; a multiple of 256.
  void (*_Nonnull pack6)(const uint8_t *_Nonnull codes, size_t count, uint8_t *_Nonnull packed);
  void (*_Nonnull unpack6)(const uint8_t *_Nonnull packed, size_t count, uint8_t *_Nonnull codes);
  void (*_Nonnull pack4)(const uint8_t *_Nonnull codes, size_t count, uint8_t *_Nonnull packed);
  void (*_Nonnull unpack4)(const uint8_t *_Nonnull packed, size_t count, uint8_t *_Nonnull codes);
  /// Index of the first code outside low ... high; -1 when there is none.
  ptrdiff_t (*_Nonnull first_outside)(
      const uint8_t *_Nonnull codes, size_t count, uint8_t low, uint8_t high);

  /// Sum of the codes.
  int32_t (*_Nonnull sum)(const int8_t *_Nonnull q, size_t count);

  // Products of weight codes packed into 8, 6 and 4 bits.
  void (*_Nonnull product8)(const struct ot_product *_Nonnull product);
  void (*_Nonnull product6)(const struct ot_product *_Nonnull product);
  void (*_Nonnull product4)(const struct ot_product *_Nonnull product);
  // The same of groups.
  void (*_Nonnull grouped_product8)(const struct ot_product *_Nonnull product);
  void (*_Nonnull grouped_product6)(const struct ot_product *_Nonnull product);
  void (*_Nonnull grouped_product4)(const struct ot_product *_Nonnull product);

  // Rows of a model's values. The result may be one of the sources.
  /// y[k] = f(x[k]), within a few ulp of 1 or of the result, whichever is larger.
  void (*_Nonnull activate)(
      enum ot_activation kind, const float *_Nonnull x, size_t count, float *_Nonnull y);
  void (*_Nonnull add)(
      const float *_Nonnull x, const float *_Nonnull y, size_t count, float *_Nonnull z);
  void (*_Nonnull multiply)(
      const float *_Nonnull x, const float *_Nonnull y, size_t count, float *_Nonnull z);
  /// y[k] = (x[k] - shift[k]) / scale[k], either step left out for null.
  void (*_Nonnull affine)(
      const float *_Nonnull x, const float *_Nullable shift, const float *_Nullable scale,
      size_t count, float *_Nonnull y);
  // y[k] = (x[k] - center) * factor * gamma[k] + beta[k], null steps left out.
  // Mean and mean square are float64, in 16 lanes; center and factor float32.
  /// center is the mean, factor = 1 / sqrt(variance + epsilon).
  void (*_Nonnull layer_norm)(
      const float *_Nonnull x, size_t count, float epsilon, const float *_Nullable gamma,
      const float *_Nullable beta, float *_Nonnull y);
  /// center is 0, factor = 1 / sqrt(mean of squares + epsilon).
  void (*_Nonnull rms_norm)(
      const float *_Nonnull x, size_t count, float epsilon, const float *_Nullable gamma,
      const float *_Nullable beta, float *_Nonnull y);

  // Rows of a model's values as codes.
  /// q[k] = clamp(round(x[k]), low, high), scale 1; NaN becomes `low`.
  struct ot_code_row (*_Nonnull quantize_static)(
      const float *_Nonnull x, size_t count, int low, int high, int8_t *_Nonnull q);
  /// q[k] = clamp(round(x[k] / scale), low, high) with scale = max|x| / high: 1
  /// for a row of zeros, none below 2^-126. Infinity or NaN anywhere: codes 0 and
  /// scale NaN.
  struct ot_code_row (*_Nonnull quantize_dynamic)(
      const float *_Nonnull x, size_t count, int low, int high, int8_t *_Nonnull q);
  /// q[k] = clamp(round(x[k] / scale) + zero, low, high), from the row's minimum and
  /// maximum, 0 among them: scale = maximum / steps - minimum / steps, steps = high - low,
  /// 1 for a row of zeros, none below 2^-126; zero = clamp(round(low - minimum / scale),
  /// low, high). Infinity or NaN anywhere: codes 0, zero 0 and scale NaN.
  struct ot_offset_row (*_Nonnull quantize_asymmetric)(
      const float *_Nonnull x, size_t count, int low, int high, int8_t *_Nonnull q);
  /// `quantize_dynamic` of each `group_size` columns; the last may be fewer.
  void (*_Nonnull quantize_groups)(
      const float *_Nonnull x, size_t count, size_t group_size, int low, int high,
      int8_t *_Nonnull q, struct ot_code_row *_Nonnull groups);
  /// x[k] = scale * (65536 q[k] + 256 q[stride + k] + q[2 stride + k]) to within
  /// scale / 2, scale = max|x| / 8355711 or as for `quantize_dynamic`, returned.
  /// `sums` has one sum per digit.
  float (*_Nonnull split_digits)(
      const float *_Nonnull x, size_t count, int8_t *_Nonnull q, size_t stride,
      int32_t *_Nonnull sums);
  void (*_Nonnull epilogue)(const struct ot_epilogue *_Nonnull epilogue);

  /// Each block of `block_size` (a power of 2 from 16, which divides `count`) times
  /// H / sqrt(block_size), H[i][j] = (-1)^popcount(i & j): stages of additions from
  /// near to far partners, then one product. `y` may be `x`.
  void (*_Nonnull hadamard)(
      const float *_Nonnull x, size_t count, size_t block_size, float *_Nonnull y);
  /// Channels i and i + half (i < half) of each of `head_count` heads in x:
  /// a' = a * cos[i] - b * sin[i], b' = b * cos[i] + a * sin[i].
  void (*_Nonnull rotate)(
      float *_Nonnull x, size_t head_count, size_t head_size, const float *_Nonnull cosines,
      const float *_Nonnull sines, size_t half);
  /// Puts `count` keys of one head into a cache that is transposed in blocks of
  /// 16 positions: channel c of position p is element
  /// (p / 16 * head_size + c) * 16 + p % 16.
  void (*_Nonnull store_keys)(
      const float *_Nonnull k, size_t k_stride, size_t count, size_t head_size,
      size_t first_position, float *_Nonnull cache);
  void (*_Nonnull attention)(const struct ot_attention *_Nonnull attention);

  // `count` keys and values of one head as codes, -127 ... 127, into a cache.
  /// Code of channel c of position p plus 128 becomes byte
  /// ((p / 16 * ceil(head_size / 4) + c / 4) * 16 + p % 16) * 4 + c % 4.
  void (*_Nonnull store_key_codes)(
      const int8_t *_Nonnull k, size_t k_stride, size_t count, size_t head_size,
      size_t first_position, uint8_t *_Nonnull cache);
  /// Code of channel c of position p becomes byte
  /// (p / 4 * 16 * ceil(head_size / 16) + c) * 4 + p % 4.
  void (*_Nonnull store_value_codes)(
      const int8_t *_Nonnull v, size_t v_stride, size_t count, size_t head_size,
      size_t first_position, int8_t *_Nonnull cache);
  void (*_Nonnull code_attention)(const struct ot_code_attention *_Nonnull attention);
};

/// The kernels named `name`: null when the name is unknown or, with `*known` set
/// to 1, when this processor or system lacks the instructions.
const struct ot_kernels *_Nullable ot_kernels_named(const char *_Nonnull name, int *_Nonnull known);

/// The fastest kernels that run here.
const struct ot_kernels *_Nonnull ot_kernels_best(void);

// Peaks of the machine, to compare with. The first two run `count`
// steps that touch registers only, and return the operations of a step, a multiply
// and an add being two: 0 where there is nothing to run.

/// Float32 multiply-adds.
size_t ot_peak_float32(size_t count);

/// Products of codes with the instructions of the kernels named `name`.
size_t ot_peak_codes(const char *_Nonnull name, size_t count);

/// Reads memory once, in order; returns something that depends on all of it.
/// `byte_count` is a multiple of 256.
uint64_t ot_read(const void *_Nonnull source, size_t byte_count);

/// True when float arithmetic of this thread rounds to nearest and keeps
/// subnormals: a library built with -ffast-math can have changed that.
int ot_float_environment_is_standard(void);

#endif
