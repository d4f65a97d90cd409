// The fast Hadamard transform over 16 lanes: stage by stage what
// scalar_hadamard.c does.

/// One stage within vectors: partners are `distance` lanes apart.
#define OT_BUTTERFLY(x, distance, ...)                                            \
  __extension__({                                                                 \
    f32x16 partner = __builtin_shufflevector((x), (x), __VA_ARGS__);              \
    u32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};         \
    u32x16 sign = (lane & (distance)) * (0x80000000u / (distance));               \
    partner + (f32x16)((u32x16)(x) ^ sign);                                       \
  })

OT_INLINE f32x16 transformed_lanes(f32x16 x) {
  x = OT_BUTTERFLY(x, 1u, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  x = OT_BUTTERFLY(x, 2u, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  x = OT_BUTTERFLY(x, 4u, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  return OT_BUTTERFLY(x, 8u, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
}

OT_KERNEL void hadamard(const float *x, size_t count, size_t block_size, float *y) {
  f32x16 factor = splat((float)(1 / __builtin_sqrt((double)block_size)));
  for (size_t start = 0; start < count; start += block_size) {
    float *block = y + start;
    for (size_t k = 0; k < block_size; k += lane_count)
      OT_STORE(block + k, transformed_lanes(OT_LOAD(f32x16, x + start + k)));
    for (size_t distance = lane_count; distance < block_size; distance *= 2)
      for (size_t low = 0; low < block_size; low += 2 * distance)
        for (size_t k = low; k < low + distance; k += lane_count) {
          f32x16 a = OT_LOAD(f32x16, block + k), b = OT_LOAD(f32x16, block + k + distance);
          OT_STORE(block + k, a + b);
          OT_STORE(block + k + distance, a - b);
        }
    for (size_t k = 0; k < block_size; k += lane_count)
      OT_STORE(block + k, OT_LOAD(f32x16, block + k) * factor);
  }
}
