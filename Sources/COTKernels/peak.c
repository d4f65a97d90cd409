// Peaks of the machine, for comparisons: loops over registers, and
// reading memory. Each step is instructions as they stand, so that no compiler
// simplifies them.
#pragma STDC FP_CONTRACT OFF

#include <string.h>

#include "forms.h"

/// Runs `body` `count` times, for each of 12 chains: more than any latency needs.
#define OT_LOOP(count, body)                                                        \
  for (size_t step = 0; step < (count); step++) {                                   \
    body(0) body(1) body(2) body(3) body(4) body(5) body(6) body(7) body(8) body(9) \
    body(10) body(11)                                                               \
  }

#if defined(__x86_64__)
#include <immintrin.h>

#include "amx_tiles.h"

__attribute__((target("avx2,fma"))) static void float32_avx2(size_t count) {
  __m256 sums[12], a = _mm256_set1_ps(0.5f);
  for (int i = 0; i < 12; i++) sums[i] = a;
#define STEP(i) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+x"(sums[i]) : "x"(a));
  OT_LOOP(count, STEP)
#undef STEP
}

__attribute__((target("avx512f"))) static void float32_avx512(size_t count) {
  __m512 sums[12], a = _mm512_set1_ps(0.5f);
  for (int i = 0; i < 12; i++) sums[i] = a;
#define STEP(i) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(sums[i]) : "v"(a));
  OT_LOOP(count, STEP)
#undef STEP
}

/// Codes of at most 6 bits: two vpmaddubsw are added before they are widened.
__attribute__((target("avx2"))) static void codes_avx2(size_t count) {
  __m256i sums[12], a = _mm256_set1_epi8(1);
  for (int i = 0; i < 12; i++) sums[i] = a;
#define STEP(i)                                                                     \
  {                                                                                 \
    __m256i b, c;                                                                   \
    __asm__ volatile(                                                               \
        "vpmaddubsw %3, %3, %1\n\tvpmaddubsw %3, %3, %2\n\tvpaddw %1, %2, %1\n\t"   \
        "vpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"                                  \
        : "+x"(sums[i]), "=&x"(b), "=&x"(c)                                         \
        : "x"(a));                                                                  \
  }
  OT_LOOP(count, STEP)
#undef STEP
}

__attribute__((target("avx2,avxvnni"))) static void codes_avxvnni(size_t count) {
  __m256i sums[12], a = _mm256_set1_epi8(1);
  for (int i = 0; i < 12; i++) sums[i] = a;
#define STEP(i) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(sums[i]) : "x"(a));
  OT_LOOP(count, STEP)
#undef STEP
}

__attribute__((target("avx512f,avx512vnni"))) static void codes_avx512vnni(size_t count) {
  __m512i sums[12], a = _mm512_set1_epi8(1);
  for (int i = 0; i < 12; i++) sums[i] = a;
#define STEP(i) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(sums[i]) : "v"(a));
  OT_LOOP(count, STEP)
#undef STEP
}

#if !defined(OT_EMULATED_TILES)
/// Four chains at a time, as many as the products have.
__attribute__((target("amx-tile,amx-int8"))) static void codes_amx(size_t count) {
  struct tile_shapes shapes = {.palette = 1};
  for (int i = 0; i < 8; i++) shapes.row_byte_counts[i] = 64, shapes.row_counts[i] = 16;
  tiles_configure(&shapes);
  for (size_t step = 0; step < count * 3; step++) {
    tile_multiply(0, 4, 6);
    tile_multiply(1, 4, 7);
    tile_multiply(2, 5, 6);
    tile_multiply(3, 5, 7);
  }
  tiles_release();
}
#endif
#elif defined(__aarch64__)
#include <arm_neon.h>

static void float32_neon(size_t count) {
  float32x4_t sums[12], a = vdupq_n_f32(0.5f);
  for (int i = 0; i < 12; i++) sums[i] = a;
#define STEP(i) __asm__ volatile("fmla %0.4s, %1.4s, %1.4s" : "+w"(sums[i]) : "w"(a));
  OT_LOOP(count, STEP)
#undef STEP
}

__attribute__((target("dotprod"))) static void codes_neon(size_t count) {
  int32x4_t sums[12], a = vdupq_n_s32(1);
  for (int i = 0; i < 12; i++) sums[i] = a;
#define STEP(i) __asm__ volatile("sdot %0.4s, %1.16b, %1.16b" : "+w"(sums[i]) : "w"(a));
  OT_LOOP(count, STEP)
#undef STEP
}
#endif

size_t ot_peak_float32(size_t count) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) {
    float32_avx512(count);
    return 12 * 2 * 16;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    float32_avx2(count);
    return 12 * 2 * 8;
  }
#elif defined(__aarch64__)
  float32_neon(count);
  return 12 * 2 * 4;
#endif
  (void)count;
  return 0;
}

size_t ot_peak_codes(const char *name, size_t count) {
  int known;
  if (!ot_kernels_named(name, &known)) return 0;
#if defined(__x86_64__)
  if (strcmp(name, "avx2") == 0) {
    codes_avx2(count);
    return 12 * 2 * 64;
  }
  if (strcmp(name, "avxvnni") == 0) {
    codes_avxvnni(count);
    return 12 * 2 * 32;
  }
  if (strcmp(name, "avx512vnni") == 0) {
    codes_avx512vnni(count);
    return 12 * 2 * 64;
  }
#if !defined(OT_EMULATED_TILES)
  if (strcmp(name, "amx") == 0) {
    codes_amx(count);
    return 12 * 2 * 16 * 16 * 64;
  }
#endif
#elif defined(__aarch64__)
  if (strcmp(name, "neon") == 0) {
    codes_neon(count);
    return 12 * 2 * 16;
  }
#endif
  (void)count;
  return 0;
}

uint64_t ot_read(const void *source, size_t byte_count) {
  typedef uint64_t words __attribute__((vector_size(64)));
  enum { ahead = 8192 };
  const uint8_t *bytes = source;
  words sums[4] = {{0}};
  for (size_t i = 0; i + 256 <= byte_count; i += 256) {
    for (size_t j = 0; j < 4; j++) {
      if (i + ahead < byte_count) __builtin_prefetch(bytes + i + ahead + j * 64);
      words word;
      memcpy(&word, bytes + i + j * 64, sizeof word);
      sums[j] ^= word;
    }
  }
  uint64_t result = 0;
  for (int i = 0; i < 8; i++) result ^= sums[0][i] ^ sums[1][i] ^ sums[2][i] ^ sums[3][i];
  return result;
}
