// Chooses the kernels for this processor.
#include <string.h>

#include "forms.h"

#if defined(__x86_64__)
#include <xmmintrin.h>

static int has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("fma");
}

static int has_avx512vnni(void) {
  __builtin_cpu_init();
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

const struct ot_kernels *ot_kernels_named(const char *name, int *known) {
  *known = 1;
  if (strcmp(name, "scalar") == 0) return &ot_kernels_scalar;
#if defined(__x86_64__)
  if (strcmp(name, "avx2") == 0) return has_avx2() ? &ot_kernels_avx2 : NULL;
  if (strcmp(name, "avx512vnni") == 0) return has_avx512vnni() ? &ot_kernels_avx512vnni : NULL;
#else
  if (strcmp(name, "avx2") == 0 || strcmp(name, "avx512vnni") == 0) return NULL;
#endif
  *known = 0;
  return NULL;
}

const struct ot_kernels *ot_kernels_best(void) {
#if defined(__x86_64__)
  if (has_avx512vnni()) return &ot_kernels_avx512vnni;
  if (has_avx2()) return &ot_kernels_avx2;
#endif
  return &ot_kernels_scalar;
}

int ot_float_environment_is_standard(void) {
#if defined(__x86_64__)
  // Flush to zero, denormals are zero, rounding control.
  return (_mm_getcsr() & (0x8000u | 0x0040u | 0x6000u)) == 0;
#elif defined(__aarch64__)
  uint64_t control;
  __asm__("mrs %0, fpcr" : "=r"(control));
  // FZ, RMode, FZ16.
  return (control & ((1u << 24) | (3u << 22) | (1u << 19))) == 0;
#else
  return 1;
#endif
}
