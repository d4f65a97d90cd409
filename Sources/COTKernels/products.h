// The blocking of integer products, the same for every instruction set. A file
// that includes this defines
//   OT_INLINE, OT_FUNCTION   function attributes that enable the instructions,
//   OT_FORM(name)            the name with the form's suffix,
//   OT_VECTOR_BYTES          the size of a vector,
//   OT_FEW_ROWS, few_columns     one row tile by at most so many activation rows,
//                                codes unpacked in registers,
//   OT_MANY_TILES, OT_MANY_ROWS, many_columns
//                                exactly so many row tiles by at most so many
//                                activation rows, one code of `bits` to a byte,
//   OT_GROUP_ROWS            at most so many rows where columns are in groups,
//   small_products           products of numbers of 16 bits,
//   unpack                   packed codes to one code to a byte,
// and gets the six products.
//
// Few rows read each code once, from memory: what limits them is bandwidth. For
// many rows a panel of codes (OT_MANY_TILES row tiles, as many columns as fill
// two thirds of a usual first-level cache) is unpacked once, if it is packed,
// and stays in that cache while the rows pass by.
#include "product_blocks.h"

enum {
  /// Activation rows whose part in a panel's columns a second-level cache holds.
  row_block_count = 768,
  /// Activations that such a cache holds whole.
  cached_activation_count = 384 * 1024,
  /// Up to so many rows, taking the codes from memory in order and unpacking them in
  /// registers, again for every few rows, is faster than panels.
  most_few_row_count = 2 * OT_FEW_ROWS,
  most_few_row_count_of_bytes = OT_FEW_ROWS + OT_FEW_ROWS / 2,
};

/// Rows of set `i` when `row_count` rows go into `set_count` sets that are as even as
/// can be.
OT_INLINE size_t set_rows(size_t row_count, size_t set_count, size_t i) {
  return row_count / set_count + (i < row_count % set_count);
}

OT_INLINE void skip_rows(struct panel *p, size_t rows) {
  p->x += rows * p->x_stride;
  p->y += rows * p->y_stride * 4;
  p->groups += rows * p->group_stride;
  if (p->group_zeros) p->group_zeros += rows * p->group_stride;
}

/// The place of the panel of row `m`, row tile `tile` and column `column`, counted from
/// the product's first, but for its codes.
OT_INLINE struct panel panel_at(
    const struct ot_product *p, size_t m, size_t tile, size_t column, size_t column_count,
    int is_grouped) {
  struct panel part = {
      .x = p->x + m * p->x_stride + p->first_column + column,
      .x_stride = p->x_stride,
      .column_count = column_count,
      .y = (uint8_t *)p->y + (m * p->y_stride + tile * 16) * 4,
      .y_stride = p->y_stride,
      .adds = column > 0,
  };
  if (is_grouped) {
    part.group_size = p->group_size;
    part.groups = p->groups + m * p->group_stride + (p->first_column + column) / p->group_size;
    part.group_stride = p->group_stride;
    part.zero_point = p->zero_point + tile * 16;
    if (p->group_zeros) {
      size_t group = (p->first_column + column) / p->group_size;
      part.group_zeros = p->group_zeros + m * p->group_stride + group;
      part.weight_sums = p->weight_sums + (tile * p->group_stride + group) * 16;
    }
  }
  return part;
}

/// All tiles by `x_count` rows: each code is read from memory once, in order.
OT_INLINE void multiply_few(const struct ot_product *p, int bits, int is_grouped) {
  // A second set of rows finds the codes in the cache.
  size_t set_count = (p->x_count + OT_FEW_ROWS - 1) / OT_FEW_ROWS;
  size_t step = set_count == 1 ? p->column_count : 1024;
  for (size_t t = 0; t < p->tile_count; t++) {
    for (size_t k = 0; k < p->column_count; k += step) {
      size_t left = p->column_count - k;
      struct panel part = panel_at(p, 0, t, k, left < step ? left : step, is_grouped);
      part.u = p->tiles + t * p->tile_byte_count + (p->first_column + k) * 2 * (size_t)bits;
      part.u_end = p->tiles + p->tile_count * p->tile_byte_count;
      for (size_t i = 0; i < set_count; i++) {
        size_t rows = set_rows(p->x_count, set_count, i);
        few_rows(&part, (int)rows, bits, is_grouped);
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
    int bits, int is_grouped) {
  size_t left = p->column_count - place.column;
  const uint8_t *codes = codes_at(p, place, bits);
  struct panel part = panel_at(
      p, m, place.tile, place.column, left < panel_column_count ? left : panel_column_count,
      is_grouped);
  part.u = codes;
  part.u_stride = p->tile_byte_count;
  part.next = codes_at(p, next, bits);
  part.next_stride = p->tile_byte_count;
  part.next_step = 8 * (size_t)bits;
  if (bits < 8) {
    part.u = p->scratch;
    part.u_stride = part.column_count * 16;
    for (size_t i = 0; i < OT_MANY_TILES; i++) {
      unpack(
          codes + i * p->tile_byte_count, bits, part.column_count, p->scratch + i * part.u_stride);
    }
  }
  size_t most = is_grouped ? OT_GROUP_ROWS : OT_MANY_ROWS;
  size_t set_count = (row_count + most - 1) / most;
  for (size_t i = 0; i < set_count; i++) {
    size_t rows = set_rows(row_count, set_count, i);
    many_rows(&part, (int)rows, bits, is_grouped);
    skip_rows(&part, rows);
    // The first sets ask for two tiles of the next panel each.
    if (2 * i + 2 < OT_MANY_TILES)
      part.next += 2 * p->tile_byte_count;
    else
      part.next = part.u, part.next_stride = part.next_step = 0;
  }
}

OT_INLINE void multiply_many(const struct ot_product *p, int bits, int is_grouped) {
  size_t whole = p->tile_count / OT_MANY_TILES * OT_MANY_TILES;
  size_t tile_steps = p->tile_count / OT_MANY_TILES;
  size_t column_steps = (p->column_count + panel_column_count - 1) / panel_column_count;
  size_t count = tile_steps * column_steps;
  size_t block_count = (p->x_count + row_block_count - 1) / row_block_count;
  for (size_t b = 0, m = 0; b < block_count; b++) {
    size_t row_count = set_rows(p->x_count, block_count, b);
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
      multiply_panel(p, m, row_count, place, next, bits, is_grouped);
      place = next;
    }
    m += row_count;
  }
  if (whole == p->tile_count) return;
  struct ot_product rest = *p;
  rest.tiles += whole * p->tile_byte_count;
  rest.tile_count -= whole;
  rest.y = (uint8_t *)p->y + whole * 64;
  if (is_grouped) rest.zero_point += whole * 16;
  if (is_grouped && p->group_zeros) rest.weight_sums += whole * p->group_stride * 16;
  multiply_few(&rest, bits, is_grouped);
}

OT_INLINE void multiply(const struct ot_product *p, int bits, int is_grouped) {
  if (p->column_count == 0) {
    for (size_t m = 0; m < p->x_count; m++)
      memset((uint8_t *)p->y + m * p->y_stride * 4, 0, p->tile_count * 64);
  } else if (p->x_count <= (bits == 8 ? most_few_row_count_of_bytes : most_few_row_count)) {
    multiply_few(p, bits, is_grouped);
  } else {
    multiply_many(p, bits, is_grouped);
  }
}

_Static_assert(OT_FEW_ROWS >= 4 && OT_FEW_ROWS <= 8, "few_rows has these cases");
_Static_assert(OT_MANY_ROWS >= 4 && OT_MANY_ROWS <= 6, "many_rows has these cases");
_Static_assert(OT_GROUP_ROWS >= 2 && OT_GROUP_ROWS <= OT_MANY_ROWS, "many_rows has these cases");
_Static_assert(OT_MANY_TILES % 2 == 0 || OT_MANY_TILES == 1, "two tiles are asked for at a time");

#define OT_PRODUCTS_OF(bits)                                                             \
  OT_FUNCTION void OT_FORM(ot_product##bits)(const struct ot_product *product) {         \
    multiply(product, bits, 0);                                                          \
  }                                                                                      \
  OT_FUNCTION void OT_FORM(ot_grouped_product##bits)(const struct ot_product *product) { \
    multiply(product, bits, 1);                                                          \
  }
OT_PRODUCTS_OF(8)
OT_PRODUCTS_OF(6)
OT_PRODUCTS_OF(4)
