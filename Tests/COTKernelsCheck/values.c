// Norms, activations, activation codes, epilogues and attention.
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
      BOTH(activate_multiply, (enum ot_activation)kind, x, y, n)
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

static void check_attention(
    const struct ot_kernels *a, const struct ot_kernels *b, size_t head_size, size_t key_count) {
  size_t padded = (key_count + 15) / 16 * 16, query_count = 1 + random_below(key_count);
  size_t query_floats = query_count * head_size;
  float *q = malloc(query_floats * 4), *k = malloc(key_count * head_size * 4 + 4);
  float *values = malloc(key_count * head_size * 4), *cache = malloc(padded * head_size * 4);
  float *other = malloc(padded * head_size * 4), *y = malloc(query_floats * 4);
  float *z = malloc(query_floats * 4);
  float *scratch = malloc(ot_attention_scratch_count(head_size) * 4);
  uint8_t *mask = malloc(key_count);
  fill_floats(q, query_floats, 0.02f, 0), fill_floats(k, key_count * head_size, 0.02f, 0);
  fill_floats(values, key_count * head_size, 0.02f, 0);
  for (size_t i = 0; i < key_count; i++) mask[i] = random_word() & 1;
  memset(cache, 255, padded * head_size * 4), memset(other, 255, padded * head_size * 4);
  size_t first = random_below(key_count);
  a->store_keys(k, head_size, first, head_size, 0, cache);
  a->store_keys(k + first * head_size, head_size, key_count - first, head_size, first, cache);
  b->store_keys(k, head_size, key_count, head_size, 0, other);
  expect(memcmp(cache, other, padded * head_size * 4) == 0, "store_keys", key_count);
  for (int i = 0; i < 8; i++) {
    struct ot_attention attention = {
        .q = q, .q_stride = head_size, .query_count = query_count, .keys = cache,
        .values = values, .value_stride = head_size, .key_count = key_count,
        .head_size = head_size, .first_position = key_count - query_count, .is_causal = i & 1,
        .scale = 0.125f, .slope = i & 2 ? 0.25f : 0, .mask = i & 4 ? mask : NULL, .y = y,
        .y_stride = head_size, .scratch = scratch};
    a->attention(&attention);
    attention.y = z;
    b->attention(&attention);
    expect(same_floats(y, z, query_floats), "attention", key_count);
  }
  free(q), free(k), free(values), free(cache), free(other), free(y), free(z), free(scratch);
  free(mask);
}

void check_mixing(const struct ot_kernels *a, const struct ot_kernels *b) {
  static const size_t head_sizes[] = {1, 6, 32, 64, 80};
  for (int i = 0; i < 5; i++) {
    size_t half = head_sizes[i] / 2, count = 3 * head_sizes[i];
    float x[240], y[240], cosines[40], sines[40];
    fill_floats(x, count, 1, 0), fill_floats(cosines, 40, 1, 0), fill_floats(sines, 40, 1, 0);
    memcpy(y, x, sizeof x);
    a->rotate(x, 3, head_sizes[i], cosines, sines, half);
    b->rotate(y, 3, head_sizes[i], cosines, sines, half);
    expect(same_floats(x, y, count), "rotate", count);
    for (size_t keys = 1; keys < 200; keys += 1 + random_below(60))
      check_attention(a, b, head_sizes[i], keys);
  }
}
