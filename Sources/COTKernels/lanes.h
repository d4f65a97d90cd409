// The row kernels over 16 lanes, written once with the compiler's vector types
// and compiled once per instruction set. A file that includes this defines
//   OT_TARGET      the function attribute that enables the instruction set, with
//                  fused multiply-add,
//   OT_FORM(name)  the name with the form's suffix,
// and gets `OT_FORM(ot_kernels)`. Operation by operation it computes what
// scalar.c computes.
#include <stddef.h>
#include <stdint.h>

#include "forms.h"

// Vectors are passed between inlined functions only: no ABI is concerned.
#pragma clang diagnostic ignored "-Wpsabi"

#define OT_KERNEL static OT_TARGET
#define OT_INLINE static inline OT_TARGET __attribute__((always_inline))

typedef float f32x16 __attribute__((vector_size(64)));
typedef double f64x16 __attribute__((vector_size(128)));
typedef _Float16 f16x16 __attribute__((vector_size(32)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x64 __attribute__((vector_size(64)));
typedef int8_t i8x64 __attribute__((vector_size(64)));

enum { lane_count = 16 };

// Loads and stores at any alignment; `count` of them leave the other lanes as
// `rest`, or untouched in memory.
#define OT_LOAD(type, pointer)                                    \
  __extension__({                                                 \
    type loaded;                                                  \
    __builtin_memcpy(&loaded, (pointer), sizeof loaded);          \
    loaded;                                                       \
  })
#define OT_STORE(pointer, value)                                  \
  __extension__({                                                 \
    __typeof__(value) stored = (value);                           \
    __builtin_memcpy((pointer), &stored, sizeof stored);          \
  })
#define OT_LOAD_SOME(type, pointer, byte_count, rest)             \
  __extension__({                                                 \
    type loaded = (rest);                                         \
    __builtin_memcpy(&loaded, (pointer), (byte_count));           \
    loaded;                                                       \
  })
#define OT_STORE_SOME(pointer, value, byte_count)                 \
  __extension__({                                                 \
    __typeof__(value) stored = (value);                           \
    __builtin_memcpy((pointer), &stored, (byte_count));           \
  })

OT_INLINE f32x16 splat(float x) { return (f32x16){0} + x; }

OT_INLINE f32x16 blend(i32x16 mask, f32x16 a, f32x16 b) {
  return (f32x16)((mask & (i32x16)a) | (~mask & (i32x16)b));
}

// NaN in `a` gives `b`.
OT_INLINE f32x16 greater(f32x16 a, f32x16 b) { return blend(a > b, a, b); }
OT_INLINE f32x16 lesser(f32x16 a, f32x16 b) { return blend(a < b, a, b); }

OT_INLINE f32x16 magnitude(f32x16 x) { return (f32x16)((u32x16)x & 0x7FFFFFFFu); }

/// One lane from 16, in the order of the fixed tree.
#define OT_REDUCE(lanes, combine)                                 \
  for (int width = lane_count / 2; width > 0; width /= 2)         \
    for (int i = 0; i < width; i++) {                             \
      __typeof__((lanes)[0]) a = (lanes)[i], b = (lanes)[i + width]; \
      (lanes)[i] = (combine);                                     \
    }

/// Runs `step(k, n)` over a row: n is 16, at the end what is left.
#define OT_EACH_STEP(count, step)                                 \
  {                                                               \
    size_t k = 0;                                                 \
    for (; k + lane_count <= (count); k += lane_count) step(k, (size_t)lane_count); \
    if (k < (count)) step(k, (count) - k);                        \
  }

// `n` is a constant in all steps but the last, so that the test vanishes.
#define OT_LOAD_N(type, pointer, n, rest)                         \
  ((n) == lane_count ? OT_LOAD(type, pointer)                     \
                     : OT_LOAD_SOME(type, pointer, (n) * sizeof((type){0}[0]), rest))
#define OT_STORE_N(pointer, value, n)                             \
  __extension__({                                                 \
    if ((n) == lane_count) OT_STORE(pointer, value);              \
    else OT_STORE_SOME(pointer, value, (n) * sizeof((value)[0])); \
  })

// MARK: Conversions

OT_KERNEL void f32_from_f16(const void *source, float *y, size_t count) {
#define STEP(k, n)                                                                \
  {                                                                               \
    f16x16 half = OT_LOAD_N(f16x16, (const char *)source + 2 * (k), n, (f16x16){0}); \
    f32x16 wide = __builtin_convertvector(half, f32x16);                          \
    OT_STORE_N(y + (k), wide, n);                                                 \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL void f32_from_bf16(const void *source, float *y, size_t count) {
#define STEP(k, n)                                                                \
  {                                                                               \
    u16x16 brain = OT_LOAD_N(u16x16, (const char *)source + 2 * (k), n, (u16x16){0}); \
    u32x16 wide = __builtin_convertvector(brain, u32x16) << 16;                   \
    OT_STORE_N(y + (k), wide, n);                                                 \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL void f32_from_f64(const void *source, float *y, size_t count) {
#define STEP(k, n)                                                                \
  {                                                                               \
    f64x16 wide = OT_LOAD_N(f64x16, (const char *)source + 8 * (k), n, (f64x16){0}); \
    f32x16 narrow = __builtin_convertvector(wide, f32x16);                        \
    OT_STORE_N(y + (k), narrow, n);                                               \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL void f16_from_f32(const float *x, void *target, size_t count) {
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 wide = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                     \
    f16x16 half = __builtin_convertvector(wide, f16x16);                          \
    OT_STORE_N((char *)target + 2 * (k), half, n);                                \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL void bf16_from_f32(const float *x, void *target, size_t count) {
#define STEP(k, n)                                                                \
  {                                                                               \
    u32x16 bits = OT_LOAD_N(u32x16, x + (k), n, (u32x16){0});                     \
    u32x16 is_nan = (u32x16)((bits & 0x7FFFFFFFu) > 0x7F800000u);                 \
    u32x16 quiet = bits >> 16 | 0x40u;                                            \
    u32x16 rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;                  \
    u16x16 brain = __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), u16x16); \
    OT_STORE_N((char *)target + 2 * (k), brain, n);                               \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

// MARK: Rows of floats

OT_KERNEL void transform_row(
    float *x, const float *column_scale, const float *row_scale, size_t count) {
  f32x16 divisor = splat(row_scale ? *row_scale : 1);
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                    \
    if (column_scale) value = value * OT_LOAD_N(f32x16, column_scale + (k), n, (f32x16){0}); \
    if (row_scale) value = value / divisor;                                       \
    OT_STORE_N(x + (k), value, n);                                                \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

OT_KERNEL float dot(const float *x, const float *y, size_t count) {
  f32x16 lanes = {0};
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 product = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0}) *                 \
                     OT_LOAD_N(f32x16, y + (k), n, (f32x16){0});                  \
    lanes = lanes + product;                                                      \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
  OT_REDUCE(lanes, a + b)
  return lanes[0];
}

OT_KERNEL struct ot_range range(const float *x, size_t count) {
  struct ot_range result = {0, 0, -1};
  if (count == 0) return result;
  f32x16 minima = splat(__builtin_inff()), maxima = splat(-__builtin_inff());
  i32x16 nonfinite = {0};
  f32x16 filler = splat(x[0]);
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD_N(f32x16, x + (k), n, filler);                         \
    minima = lesser(value, minima);                                               \
    maxima = greater(value, maxima);                                              \
    nonfinite |= ((u32x16)value & 0x7F800000u) == 0x7F800000u;                    \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
  OT_REDUCE(minima, a < b ? a : b)
  OT_REDUCE(maxima, a > b ? a : b)
  OT_REDUCE(nonfinite, a | b)
  if (nonfinite[0]) {
    for (size_t k = 0; k < count && result.first_nonfinite < 0; k++)
      if (!__builtin_isfinite(x[k])) result.first_nonfinite = (ptrdiff_t)k;
  }
  result.minimum = minima[0] + 0.0f;
  result.maximum = maxima[0] + 0.0f;
  return result;
}

OT_KERNEL void quantize_row(
    const float *x, size_t count, float scale, int zero_point, int low, int high, uint8_t *u,
    struct ot_error *error) {
  f64x16 squared_errors = {0}, squares = {0};
  f32x16 largest = {0}, step = splat(scale), zero = splat((float)zero_point);
  f32x16 lowest = splat((float)low), highest = splat((float)high);
// Lanes beyond the end are 0, which is quantized without error.
#define STEP(k, n)                                                                \
  {                                                                               \
    f32x16 value = OT_LOAD_N(f32x16, x + (k), n, (f32x16){0});                    \
    f32x16 code = __builtin_elementwise_roundeven(value / step) + zero;           \
    code = lesser(greater(code, lowest), highest);                                \
    u8x16 bytes = __builtin_convertvector(__builtin_convertvector(code, i32x16), u8x16); \
    OT_STORE_N(u + (k), bytes, n);                                                \
    f32x16 restored = step * (code - zero);                                       \
    f32x16 difference = value - restored;                                         \
    f64x16 wide_difference = __builtin_convertvector(difference, f64x16);         \
    f64x16 squared_error = wide_difference * wide_difference;                     \
    squared_errors = squared_errors + squared_error;                              \
    f64x16 wide_value = __builtin_convertvector(value, f64x16);                   \
    f64x16 square = wide_value * wide_value;                                      \
    squares = squares + square;                                                   \
    largest = greater(magnitude(difference), largest);                            \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
  OT_REDUCE(squared_errors, a + b)
  OT_REDUCE(squares, a + b)
  OT_REDUCE(largest, a > b ? a : b)
  error->squared_error = error->squared_error + squared_errors[0];
  error->squares = error->squares + squares[0];
  if (largest[0] > error->maximum) error->maximum = largest[0];
}

OT_KERNEL void dequantize_row(
    const uint8_t *u, size_t count, float scale, int zero_point, float *x) {
  f32x16 step = splat(scale), zero = splat((float)zero_point);
#define STEP(k, n)                                                                \
  {                                                                               \
    u8x16 bytes = OT_LOAD_N(u8x16, u + (k), n, (u8x16){0});                       \
    f32x16 code = __builtin_convertvector(__builtin_convertvector(bytes, i32x16), f32x16); \
    f32x16 value = step * (code - zero);                                          \
    OT_STORE_N(x + (k), value, n);                                                \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
}

// MARK: Activations

OT_KERNEL float absolute_maximum(const float *x, size_t count) {
  i32x16 largest = {0};
#define STEP(k, n)                                                                \
  {                                                                               \
    i32x16 value = (i32x16)magnitude(OT_LOAD_N(f32x16, x + (k), n, (f32x16){0})); \
    i32x16 is_greater = value > largest;                                          \
    largest = (is_greater & value) | (~is_greater & largest);                     \
  }
  OT_EACH_STEP(count, STEP)
#undef STEP
  OT_REDUCE(largest, a > b ? a : b)
  return largest[0] > 0x7F800000 ? __builtin_nanf("") : ((f32x16)largest)[0];
}

OT_KERNEL int32_t sum(const int8_t *q, size_t count) {
  i32x16 lanes = {0};
#define STEP(k, n) \
  lanes += __builtin_convertvector(OT_LOAD_N(i8x16, q + (k), n, (i8x16){0}), i32x16);
  OT_EACH_STEP(count, STEP)
#undef STEP
  OT_REDUCE(lanes, a + b)
  return lanes[0];
}
