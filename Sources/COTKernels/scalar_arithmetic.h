// Arithmetic that several of the scalar files need. A file that includes this
// turns contraction off.
#ifndef OT_SCALAR_ARITHMETIC_H
#define OT_SCALAR_ARITHMETIC_H

#include <stdint.h>
#include <string.h>

enum { lane_count = 16 };

static inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/// To the nearest integer, ties to even; keeps the sign of zero.
static inline float round_even(float x) {
  float magnitude = __builtin_fabsf(x);
  // From 2^23 on every float is an integer; NaN stays too.
  if (!(magnitude < 0x1p23f)) return x;
  // Adding 2^23 leaves no bits below 1, so the addition itself rounds.
  return __builtin_copysignf(magnitude + 0x1p23f - 0x1p23f, x);
}

/// The lanes added up in the fixed tree; they are overwritten.
static inline double sum_of_lanes(double lanes[lane_count]) {
  for (int width = lane_count / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] = lanes[i] + lanes[i + width];
  return lanes[0];
}

#endif
