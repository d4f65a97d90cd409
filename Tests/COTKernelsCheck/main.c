// Compares the kernels of one instruction set with the scalar ones, bit for bit,
// over random data: for sets that the machine of the tests lacks, run under an
// emulator (scripts/check-arm) or with emulated instructions (scripts/check-amx).
//
//   kernels-check <set> [seed]
//
// Exit status 0: all agree; 1: they do not; 2: the set is not available.
#include "check.h"

uint64_t state;
int failure_count;

uint32_t random_word(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state >> 16);
}

size_t random_below(size_t bound) { return random_word() % bound; }

void fill(void *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) ((uint8_t *)bytes)[i] = (uint8_t)random_word();
}

void fill_floats(float *x, size_t count, float scale, int with_nonfinite) {
  for (size_t k = 0; k < count; k++) {
    uint32_t bits = random_word();
    switch (random_below(with_nonfinite ? 8 : 6)) {
      case 0: x[k] = ((float)random_below(281) - 139.5f) * scale; break;
      case 1: bits &= 0x807FFFFF; memcpy(&x[k], &bits, 4); break;
      case 2: x[k] = bits & 1 ? -0.0f : 0.0f; break;
      case 3: bits = (bits & 0x9FFFFFFF) + 0x10000000; memcpy(&x[k], &bits, 4); break;
      case 4:
      case 5: x[k] = ((float)bits / 2147483648.0f - 1) * 150 * scale; break;
      default: bits |= 0x7F800000; memcpy(&x[k], &bits, 4);
    }
  }
}

void expect(int agrees, const char *kernel, size_t count) {
  if (agrees) return;
  if (failure_count++ < 20) printf("%s differs, count %zu\n", kernel, count);
}

int same_floats(const float *x, const float *y, size_t count) {
  for (size_t k = 0; k < count; k++)
    if (memcmp(x + k, y + k, 4) != 0 && !(x[k] != x[k] && y[k] != y[k])) return 0;
  return 1;
}

static void check_conversions(const struct ot_kernels *a, const struct ot_kernels *b, size_t n) {
  static uint64_t source[most];
  static float x[most], y[most];
  static uint16_t u[most], v[most];
  fill(source, sizeof source);
#define WIDEN(kernel, size)                                            \
  a->kernel(source, x, n), b->kernel(source, y, n);                    \
  expect(memcmp(x, y, n * 4) == 0, #kernel, n);
  WIDEN(f32_from_f16, 2)
  WIDEN(f32_from_bf16, 2)
  WIDEN(f32_from_f64, 8)
  fill_floats((float *)source, most, 1, 1);
#define NARROW(kernel)                                                 \
  a->kernel((float *)source, u, n), b->kernel((float *)source, v, n);  \
  expect(memcmp(u, v, n * 2) == 0, #kernel, n);
  NARROW(f16_from_f32)
  NARROW(bf16_from_f32)
}

static void check_rows(const struct ot_kernels *a, const struct ot_kernels *b, size_t n) {
  static float x[most], y[most], p[most], q[most];
  static uint8_t u[most], v[most];
  static int8_t s[most], t[most];
  for (int nonfinite = 0; nonfinite < 2; nonfinite++) {
    float scale = (float)(1 + random_below(999)) / 500, divisor = 0.7f;
    fill_floats(x, most, scale, nonfinite);
    fill_floats(y, most, 1, 0);
    for (int i = 0; i < 4; i++) {
      memcpy(p, x, sizeof x), memcpy(q, x, sizeof x);
      a->transform_row(p, i & 1 ? y : NULL, i & 2 ? &divisor : NULL, n);
      b->transform_row(q, i & 1 ? y : NULL, i & 2 ? &divisor : NULL, n);
      expect(same_floats(p, q, n), "transform_row", n);
    }
    float d = a->dot(x, y, n), e = b->dot(x, y, n);
    expect(same_floats(&d, &e, 1), "dot", n);
    struct ot_range r = a->range(x, n), w = b->range(x, n);
    expect(
        same_floats(&r.minimum, &w.minimum, 1) && same_floats(&r.maximum, &w.maximum, 1) &&
            r.first_nonfinite == w.first_nonfinite,
        "range", n);
    struct ot_error f = {0, 0, 0}, g = {0, 0, 0};
    a->quantize_row(x, n, scale, 100, 1, 250, u, &f);
    b->quantize_row(x, n, scale, 100, 1, 250, v, &g);
    int same_errors = nonfinite || memcmp(&f.squared_error, &g.squared_error, 16) == 0;
    expect(same_errors && memcmp(u, v, n) == 0, "quantize_row", n);
    a->dequantize_row(u, n, scale, 31, p), b->dequantize_row(u, n, scale, 31, q);
    expect(same_floats(p, q, n), "dequantize_row", n);
    a->quantize_static(x, n, -128, 127, s), b->quantize_static(x, n, -128, 127, t);
    expect(memcmp(s, t, n) == 0, "quantize_static", n);
    expect(a->sum(s, n) == b->sum(s, n), "sum", n);
  }
}

static void check_tiles(const struct ot_kernels *a, const struct ot_kernels *b) {
  enum { columns = 192, count = 16 * columns };
  static uint8_t codes[count], x[count], y[count];
  fill(codes, count);
#define MOVE(kernel, ...)                                              \
  memset(x, 1, count), memset(y, 1, count);                            \
  a->kernel(__VA_ARGS__ x), b->kernel(__VA_ARGS__ y);                  \
  expect(memcmp(x, y, count) == 0, #kernel, count);
  MOVE(interleave, codes, columns, columns, )
  MOVE(unpack6, codes, count, )
  MOVE(unpack4, codes, count, )
  a->deinterleave(codes, columns, x, columns), b->deinterleave(codes, columns, y, columns);
  expect(memcmp(x, y, count) == 0, "deinterleave", count);
  for (size_t i = 0; i < count; i++) codes[i] &= 63;
  MOVE(pack6, codes, count, )
  for (size_t i = 0; i < count; i++) codes[i] &= 15;
  MOVE(pack4, codes, count, )
  for (size_t n = 0; n < 200; n++) {
    size_t at = random_below(n + 1);
    memset(x, 7, n + 1);
    if (at < n) x[at] = random_word() & 1 ? 6 : 31;
    expect(a->first_outside(x, n, 7, 30) == b->first_outside(x, n, 7, 30), "first_outside", n);
  }
}

static void check_product(
    const struct ot_kernels *a, const struct ot_kernels *b, size_t rows, size_t tiles,
    size_t columns, int extreme) {
  size_t padded = (columns + 63) / 64 * 64, width = tiles * 16 + random_below(5);
  // Buffers end where the data ends, so that an emulator sees what reads beyond.
  int8_t *x = malloc(rows * padded + 1);
  int32_t *y = malloc(rows * width * 4 + 1), *z = malloc(rows * width * 4 + 1);
  uint8_t *scratch = malloc(OT_PRODUCT_SCRATCH);
  fill(x, rows * padded);
  if (extreme) memset(x, extreme == 1 ? -128 : 127, rows * padded);
  for (int bits = 4; bits <= 8; bits += 2) {
    size_t tile_byte_count = padded * 2 * (size_t)bits;
    uint8_t *codes = malloc(tiles * tile_byte_count + 1);
    fill(codes, tiles * tile_byte_count);
    if (extreme) memset(codes, 255, tiles * tile_byte_count);
    size_t first = random_below(padded / 16 + 1), end = first + random_below(padded / 16 + 1 - first);
    for (int part = 0; part < 2; part++) {
      struct ot_product p = {
          .tiles = codes, .tile_byte_count = tile_byte_count, .tile_count = tiles,
          .first_column = part ? first * 16 : 0, .column_count = part ? (end - first) * 16 : padded,
          .x = x, .x_stride = padded, .x_count = rows, .y = y, .y_stride = width,
          .scratch = scratch};
      memset(y, 7, rows * width * 4), memset(z, 7, rows * width * 4);
      fill(scratch, 512);
      (bits == 8 ? a->product8 : bits == 6 ? a->product6 : a->product4)(&p);
      p.y = z;
      (bits == 8 ? b->product8 : bits == 6 ? b->product6 : b->product4)(&p);
      if (memcmp(y, z, rows * width * 4) != 0) {
        printf("bits %d, %zu tiles, columns %zu + %zu:\n", bits, tiles, p.first_column, p.column_count);
        expect(0, "product", rows);
      }
    }
    free(codes);
  }
  free(x), free(y), free(z), free(scratch);
}

/// Products of groups, on codes that have scales and sums of their own or, with `extreme`, are
/// the largest ones.
static void check_groups(
    const struct ot_kernels *a, const struct ot_kernels *b, size_t rows, size_t tiles,
    size_t columns, size_t group_size, int extreme) {
  size_t padded = (columns + 63) / 64 * 64, width = tiles * 16 + random_below(5);
  size_t group_count = (padded + group_size - 1) / group_size;
  int8_t *x = malloc(rows * padded + 1);
  struct ot_code_row *groups = malloc(rows * group_count * sizeof *groups + 1);
  int32_t *zero_points = malloc(tiles * 64 + 1);
  int32_t *zeros = malloc(rows * group_count * 4 + 1);
  int32_t *weight_sums = malloc(tiles * group_count * 64 + 1);
  float *y = malloc(rows * width * 4 + 1), *z = malloc(rows * width * 4 + 1);
  uint8_t *scratch = malloc(OT_PRODUCT_SCRATCH);
  fill(x, rows * padded);
  for (size_t i = 0; i < rows * padded; i++)
    if (x[i] == -128) x[i] = -127;
  if (extreme) memset(x, extreme == 1 ? -127 : 127, rows * padded);
  for (size_t i = 0; i < tiles * 16; i++) zero_points[i] = extreme ? 0 : (int32_t)random_below(256);
  for (size_t m = 0; m < rows; m++) {
    for (size_t g = 0; g < group_count; g++) {
      size_t left = padded - g * group_size;
      struct ot_code_row *group = &groups[m * group_count + g];
      group->scale = (float)random_below(1 << 20) * 0x1p-24f;
      group->sum = a->sum(x + m * padded + g * group_size, left < group_size ? left : group_size);
    }
  }
  for (size_t i = 0; i < rows * group_count; i++) zeros[i] = (int32_t)random_below(256) - 128;
  for (size_t i = 0; i < tiles * group_count * 16; i++)
    weight_sums[i] = (int32_t)random_below(2 * 255 * 256) - 255 * 256;
  for (int bits = 4; bits <= 8; bits += 2) {
    size_t tile_byte_count = padded * 2 * (size_t)bits;
    uint8_t *codes = malloc(tiles * tile_byte_count + 1);
    fill(codes, tiles * tile_byte_count);
    if (extreme) memset(codes, 255, tiles * tile_byte_count);
    size_t first = random_below(group_count), end = first + random_below(group_count + 1 - first);
    for (int form = 0; form < 4; form++) {
      int part = form & 1;
      size_t last = end * group_size < padded ? end * group_size : padded;
      struct ot_product p = {
          .tiles = codes, .tile_byte_count = tile_byte_count, .tile_count = tiles,
          .first_column = part ? first * group_size : 0,
          .column_count = part ? last - (first * group_size < last ? first * group_size : last) : padded,
          .x = x, .x_stride = padded, .x_count = rows, .y = y, .y_stride = width,
          .scratch = scratch, .group_size = group_size, .groups = groups,
          .group_stride = group_count, .zero_point = zero_points,
          .group_zeros = form & 2 ? zeros : NULL, .weight_sums = form & 2 ? weight_sums : NULL};
      memset(y, 7, rows * width * 4), memset(z, 7, rows * width * 4);
      fill(scratch, 512);
      (bits == 8 ? a->grouped_product8 : bits == 6 ? a->grouped_product6 : a->grouped_product4)(&p);
      p.y = z;
      (bits == 8 ? b->grouped_product8 : bits == 6 ? b->grouped_product6 : b->grouped_product4)(&p);
      if (memcmp(y, z, rows * width * 4) != 0) {
        printf(
            "bits %d, %zu tiles, columns %zu + %zu, groups of %zu:\n", bits, tiles, p.first_column,
            p.column_count, group_size);
        expect(0, "product of groups", rows);
      }
    }
    free(codes);
  }
  free(zeros), free(weight_sums), free(x), free(groups), free(zero_points), free(y), free(z), free(scratch);
}

int main(int argument_count, char **arguments) {
  const char *name = argument_count > 1 ? arguments[1] : "";
  state = argument_count > 2 ? strtoull(arguments[2], NULL, 10) : 1;
  uint64_t seed = state = state * 0x9E3779B97F4A7C15u | 1;
  int known = 0;
  const struct ot_kernels *set = ot_kernels_named(name, &known);
#if defined(OT_EMULATED_TILES)
  if (strcmp(name, "amx") == 0 && ot_kernels_named("avx512vnni", &known)) set = &ot_kernels_amx;
#endif
  if (!set) {
    printf("%s: not available here\n", name);
    return 2;
  }
  for (size_t n = 0; n < 1001; n += n < 70 ? 1 : 186) {
    check_conversions(set, &ot_kernels_scalar, n);
    check_rows(set, &ot_kernels_scalar, n);
    check_values(set, &ot_kernels_scalar, n);
  }
  check_mixing(set, &ot_kernels_scalar);
  check_tiles(set, &ot_kernels_scalar);
  for (size_t rows = 0; rows <= 70; rows++)
    check_product(set, &ot_kernels_scalar, rows, random_below(6), 1 + random_below(300), 0);
  for (int i = 0; i < 3; i++) {
    check_product(set, &ot_kernels_scalar, 9 + random_below(40), 5, 2100 + random_below(300), i);
    check_product(set, &ot_kernels_scalar, 1 + random_below(4), 2, 2100 + random_below(300), i);
  }
  check_product(set, &ot_kernels_scalar, 800, 5, 100, 0);
  for (size_t rows = 0; rows <= 70; rows++) {
    size_t group_size = (size_t)32 << random_below(4);
    check_groups(
        set, &ot_kernels_scalar, rows, random_below(6), 1 + random_below(300), group_size, 0);
  }
  for (size_t group_size = 32; group_size <= 256; group_size *= 2) {
    for (int i = 0; i < 3; i++)
      check_groups(
          set, &ot_kernels_scalar, 9 + random_below(9), 5, 2100 + random_below(100), group_size, i);
    check_groups(set, &ot_kernels_scalar, 3, 2, 2100 + random_below(300), group_size, 0);
  }
#if defined(__aarch64__)
  printf("%s%s, ", name, ot_has_i8mm() ? " with i8mm" : " with dotprod only");
#else
  printf("%s, ", name);
#endif
  printf("seed %llu: ", (unsigned long long)seed);
  if (failure_count == 0) {
    puts("as scalar, bit for bit");
    return 0;
  }
  printf("%d differences\n", failure_count);
  return 1;
}
