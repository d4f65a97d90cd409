// The eight tiles of AMX as the products use them: 0 ... 3 are sums, 4 and 5
// activations, 6 and 7 codes. With OT_EMULATED_TILES they are arrays and loops,
// so that the products can be tested where there is no AMX.
#ifndef OT_AMX_TILES_H
#define OT_AMX_TILES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/// The 64 bytes that ldtilecfg reads.
struct tile_shapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_byte_counts[16];
  uint8_t row_counts[16];
};

_Static_assert(sizeof(struct tile_shapes) == 64, "as the processor reads it");

#if defined(OT_EMULATED_TILES)

#define OT_TILES_TARGET
static _Thread_local struct tile_shapes emulated_shapes;
static _Thread_local uint8_t emulated_tiles[8][16][64];

static inline void tiles_configure(const struct tile_shapes *shapes) {
  emulated_shapes = *shapes;
  memset(emulated_tiles, 0, sizeof emulated_tiles);
}

static inline void tiles_release(void) { memset(&emulated_shapes, 0, sizeof emulated_shapes); }

static inline void tile_zero(int tile) {
  memset(emulated_tiles[tile], 0, sizeof emulated_tiles[tile]);
}

static inline void tile_load(int tile, const void *source, size_t stride) {
  tile_zero(tile);
  for (int r = 0; r < emulated_shapes.row_counts[tile]; r++) {
    memcpy(
        emulated_tiles[tile][r], (const uint8_t *)source + (size_t)r * stride,
        emulated_shapes.row_byte_counts[tile]);
  }
}

static inline void tile_store(int tile, void *target, size_t stride) {
  for (int r = 0; r < emulated_shapes.row_counts[tile]; r++) {
    memcpy(
        (uint8_t *)target + (size_t)r * stride, emulated_tiles[tile][r],
        emulated_shapes.row_byte_counts[tile]);
  }
}

/// Intel's pseudocode of TDPBSUD: signed bytes of `a` by unsigned ones of `b`.
static inline void tile_multiply(int sums, int a, int b) {
  for (int m = 0; m < emulated_shapes.row_counts[sums]; m++) {
    int32_t row[16];
    memcpy(row, emulated_tiles[sums][m], sizeof row);
    for (int k = 0; k < emulated_shapes.row_byte_counts[a] / 4; k++) {
      for (int n = 0; n < emulated_shapes.row_byte_counts[sums] / 4; n++) {
        for (int i = 0; i < 4; i++) {
          int32_t x = (int8_t)emulated_tiles[a][m][4 * k + i];
          row[n] = (int32_t)((uint32_t)row[n] + (uint32_t)(x * emulated_tiles[b][k][4 * n + i]));
        }
      }
    }
    memcpy(emulated_tiles[sums][m], row, sizeof row);
  }
}

#else

#include <immintrin.h>

#define OT_TILES_TARGET "amx-tile,amx-int8,"
// Macros, because the number of a tile is part of an instruction.
#define tiles_configure(shapes) _tile_loadconfig(shapes)
#define tiles_release() _tile_release()
#define tile_zero(tile) _tile_zero(tile)
#define tile_load(tile, source, stride) _tile_loadd(tile, source, stride)
#define tile_store(tile, target, stride) _tile_stored(tile, target, stride)
#define tile_multiply(sums, a, b) _tile_dpbsud(sums, a, b)

#endif
#endif
