// The blocking of integer products, the same for every instruction set. A file
// that includes this defines
//   OT_INLINE, OT_FUNCTION   function attributes that enable the instructions,
//   OT_FORM(name)            the name with the form's suffix,
//   OT_FEW_ROWS, few_block       one row tile by at most so many activation rows,
//                                codes unpacked in registers,
//   OT_MANY_TILES, OT_MANY_ROWS, many_block
//                                exactly so many row tiles by at most so many
//                                activation rows, one code of `bits` to a byte,
//   unpack                       packed codes to one code to a byte,
// and gets the three products.
//
// Few rows read each code once, from memory: what limits them is bandwidth. For
// many rows a panel of codes (OT_MANY_TILES row tiles, as many columns as fill
// two thirds of a usual first-level cache) is unpacked once, if it is packed,
// and stays in that cache while the rows pass by.
#include <string.h>

#include "forms.h"

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
  int32_t *y;
  size_t y_stride;
  /// Adds to what `y` holds.
  int adds;
};

enum {
  /// Columns of a panel.
  panel_column_count = OT_PANEL_BYTE_COUNT / (16 * OT_MANY_TILES),
  /// Activation rows whose part in a panel's columns a second-level cache holds.
  row_block_count = 768,
  /// Activations that such a cache holds whole.
  cached_activation_count = 384 * 1024,
  /// Up to so many rows, taking the codes from memory in order and unpacking them in
  /// registers, again for every few rows, is faster than panels.
  most_few_row_count = 2 * OT_FEW_ROWS,
  most_few_row_count_of_bytes = OT_FEW_ROWS + OT_FEW_ROWS / 2,
  prefetch_byte_count = 8192,
};

// Defined by the including file; `rows` and `bits` are constants there.
OT_INLINE void few_block(const struct panel *p, int rows, int bits);
OT_INLINE void many_block(const struct panel *p, int rows, int bits);
static OT_FUNCTION void unpack(const uint8_t *packed, int bits, size_t column_count, uint8_t *u);

/// Asks for the codes that come `prefetch_byte_count` after the 16 columns at
/// `block`: those of few rows are needed faster than processors foresee.
OT_INLINE void prefetch(const struct panel *p, const uint8_t *block, int bits) {
  const uint8_t *ahead = block + prefetch_byte_count;
  if (ahead >= p->u_end) ahead = block;
  for (int i = 0; i < bits / 2; i++) __builtin_prefetch(ahead + i * 64);
}

OT_INLINE void few_rows(const struct panel *p, int rows, int bits) {
  switch (rows) {
#define OT_CASE(n) \
  case n: if (n <= OT_FEW_ROWS) few_block(p, n, bits); break;
    OT_CASE(1) OT_CASE(2) OT_CASE(3) OT_CASE(4) OT_CASE(5) OT_CASE(6) OT_CASE(7) OT_CASE(8)
#undef OT_CASE
  }
}

/// More rows than OT_FEW_ROWS * 3 / 2 in even groups make none smaller than 3.
OT_INLINE void many_rows(const struct panel *p, int rows, int bits) {
  switch (rows) {
#define OT_CASE(n) \
  case n: if (n <= OT_MANY_ROWS) many_block(p, n, bits); break;
    OT_CASE(3) OT_CASE(4) OT_CASE(5) OT_CASE(6)
#undef OT_CASE
  }
}

/// Rows of group `g` when `row_count` rows go into `group_count` groups that are
/// as even as can be.
OT_INLINE size_t group_rows(size_t row_count, size_t group_count, size_t g) {
  return row_count / group_count + (g < row_count % group_count);
}

OT_INLINE void skip_rows(struct panel *p, size_t rows) {
  p->x += rows * p->x_stride;
  p->y += rows * p->y_stride;
}

/// All tiles by `x_count` rows: each code is read from memory once, in order.
OT_INLINE void multiply_few(const struct ot_product *p, int bits) {
  // A second group of rows finds the codes in the cache.
  size_t group_count = (p->x_count + OT_FEW_ROWS - 1) / OT_FEW_ROWS;
  size_t step = group_count == 1 ? p->column_count : 1024;
  for (size_t t = 0; t < p->tile_count; t++) {
    for (size_t k = 0; k < p->column_count; k += step) {
      size_t column = p->first_column + k;
      struct panel part = {
          .u = p->tiles + t * p->tile_byte_count + column * 2 * (size_t)bits,
          .u_end = p->tiles + p->tile_count * p->tile_byte_count,
          .x = p->x + column,
          .x_stride = p->x_stride,
          .column_count = p->column_count - k < step ? p->column_count - k : step,
          .y = p->y + t * 16,
          .y_stride = p->y_stride,
          .adds = k > 0,
      };
      for (size_t g = 0; g < group_count; g++) {
        size_t rows = group_rows(p->x_count, group_count, g);
        few_rows(&part, (int)rows, bits);
        skip_rows(&part, rows);
      }
    }
  }
}

/// A panel's place: its first row tile and first column.
struct place {
  size_t tile, column;
};

OT_INLINE const uint8_t *codes_at(const struct ot_product *p, struct place place, int bits) {
  return p->tiles + place.tile * p->tile_byte_count +
         (p->first_column + place.column) * 2 * (size_t)bits;
}

/// `row_count` rows from row `m` on by the panel at `place`.
OT_INLINE void multiply_panel(
    const struct ot_product *p, size_t m, size_t row_count, struct place place, struct place next,
    int bits) {
  size_t left = p->column_count - place.column;
  const uint8_t *codes = codes_at(p, place, bits);
  struct panel part = {
      .u = codes,
      .u_stride = p->tile_byte_count,
      .x = p->x + m * p->x_stride + p->first_column + place.column,
      .x_stride = p->x_stride,
      .column_count = left < panel_column_count ? left : panel_column_count,
      .y = p->y + m * p->y_stride + place.tile * 16,
      .y_stride = p->y_stride,
      .adds = place.column > 0,
      .next = codes_at(p, next, bits),
      .next_stride = p->tile_byte_count,
      .next_step = 8 * (size_t)bits,
  };
  if (bits < 8) {
    part.u = p->scratch;
    part.u_stride = part.column_count * 16;
    for (size_t i = 0; i < OT_MANY_TILES; i++) {
      unpack(
          codes + i * p->tile_byte_count, bits, part.column_count, p->scratch + i * part.u_stride);
    }
  }
  size_t group_count = (row_count + OT_MANY_ROWS - 1) / OT_MANY_ROWS;
  for (size_t g = 0; g < group_count; g++) {
    size_t rows = group_rows(row_count, group_count, g);
    many_rows(&part, (int)rows, bits);
    skip_rows(&part, rows);
    // The first groups ask for two tiles of the next panel each.
    if (2 * g + 2 < OT_MANY_TILES)
      part.next += 2 * p->tile_byte_count;
    else
      part.next = part.u, part.next_stride = part.next_step = 0;
  }
}

OT_INLINE void multiply_many(const struct ot_product *p, int bits) {
  size_t whole = p->tile_count / OT_MANY_TILES * OT_MANY_TILES;
  size_t tile_steps = p->tile_count / OT_MANY_TILES;
  size_t column_steps = (p->column_count + panel_column_count - 1) / panel_column_count;
  size_t count = tile_steps * column_steps;
  size_t block_count = (p->x_count + row_block_count - 1) / row_block_count;
  for (size_t b = 0, m = 0; b < block_count; b++) {
    size_t row_count = group_rows(p->x_count, block_count, b);
    // If the cache holds the rows whole, codes are read in order; else it
    // holds the rows' part in a panel's columns.
    int tile_by_tile = row_count * p->column_count <= cached_activation_count;
    struct place place = {0, 0};
    for (size_t i = 0; i < count; i++) {
      size_t j = i + 1 < count ? i + 1 : 0;
      struct place next = {
          (tile_by_tile ? j / column_steps : j % tile_steps) * OT_MANY_TILES,
          (tile_by_tile ? j % column_steps : j / tile_steps) * panel_column_count,
      };
      multiply_panel(p, m, row_count, place, next, bits);
      place = next;
    }
    m += row_count;
  }
  if (whole == p->tile_count) return;
  struct ot_product rest = *p;
  rest.tiles += whole * p->tile_byte_count;
  rest.tile_count -= whole;
  rest.y += whole * 16;
  multiply_few(&rest, bits);
}

OT_INLINE void multiply(const struct ot_product *p, int bits) {
  if (p->column_count == 0) {
    for (size_t m = 0; m < p->x_count; m++)
      memset(p->y + m * p->y_stride, 0, p->tile_count * 16 * sizeof *p->y);
  } else if (p->x_count <= (bits == 8 ? most_few_row_count_of_bytes : most_few_row_count)) {
    multiply_few(p, bits);
  } else {
    multiply_many(p, bits);
  }
}

_Static_assert(OT_FEW_ROWS >= 4 && OT_FEW_ROWS <= 8, "few_rows has these cases");
_Static_assert(OT_MANY_ROWS >= 4 && OT_MANY_ROWS <= 6, "many_rows has these cases");
_Static_assert(OT_MANY_TILES % 2 == 0 || OT_MANY_TILES == 1, "two tiles are asked for at a time");

OT_FUNCTION void OT_FORM(ot_product8)(const struct ot_product *product) { multiply(product, 8); }
OT_FUNCTION void OT_FORM(ot_product6)(const struct ot_product *product) { multiply(product, 6); }
OT_FUNCTION void OT_FORM(ot_product4)(const struct ot_product *product) { multiply(product, 4); }
