// Vectors of 64 bytes as two of 32, for the sets of 256-bit vectors.
#include <immintrin.h>

typedef long long i64x8 __attribute__((vector_size(64)));

#define OT_HALF(vector, half)                                                     \
  ((half) ? (__m256i)__builtin_shufflevector((i64x8)(vector), (i64x8)(vector), 4, 5, 6, 7) \
          : (__m256i)__builtin_shufflevector((i64x8)(vector), (i64x8)(vector), 0, 1, 2, 3))
#define OT_JOINED(type, low, high) \
  ((type)__builtin_shufflevector((low), (high), 0, 1, 2, 3, 4, 5, 6, 7))
