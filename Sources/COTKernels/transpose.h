// The transpose that row tiles of codes and blocks of keys are made with.

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
