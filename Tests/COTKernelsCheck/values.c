// Norms, activations, activation codes and epilogues.
#include "check.h"

static void check_codes(
    const struct ot_kernels *a, const struct ot_kernels *b, const float *x, size_t n) {
  static int8_t q[3 * most], r[3 * most];
  int32_t sums[3], other_sums[3];
  struct ot_code_row s = a->quantize_static(x, n, -128, 127, q);
  struct ot_code_row t = b->quantize_static(x, n, -128, 127, r);
  expect(s.scale == t.scale && s.sum == t.sum && memcmp(q, r, n) == 0, "quantize_static", n);
  s = a->quantize_dynamic(x, n, -127, 127, q), t = b->quantize_dynamic(x, n, -127, 127, r);
  int same = same_floats(&s.scale, &t.scale, 1) && s.sum == t.sum;
  expect(same && memcmp(q, r, n) == 0, "quantize_dynamic", n);
  struct ot_offset_row c = a->quantize_asymmetric(x, n, -128, 127, q);
  struct ot_offset_row d = b->quantize_asymmetric(x, n, -128, 127, r);
  same = same_floats(&c.scale, &d.scale, 1) && c.sum == d.sum && c.zero == d.zero;
  expect(same && memcmp(q, r, n) == 0, "quantize_asymmetric", n);
  struct ot_code_row groups[most / 32], other_groups[most / 32];
  for (size_t size = 32; size <= 256; size *= 2) {
    a->quantize_groups(x, n, size, -127, 127, q, groups);
    b->quantize_groups(x, n, size, -127, 127, r, other_groups);
    for (size_t g = 0; g < (n + size - 1) / size; g++) {
      same = same_floats(&groups[g].scale, &other_groups[g].scale, 1);
      expect(same && groups[g].sum == other_groups[g].sum, "quantize_groups", n);
    }
    expect(memcmp(q, r, n) == 0, "quantize_groups", n);
  }
  memset(q, 1, sizeof q), memset(r, 1, sizeof r);
  float scale = a->split_digits(x, n, q, most, sums);
  float other_scale = b->split_digits(x, n, r, most, other_sums);
  same = same_floats(&scale, &other_scale, 1) && memcmp(sums, other_sums, sizeof sums) == 0;
  expect(same && memcmp(q, r, sizeof q) == 0, "split_digits", n);
}

static void check_epilogue(const struct ot_kernels *a, const struct ot_kernels *b, size_t n) {
  static int32_t p[6 * most], sums[6], zero_points[most];
  static float scales[most], bias[most], token_scales[2], y[2 * most], z[2 * most];
  fill(p, sizeof p), fill(sums, sizeof sums);
  fill_floats(scales, most, 1e-3f, 0), fill_floats(bias, most, 1, 0);
  // Steps are positive.
  for (int t = 0; t < 2; t++) token_scales[t] = (float)(1 + random_below(1000)) / 300;
  for (int k = 0; k < most; k++) zero_points[k] = (int32_t)random_below(256);
  for (int i = 0; i < 16; i++) {
    fill_floats(y, 2 * most, 1, 0), memcpy(z, y, sizeof y);
    struct ot_epilogue e = {
        .p = p, .p_stride = most, .sums = sums, .scale = scales, .zero_point = zero_points,
        .token_scale = i & 1 ? token_scales : NULL, .bias = i & 2 ? bias : NULL, .row_count = 2,
        .count = n, .is_split = i >> 2 & 1, .accumulate = i >> 3 & 1, .is_last = i % 5 != 0,
        .y = y, .y_stride = most};
    a->epilogue(&e);
    e.y = z;
    b->epilogue(&e);
    expect(same_floats(y, z, 2 * most), "epilogue", n);
    static int32_t weight_sums[most], token_zeros[2];
    if (!e.is_split) {
      fill(weight_sums, sizeof weight_sums);
      for (int t = 0; t < 2; t++) token_zeros[t] = (int32_t)random_below(256) - 128;
      e.weight_sum = weight_sums, e.token_zero = token_zeros;
      b->epilogue(&e);
      e.y = y;
      a->epilogue(&e);
      expect(same_floats(y, z, 2 * most), "epilogue of codes of 0", n);
      e.token_zero = NULL, e.y = z;
    }
    static float parts[2 * most];
    fill_floats(parts, 2 * most, 1, 0);
    e.p = e.sums = e.zero_point = NULL, e.parts = parts, e.is_split = 0;
    b->epilogue(&e);
    e.y = y;
    a->epilogue(&e);
    expect(same_floats(y, z, 2 * most), "epilogue of groups", n);
  }
}

void check_values(const struct ot_kernels *a, const struct ot_kernels *b, size_t n) {
  static float x[most], y[most], u[most], v[most];
  for (int nonfinite = 0; nonfinite < 2; nonfinite++) {
    fill_floats(x, most, 0.02f, nonfinite), fill_floats(y, most, 1, 0);
    memset(u, 1, sizeof u), memset(v, 1, sizeof v);
#define BOTH(kernel, ...)                                              \
  a->kernel(__VA_ARGS__, u), b->kernel(__VA_ARGS__, v);                \
  expect(same_floats(u, v, most), #kernel, n);
    for (int kind = OT_RELU; kind <= OT_TANH; kind++) {
      BOTH(activate, (enum ot_activation)kind, x, n)
    }
    BOTH(add, x, y, n)
    BOTH(multiply, x, y, n)
    for (int i = 0; i < 4; i++) {
      const float *one = i & 1 ? y : NULL, *two = i & 2 ? y + 7 : NULL;
      if (n + 7 > most) two = NULL;
      BOTH(affine, x, one, two, n)
      BOTH(layer_norm, x, n, 1e-5f, one, two)
      BOTH(rms_norm, x, n, 1e-5f, one, two)
    }
    check_codes(a, b, x, n);
  }
  check_epilogue(a, b, n);
}
