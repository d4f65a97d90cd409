// The blocks that products are made of: some row tiles by some activation rows over a
// range of columns. Included by products.h, which says what is defined before.
#include <string.h>

#include "forms.h"

typedef int32_t ints __attribute__((vector_size(OT_VECTOR_BYTES)));
typedef float floats __attribute__((vector_size(OT_VECTOR_BYTES)));

/// Row tiles by activation rows over one range of columns.
struct panel {
  /// The first row tile's codes in the first column, and bytes to the next tile.
  const uint8_t *u;
  size_t u_stride;
  /// Codes to ask for meanwhile: two streams, `next_stride` apart, `next_step`
  /// bytes of each every 4 columns.
  const uint8_t *next;
  size_t next_stride, next_step;
  /// End of the last tile's quantized values.
  const uint8_t *u_end;
  const int8_t *x;
  size_t x_stride;
  /// A multiple of 16.
  size_t column_count;
  /// Integers, or floats of groups.
  uint8_t *y;
  size_t y_stride;
  /// Adds to what `y` holds.
  int adds;
  /// Of groups, as in `ot_product`: from the panel's first column on, and of its tiles.
  size_t group_size;
  const struct ot_code_row *groups;
  size_t group_stride;
  const int32_t *zero_point;
  const int32_t *group_zeros;
  const int32_t *weight_sums;
};

enum {
  /// Columns of a panel.
  panel_column_count = OT_PANEL_BYTE_COUNT / (16 * OT_MANY_TILES),
  /// Vectors of the integers of a row tile.
  tile_vectors = 64 / OT_VECTOR_BYTES,
  vector_lanes = OT_VECTOR_BYTES / 4,
  /// How far ahead codes of few rows are asked for.
  prefetch_byte_count = 8192,
};

_Static_assert(panel_column_count % 256 == 0, "panels are whole groups");

// Defined by the including file; `rows` and `bits` are constants there. They add the
// products of `column_count` columns from `column` of the panel on.
OT_INLINE void few_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][tile_vectors]);
OT_INLINE void many_columns(
    const struct panel *p, int rows, int bits, size_t column, size_t column_count,
    ints sums[][OT_MANY_TILES * tile_vectors]);
OT_INLINE ints small_products(ints a, ints b);
static OT_FUNCTION void unpack(const uint8_t *packed, int bits, size_t column_count, uint8_t *u);

#define OT_LOADED(type, source)                                   \
  __extension__({                                                 \
    type loaded;                                                  \
    memcpy(&loaded, (source), sizeof loaded);                     \
    loaded;                                                       \
  })

/// Of loops that stayed loops, sums would be in memory: cleared by a call of memset, loaded, and
/// copied from there.
#define OT_UNROLLED _Pragma("clang loop unroll(full)")

/// One row tile or OT_MANY_TILES by some rows: `columns` adds products, all of them at once or
/// those of a group, whose sums go into floats then. Arguments but `p` are constants.
#define OT_BLOCK(name, row_count, vector_count, columns)                                      \
  OT_INLINE void name(const struct panel *p, int rows, int bits, int is_grouped) {            \
    size_t row_bytes = p->y_stride * 4;                                                       \
    if (!is_grouped) {                                                                        \
      ints sums[row_count][vector_count];                                                     \
      OT_UNROLLED for (int r = 0; r < rows; r++)                                              \
        OT_UNROLLED for (int v = 0; v < vector_count; v++) sums[r][v] = (ints){0};            \
      columns(p, rows, bits, 0, p->column_count, sums);                                       \
      OT_UNROLLED for (int r = 0; r < rows; r++)                                              \
        OT_UNROLLED for (int v = 0; v < vector_count; v++) {                                  \
          uint8_t *y = p->y + (size_t)r * row_bytes + v * OT_VECTOR_BYTES;                    \
          ints sum = sums[r][v];                                                              \
          if (p->adds) sum += OT_LOADED(ints, y);                                             \
          memcpy(y, &sum, OT_VECTOR_BYTES);                                                   \
        }                                                                                     \
      return;                                                                                 \
    }                                                                                         \
    floats parts[row_count][vector_count];                                                    \
    OT_UNROLLED for (int r = 0; r < rows; r++)                                                \
      OT_UNROLLED for (int v = 0; v < vector_count; v++)                                      \
        parts[r][v] = p->adds                                                                 \
            ? OT_LOADED(floats, p->y + (size_t)r * row_bytes + v * OT_VECTOR_BYTES)           \
            : (floats){0};                                                                    \
    const struct ot_code_row *group = p->groups;                                              \
    const int32_t *zero = p->group_zeros, *weight_sums = p->weight_sums;                      \
    for (size_t k = 0; k < p->column_count; k += p->group_size, group++) {                    \
      size_t left = p->column_count - k;                                                      \
      ints sums[row_count][vector_count];                                                     \
      OT_UNROLLED for (int v = 0; v < vector_count; v++) {                                    \
        ints zero_point = OT_LOADED(ints, p->zero_point + v * vector_lanes);                  \
        OT_UNROLLED for (int r = 0; r < rows; r++)                                            \
          sums[r][v] = small_products(                                                        \
              zero_point, (ints){0} - group[(size_t)r * p->group_stride].sum);                \
      }                                                                                       \
      if (zero) {                                                                             \
        OT_UNROLLED for (int v = 0; v < vector_count; v++) {                                  \
          size_t tile = (size_t)(v / tile_vectors), part = (size_t)(v % tile_vectors);        \
          ints weights = OT_LOADED(                                                           \
              ints, weight_sums + tile * p->group_stride * 16 + part * vector_lanes);         \
          OT_UNROLLED for (int r = 0; r < rows; r++)                                          \
            sums[r][v] -= weights * zero[(size_t)r * p->group_stride];                        \
        }                                                                                     \
        zero++, weight_sums += 16;                                                            \
      }                                                                                       \
      columns(p, rows, bits, k, left < p->group_size ? left : p->group_size, sums);           \
      OT_UNROLLED for (int r = 0; r < rows; r++) {                                            \
        floats scale = (floats){0} + group[(size_t)r * p->group_stride].scale;                \
        OT_UNROLLED for (int v = 0; v < vector_count; v++)                                    \
          parts[r][v] = __builtin_elementwise_fma(                                            \
              scale, __builtin_convertvector(sums[r][v], floats), parts[r][v]);               \
      }                                                                                       \
    }                                                                                         \
    OT_UNROLLED for (int r = 0; r < rows; r++)                                                \
      OT_UNROLLED for (int v = 0; v < vector_count; v++)                                      \
        memcpy(                                                                               \
            p->y + (size_t)r * row_bytes + v * OT_VECTOR_BYTES, &parts[r][v],                 \
            OT_VECTOR_BYTES);                                                                 \
  }

OT_BLOCK(few_block, OT_FEW_ROWS, tile_vectors, few_columns)
OT_BLOCK(many_block, OT_MANY_ROWS, OT_MANY_TILES * tile_vectors, many_columns)

/// Asks for the codes that come `prefetch_byte_count` after the 16 columns at
/// `block`: those of few rows are needed faster than processors foresee.
OT_INLINE void prefetch(const struct panel *p, const uint8_t *block, int bits) {
  const uint8_t *ahead = block + prefetch_byte_count;
  if (ahead >= p->u_end) ahead = block;
  for (int i = 0; i < bits / 2; i++) __builtin_prefetch(ahead + i * 64);
}

OT_INLINE void few_rows(const struct panel *p, int rows, int bits, int is_grouped) {
  switch (rows) {
#define OT_CASE(n) \
  case n: if (n <= OT_FEW_ROWS) few_block(p, n, bits, is_grouped); break;
    OT_CASE(1) OT_CASE(2) OT_CASE(3) OT_CASE(4) OT_CASE(5) OT_CASE(6) OT_CASE(7) OT_CASE(8)
#undef OT_CASE
  }
}

/// More rows than OT_FEW_ROWS * 3 / 2 in even sets make none smaller than 3, or of groups 1.
OT_INLINE void many_rows(const struct panel *p, int rows, int bits, int is_grouped) {
  int least = is_grouped ? 1 : 3, most = is_grouped ? OT_GROUP_ROWS : OT_MANY_ROWS;
  switch (rows) {
#define OT_CASE(n) \
  case n: if (n >= least && n <= most) many_block(p, n, bits, is_grouped); break;
    OT_CASE(1) OT_CASE(2) OT_CASE(3) OT_CASE(4) OT_CASE(5) OT_CASE(6)
#undef OT_CASE
  }
}
