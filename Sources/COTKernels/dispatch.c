// Chooses the kernels for this processor.
#include <string.h>

#include "forms.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static int has_avx2(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("fma");
}

static int has_avxvnni(void) { return has_avx2() && __builtin_cpu_supports("avxvnni"); }

static int has_avx512vnni(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

/// Tiles are 8 KiB more that the system keeps for a thread, so a process has to
/// ask for them.
static int has_amx(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
  enum { request_permission = 0x1023, tile_data = 18 };
  return has_avx512vnni() && __builtin_cpu_supports("amx-tile") &&
         __builtin_cpu_supports("amx-int8") &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return 0;
#endif
}
#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>

// Bits of the kernel's interface; older headers lack the second.
enum { dot_product_bit = 20, i8mm_bit = 13 };

static int has_neon(void) { return getauxval(AT_HWCAP) >> dot_product_bit & 1; }

int ot_has_i8mm(void) { return getauxval(AT_HWCAP2) >> i8mm_bit & 1; }
#elif defined(__APPLE__)
#include <sys/sysctl.h>

static int has(const char *feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, NULL, 0) == 0 && value != 0;
}

static int has_neon(void) { return has("hw.optional.arm.FEAT_DotProd"); }

int ot_has_i8mm(void) { return has("hw.optional.arm.FEAT_I8MM"); }
#else
static int has_neon(void) { return 0; }

int ot_has_i8mm(void) { return 0; }
#endif
#endif

static int always(void) { return 1; }

/// All sets, the slowest first; those of other processors have no kernels.
static const struct {
  const char *name;
  const struct ot_kernels *kernels;
  int (*is_available)(void);
} sets[] = {
    {"scalar", &ot_kernels_scalar, always},
#if defined(__x86_64__)
    {"avx2", &ot_kernels_avx2, has_avx2},
    {"avxvnni", &ot_kernels_avxvnni, has_avxvnni},
    {"avx512vnni", &ot_kernels_avx512vnni, has_avx512vnni},
    {"amx", &ot_kernels_amx, has_amx},
#else
    {"avx2", NULL, NULL},
    {"avxvnni", NULL, NULL},
    {"avx512vnni", NULL, NULL},
    {"amx", NULL, NULL},
#endif
#if defined(__aarch64__)
    {"neon", &ot_kernels_neon, has_neon},
#else
    {"neon", NULL, NULL},
#endif
};

const struct ot_kernels *ot_kernels_named(const char *name, int *known) {
  *known = 1;
  for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
    if (strcmp(name, sets[i].name) != 0) continue;
    return sets[i].kernels && sets[i].is_available() ? sets[i].kernels : NULL;
  }
  *known = 0;
  return NULL;
}

const struct ot_kernels *ot_kernels_best(void) {
  for (size_t i = sizeof sets / sizeof *sets; i-- > 0;)
    if (sets[i].kernels && sets[i].is_available()) return sets[i].kernels;
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
