// The kernels that arrange codes, and the table of all; included after lanes.h by
// each form.
#include "transpose.h"
#include "functions.h"
#include "elements.h"
#include "hadamard.h"
#include "attention.h"
#include "code_attention.h"

OT_KERNEL void interleave(
    const uint8_t *rows, size_t stride, size_t column_count, uint8_t *tile) {
  for (size_t k = 0; k < column_count; k += 64) {
    u32x16 block[16];
    for (int r = 0; r < 16; r++) block[r] = OT_LOAD(u32x16, rows + (size_t)r * stride + k);
    transpose(block);
    for (int g = 0; g < 16; g++) OT_STORE(tile + k * 16 + (size_t)g * 64, block[g]);
  }
}

OT_KERNEL void deinterleave(
    const uint8_t *tile, size_t column_count, uint8_t *rows, size_t stride) {
  for (size_t k = 0; k < column_count; k += 64) {
    u32x16 block[16];
    for (int g = 0; g < 16; g++) block[g] = OT_LOAD(u32x16, tile + k * 16 + (size_t)g * 64);
    transpose(block);
    for (int r = 0; r < 16; r++) OT_STORE(rows + (size_t)r * stride + k, block[r]);
  }
}

OT_KERNEL void pack6(const uint8_t *codes, size_t count, uint8_t *packed) {
  for (size_t block = 0; block < count / 256; block++, codes += 256, packed += 192) {
    u8x64 last = OT_LOAD(u8x64, codes + 192);
    OT_STORE(packed, OT_LOAD(u8x64, codes) | last << 6);
    OT_STORE(packed + 64, OT_LOAD(u8x64, codes + 64) | last >> 2 << 6);
    OT_STORE(packed + 128, OT_LOAD(u8x64, codes + 128) | last >> 4 << 6);
  }
}

OT_KERNEL void unpack6(const uint8_t *packed, size_t count, uint8_t *codes) {
  for (size_t block = 0; block < count / 256; block++, codes += 256, packed += 192) {
    u8x64 v0 = OT_LOAD(u8x64, packed), v1 = OT_LOAD(u8x64, packed + 64),
          v2 = OT_LOAD(u8x64, packed + 128);
    OT_STORE(codes, v0 & 63);
    OT_STORE(codes + 64, v1 & 63);
    OT_STORE(codes + 128, v2 & 63);
    OT_STORE(codes + 192, v0 >> 6 | v1 >> 6 << 2 | v2 >> 6 << 4);
  }
}

OT_KERNEL void pack4(const uint8_t *codes, size_t count, uint8_t *packed) {
  for (size_t block = 0; block < count / 128; block++, codes += 128, packed += 64)
    OT_STORE(packed, OT_LOAD(u8x64, codes) | OT_LOAD(u8x64, codes + 64) << 4);
}

OT_KERNEL void unpack4(const uint8_t *packed, size_t count, uint8_t *codes) {
  for (size_t block = 0; block < count / 128; block++, codes += 128, packed += 64) {
    u8x64 pair = OT_LOAD(u8x64, packed);
    OT_STORE(codes, pair & 15);
    OT_STORE(codes + 64, pair >> 4);
  }
}

OT_KERNEL ptrdiff_t first_outside(
    const uint8_t *codes, size_t count, uint8_t low, uint8_t high) {
  size_t k = 0;
  for (; k + 64 <= count; k += 64) {
    u8x64 code = OT_LOAD(u8x64, codes + k);
    u8x64 outside = (u8x64)(code < ((u8x64){0} + low)) | (u8x64)(code > ((u8x64){0} + high));
    uint64_t words[8], any = 0;
    OT_STORE(words, outside);
    for (int i = 0; i < 8; i++) any |= words[i];
    if (any) break;
  }
  for (; k < count; k++)
    if (codes[k] < low || codes[k] > high) return (ptrdiff_t)k;
  return -1;
}

#define OT_MODEL_KERNEL(name) name
#include "table.h"
