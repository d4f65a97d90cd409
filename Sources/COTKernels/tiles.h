// The kernels that arrange codes, included after lanes.h by each form.

/// Turns 16 vectors of 16 words into their transpose. The code of row r,
/// columns 4g ... 4g + 3 is one word, so a row tile is a transpose of words.
OT_INLINE void transpose(u32x16 v[16]) {
  u32x16 t[16];
  // Words, then pairs of words, within quarters; then the quarters themselves.
  for (int i = 0; i < 16; i += 2) {
    t[i] = __builtin_shufflevector(
        v[i], v[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    t[i + 1] = __builtin_shufflevector(
        v[i], v[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; j++) {
      v[i + 2 * j] = __builtin_shufflevector(
          t[i + j], t[i + j + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      v[i + 2 * j + 1] = __builtin_shufflevector(
          t[i + j], t[i + j + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
  for (int i = 0; i < 4; i++) {
    for (int half = 0; half < 16; half += 8) {
      t[half + i] = __builtin_shufflevector(
          v[half + i], v[half + i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
      t[half + i + 4] = __builtin_shufflevector(
          v[half + i], v[half + i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30,
          31);
    }
  }
  for (int i = 0; i < 8; i++) {
    v[i] = __builtin_shufflevector(
        t[i], t[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    v[i + 8] = __builtin_shufflevector(
        t[i], t[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
}

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

const struct ot_kernels OT_FORM(ot_kernels) = {
    .name = OT_NAME,
    .f32_from_f16 = f32_from_f16,
    .f32_from_bf16 = f32_from_bf16,
    .f32_from_f64 = f32_from_f64,
    .f16_from_f32 = f16_from_f32,
    .bf16_from_f32 = bf16_from_f32,
    .transform_row = transform_row,
    .dot = dot,
    .range = range,
    .quantize_row = quantize_row,
    .dequantize_row = dequantize_row,
    .interleave = interleave,
    .deinterleave = deinterleave,
    .pack6 = pack6,
    .unpack6 = unpack6,
    .pack4 = pack4,
    .unpack4 = unpack4,
    .first_outside = first_outside,
    .quantize_activations = quantize_activations,
    .absolute_maximum = absolute_maximum,
    .sum = sum,
    .product8 = OT_FORM(ot_product8),
    .product6 = OT_FORM(ot_product6),
    .product4 = OT_FORM(ot_product4),
    .activate = ot_activate_scalar,
    .add = ot_add_scalar,
    .multiply = ot_multiply_scalar,
    .activate_multiply = ot_activate_multiply_scalar,
    .affine = ot_affine_scalar,
    .layer_norm = ot_layer_norm_scalar,
    .rms_norm = ot_rms_norm_scalar,
    .quantize_static = ot_quantize_static_scalar,
    .quantize_dynamic = ot_quantize_dynamic_scalar,
    .split_digits = ot_split_digits_scalar,
    .epilogue = ot_epilogue_scalar,
    .rotate = ot_rotate_scalar,
    .store_keys = ot_store_keys_scalar,
    .attention = ot_attention_scalar,
};
