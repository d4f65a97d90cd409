// The integer products for AMX. A tile of activations is 16 rows x 64 columns;
// 64 columns of a row tile, one code to a byte, are 1,024 consecutive bytes and
// as they lie the other operand of tdpbsud, which adds into 16 rows x 16 output
// channels of 32 bits without saturation.
#if defined(__x86_64__)

#include <immintrin.h>

#include "amx_tiles.h"
#include "forms.h"

#define OT_TARGET OT_TILES_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"
#define OT_FUNCTION __attribute__((target(OT_TARGET)))
#define OT_INLINE static inline __attribute__((always_inline, target(OT_TARGET)))

enum {
  /// Few rows would leave most of a tile empty: they are left to VNNI.
  most_vnni_row_count = 8,
  /// Columns that two row tiles' codes in the scratch have.
  panel_column_count = OT_PANEL_BYTE_COUNT / (2 * 16),
  /// Bytes of 64 columns of a row tile.
  step_byte_count = 1024,
};

_Static_assert(panel_column_count % 64 == 0, "panels are whole steps");

/// The shapes for sums of `rows[0]` and `rows[1]` activation rows by two tiles.
OT_INLINE void configure(const size_t rows[2]) {
  struct tile_shapes shapes = {.palette = 1};
  for (int i = 0; i < 8; i++) {
    shapes.row_byte_counts[i] = 64;
    // Tiles 0, 1 and 4 are of the first rows, 2, 3 and 5 of the second; a tile
    // of no rows is not valid, but is not used either.
    size_t row_count = i >= 6 ? 16 : i == 2 || i == 3 || i == 5 ? rows[1] : rows[0];
    shapes.row_counts[i] = (uint8_t)(row_count ? row_count : 1);
  }
  tiles_configure(&shapes);
}

/// One code to a byte of `column_count` columns, then zeros up to a multiple of
/// 64 columns.
static OT_FUNCTION void unpack(
    const uint8_t *packed, int bits, size_t column_count, uint8_t *u) {
  if (bits == 8) {
    memcpy(u, packed, column_count * 16);
  } else if (bits == 6) {
    ot_kernels_avx512vnni.unpack6(packed, column_count * 16, u);
  } else {
    // 16 columns are two blocks of the packed form.
    ot_kernels_avx512vnni.unpack4(packed, column_count * 16, u);
  }
  memset(u + column_count * 16, 0, -column_count % 64 * 16);
}

/// Codes of two row tiles, whole steps of 64 columns, and what they multiply.
struct panel {
  const uint8_t *u;
  size_t u_stride;
  const int8_t *x;
  size_t x_stride;
  size_t column_count;
  /// Integers, or floats of groups.
  uint8_t *y;
  size_t y_stride;
  int adds;
  /// Of groups, as in `ot_product`: from the panel's first column on, and of its tiles.
  size_t group_size;
  const struct ot_code_row *groups;
  size_t group_stride;
  const int32_t *zero_point;
  const int32_t *group_zeros;
  const int32_t *weight_sums;
};

/// Adds to the tiles of sums the products of columns `first` ... `end` of `rows[0]` + `rows[1]`
/// activation rows by one or two row tiles; `two_rows` (of tiles) and `two_tiles` are constants.
OT_INLINE void add_columns(
    const struct panel *p, const size_t rows[2], int two_rows, int two_tiles, size_t first,
    size_t end) {
  const int8_t *x1 = p->x + 16 * p->x_stride;
  for (size_t k = first; k < end; k += 64) {
    const uint8_t *u = p->u + k * 16;
    size_t left = p->column_count - k;
    tile_load(6, u, 64);
    if (two_tiles) tile_load(7, u + p->u_stride, 64);
    if (left >= 64) {
      tile_load(4, p->x + k, p->x_stride);
      if (two_rows) tile_load(5, x1 + k, p->x_stride);
    } else {
      // Bytes beyond the columns may be another row's, or none.
      int8_t last[32][64] = {{0}};
      for (size_t r = 0; r < rows[0]; r++) memcpy(last[r], p->x + r * p->x_stride + k, left);
      tile_load(4, last[0], 64);
      if (two_rows) {
        for (size_t r = 0; r < rows[1]; r++) memcpy(last[16 + r], x1 + r * p->x_stride + k, left);
        tile_load(5, last[16], 64);
      }
    }
    tile_multiply(0, 4, 6);
    if (two_tiles) tile_multiply(1, 4, 7);
    if (two_rows) tile_multiply(2, 5, 6);
    if (two_rows && two_tiles) tile_multiply(3, 5, 7);
  }
}

OT_INLINE void zero_sums(int two_rows, int two_tiles) {
  tile_zero(0);
  if (two_tiles) tile_zero(1);
  if (two_rows) tile_zero(2);
  if (two_rows && two_tiles) tile_zero(3);
}

OT_INLINE void store_sums(uint8_t *y, size_t stride, int two_rows, int two_tiles) {
  tile_store(0, y, stride);
  if (two_tiles) tile_store(1, y + 64, stride);
  if (two_rows) tile_store(2, y + 16 * stride, stride);
  if (two_rows && two_tiles) tile_store(3, y + 16 * stride + 64, stride);
}

OT_INLINE void block(const struct panel *p, const size_t rows[2], int two_rows, int two_tiles) {
  size_t stride = p->y_stride * 4;
  if (p->adds) {
    tile_load(0, p->y, stride);
    if (two_tiles) tile_load(1, p->y + 64, stride);
    if (two_rows) tile_load(2, p->y + 16 * stride, stride);
    if (two_rows && two_tiles) tile_load(3, p->y + 16 * stride + 64, stride);
  } else {
    zero_sums(two_rows, two_tiles);
  }
  add_columns(p, rows, two_rows, two_tiles, 0, p->column_count);
  store_sums(p->y, stride, two_rows, two_tiles);
}

/// The same in floats: each group's sums leave the tiles, and are added times its scale.
OT_INLINE void grouped_block(
    const struct panel *p, const size_t rows[2], int two_rows, int two_tiles) {
  int32_t sums[32][32] __attribute__((aligned(64)));
  for (size_t k = 0; k < p->column_count; k += p->group_size) {
    size_t left = p->column_count - k;
    zero_sums(two_rows, two_tiles);
    add_columns(
        p, rows, two_rows, two_tiles, k, k + (left < p->group_size ? left : p->group_size));
    store_sums((uint8_t *)sums, sizeof sums[0], two_rows, two_tiles);
    int is_first = k == 0 && !p->adds;
    for (size_t r = 0; r < rows[0] + rows[1]; r++) {
      const struct ot_code_row *group = p->groups + r * p->group_stride + k / p->group_size;
      __m512 scale = _mm512_set1_ps(group->scale);
      __m512i sum_of_codes = _mm512_set1_epi32(-group->sum);
      float *y = (float *)p->y + r * p->y_stride;
      for (size_t n = 0; n < (two_tiles ? 32 : 16); n += 16) {
        // 16 bits are enough for a zero point and for the sum of a group.
        __m512i zero_point = _mm512_loadu_si512(p->zero_point + n);
        __m512i sum = _mm512_add_epi32(
            _mm512_load_si512(&sums[r][n]), _mm512_madd_epi16(zero_point, sum_of_codes));
        if (p->group_zeros) {
          size_t g = k / p->group_size;
          __m512i weights = _mm512_loadu_si512(p->weight_sums + (n * p->group_stride + g * 16));
          __m512i zero = _mm512_set1_epi32(p->group_zeros[r * p->group_stride + g]);
          sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(weights, zero));
        }
        __m512 part = is_first ? _mm512_setzero_ps() : _mm512_loadu_ps(y + n);
        _mm512_storeu_ps(y + n, _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), part));
      }
    }
  }
}

OT_INLINE void blocks(struct panel p, size_t row_count, int two_tiles, int is_grouped) {
  size_t rows[2] = {0, 0};
  for (size_t m = 0; m < row_count; m += 32) {
    size_t left = row_count - m;
    size_t now[2] = {left < 16 ? left : 16, left < 16 ? 0 : left < 32 ? left - 16 : 16};
    if (now[0] != rows[0] || now[1] != rows[1]) configure(now);
    rows[0] = now[0], rows[1] = now[1];
    if (is_grouped && rows[1])
      grouped_block(&p, rows, 1, two_tiles);
    else if (is_grouped)
      grouped_block(&p, rows, 0, two_tiles);
    else if (rows[1])
      block(&p, rows, 1, two_tiles);
    else
      block(&p, rows, 0, two_tiles);
    p.x += 32 * p.x_stride;
    p.y += 32 * p.y_stride * 4;
    if (is_grouped) p.groups += 32 * p.group_stride;
    if (is_grouped && p.group_zeros) p.group_zeros += 32 * p.group_stride;
  }
}

OT_INLINE void multiply(const struct ot_product *p, int bits, int is_grouped) {
  size_t tile_steps = (p->tile_count + 1) / 2;
  for (size_t k = 0; k < p->column_count; k += panel_column_count) {
    size_t left = p->column_count - k;
    size_t column_count = left < panel_column_count ? left : panel_column_count;
    for (size_t step = 0; step < tile_steps; step++) {
      int two_tiles = step * 2 + 1 < p->tile_count;
      size_t column = p->first_column + k;
      const uint8_t *codes =
          p->tiles + step * 2 * p->tile_byte_count + column * 2 * (size_t)bits;
      struct panel part = {
          .u = codes,
          .u_stride = p->tile_byte_count,
          .x = p->x + column,
          .x_stride = p->x_stride,
          .column_count = column_count,
          .y = (uint8_t *)p->y + step * 128,
          .y_stride = p->y_stride,
          .adds = k > 0,
      };
      if (is_grouped) {
        part.group_size = p->group_size;
        part.groups = p->groups + column / p->group_size;
        part.group_stride = p->group_stride;
        part.zero_point = p->zero_point + step * 32;
        if (p->group_zeros) {
          size_t group = column / p->group_size;
          part.group_zeros = p->group_zeros + group;
          part.weight_sums = p->weight_sums + (step * 2 * p->group_stride + group) * 16;
        }
      }
      // Tiles are loaded by 64 columns, which may be more than there are.
      if (bits < 8 || column_count % 64) {
        part.u = p->scratch;
        part.u_stride = (column_count + 63) / 64 * step_byte_count;
        for (int i = 0; i <= two_tiles; i++) {
          unpack(
              codes + (size_t)i * p->tile_byte_count, bits, column_count,
              p->scratch + (size_t)i * part.u_stride);
        }
      }
      if (two_tiles)
        blocks(part, p->x_count, 1, is_grouped);
      else
        blocks(part, p->x_count, 0, is_grouped);
    }
  }
  tiles_release();
}

// A group of fewer columns than a tile has is left to VNNI too.
#define OT_PRODUCT(bits)                                                            \
  OT_FUNCTION void ot_product##bits##_amx(const struct ot_product *product) {       \
    if (product->x_count <= most_vnni_row_count || product->column_count == 0)      \
      ot_product##bits##_avx512vnni(product);                                       \
    else                                                                            \
      multiply(product, bits, 0);                                                   \
  }                                                                                 \
  OT_FUNCTION void ot_grouped_product##bits##_amx(const struct ot_product *product) { \
    if (product->x_count <= most_vnni_row_count || product->column_count == 0 ||    \
        product->group_size % 64)                                                   \
      ot_grouped_product##bits##_avx512vnni(product);                               \
    else                                                                            \
      multiply(product, bits, 1);                                                   \
  }
OT_PRODUCT(8)
OT_PRODUCT(6)
OT_PRODUCT(4)

#endif
