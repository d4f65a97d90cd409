// Attention of floats and of codes, and what prepares it.
#include "check.h"

static void check_attention(
    const struct ot_kernels *a, const struct ot_kernels *b, size_t head_size, size_t value_size,
    size_t key_count) {
  size_t padded = (key_count + 15) / 16 * 16, query_count = 1 + random_below(key_count);
  size_t query_floats = query_count * head_size, result_floats = query_count * value_size;
  float *q = malloc(query_floats * 4), *k = malloc(key_count * head_size * 4 + 4);
  float *values = malloc(key_count * value_size * 4), *cache = malloc(padded * head_size * 4);
  float *other = malloc(padded * head_size * 4), *y = malloc(result_floats * 4);
  float *z = malloc(result_floats * 4);
  float *scratch = malloc(ot_attention_scratch_count(head_size, value_size) * 4);
  uint8_t *mask = malloc(key_count);
  fill_floats(q, query_floats, 0.02f, 0), fill_floats(k, key_count * head_size, 0.02f, 0);
  fill_floats(values, key_count * value_size, 0.02f, 0);
  for (size_t i = 0; i < key_count; i++) mask[i] = random_word() & 1;
  memset(cache, 255, padded * head_size * 4), memset(other, 255, padded * head_size * 4);
  size_t first = random_below(key_count);
  a->store_keys(k, head_size, first, head_size, 0, cache);
  a->store_keys(k + first * head_size, head_size, key_count - first, head_size, first, cache);
  b->store_keys(k, head_size, key_count, head_size, 0, other);
  expect(memcmp(cache, other, padded * head_size * 4) == 0, "store_keys", key_count);
  static const float sink = 0.75f;
  for (int i = 0; i < 32; i++) {
    size_t window = i & 8 && i & 1 ? 1 + random_below(key_count) : 0;
    struct ot_attention attention = {
        .q = q, .q_stride = head_size, .query_count = query_count, .keys = cache,
        .values = values, .value_stride = value_size, .key_count = key_count,
        .head_size = head_size, .value_size = value_size, .first_position = key_count - query_count, .is_causal = i & 1,
        .window = window, .scale = 0.125f, .soft_cap = i & 16 ? 0.5f : 0,
        .slope = i & 2 ? 0.25f : 0, .mask = i & 4 ? mask : NULL, .y = y,
        .y_stride = value_size, .scratch = scratch, .sink = i % 3 == 0 ? &sink : NULL};
    a->attention(&attention);
    attention.y = z;
    b->attention(&attention);
    expect(same_floats(y, z, result_floats), "attention", key_count);
  }
  free(q), free(k), free(values), free(cache), free(other), free(y), free(z), free(scratch);
  free(mask);
}

/// Codes of at most `bits` bits: sometimes only the extremes.
static void fill_codes(int8_t *codes, size_t count, int bits) {
  int high = (1 << (bits - 1)) - 1, extreme = random_below(8) == 0;
  for (size_t i = 0; i < count; i++) {
    codes[i] = (int8_t)((int)random_below((size_t)(2 * high + 1)) - high);
    if (extreme) codes[i] = (int8_t)(codes[i] < 0 ? -high : high);
  }
}

/// Steps, among them some that are small, large or 0, and NaN if so wished.
static void fill_steps(float *steps, size_t count, int with_nan) {
  static const float odd[] = {0, 1, 1e-38f, 1e-31f, 1e10f, 3e38f};
  for (size_t i = 0; i < count; i++) {
    steps[i] = (float)(1 + random_below(1000)) * 1e-4f;
    if (random_below(40) == 0) steps[i] = odd[random_below(6)];
    if (with_nan && random_below(100) == 0) steps[i] = __builtin_nanf("");
  }
}

static void check_code_attention(
    const struct ot_kernels *a, const struct ot_kernels *b, size_t head_size, size_t value_size,
    size_t key_count) {
  size_t padded = (key_count + 15) / 16 * 16, query_count = 1 + random_below(key_count);
  size_t key_bytes = padded * ((head_size + 3) / 4 * 4), count = query_count * head_size;
  size_t value_bytes = padded * ((value_size + 15) / 16 * 16), result_count = query_count * value_size;
  int8_t *q = malloc(count), *k = malloc(key_count * head_size), *v = malloc(key_count * value_size);
  uint8_t *keys = malloc(key_bytes), *other_keys = malloc(key_bytes);
  int8_t *values = malloc(value_bytes), *other_values = malloc(value_bytes);
  float *q_scales = malloc(query_count * 4), *k_scales = malloc(padded * 4);
  float *v_scales = malloc(padded * 4), *y = malloc(result_count * 4), *z = malloc(result_count * 4);
  float *scratch = malloc(ot_code_attention_scratch_count(head_size, value_size) * 4);
  uint8_t *mask = malloc(key_count);
  int bits = 2 + (int)random_below(7), with_nan = random_below(4) == 0;
  fill_codes(q, count, bits), fill_codes(k, key_count * head_size, bits);
  fill_codes(v, key_count * value_size, bits);
  fill_steps(q_scales, query_count, with_nan), fill_steps(k_scales, padded, with_nan);
  fill_steps(v_scales, padded, with_nan);
  memset(k_scales + key_count, 255, (padded - key_count) * 4);
  memset(v_scales + key_count, 255, (padded - key_count) * 4);
  for (size_t i = 0; i < key_count; i++) mask[i] = random_word() & 1;
  fill(keys, key_bytes), memcpy(other_keys, keys, key_bytes);
  fill(values, value_bytes), memcpy(other_values, values, value_bytes);
  size_t first = random_below(key_count), rest = key_count - first, at = first * head_size;
  a->store_key_codes(k, head_size, first, head_size, 0, keys);
  a->store_key_codes(k + at, head_size, rest, head_size, first, keys);
  b->store_key_codes(k, head_size, key_count, head_size, 0, other_keys);
  expect(memcmp(keys, other_keys, key_bytes) == 0, "store_key_codes", key_count);
  a->store_value_codes(v, value_size, first, value_size, 0, values);
  a->store_value_codes(v + first * value_size, value_size, rest, value_size, first, values);
  b->store_value_codes(v, value_size, key_count, value_size, 0, other_values);
  expect(memcmp(values, other_values, value_bytes) == 0, "store_value_codes", key_count);
  static const float sink = 0.75f;
  for (int i = 0; i < 32; i++) {
    size_t window = i & 8 && i & 1 ? 1 + random_below(key_count) : 0;
    struct ot_code_attention attention = {
        .q = q, .q_stride = head_size, .query_count = query_count, .q_scales = q_scales,
        .keys = keys, .values = values, .key_scales = k_scales, .value_scales = v_scales,
        .key_count = key_count, .head_size = head_size, .value_size = value_size, .is_causal = i & 1,
        .first_position = key_count - query_count, .window = window, .scale = 0.125f,
        .soft_cap = i & 16 ? 0.5f : 0, .slope = i & 2 ? 0.25f : 0, .mask = i & 4 ? mask : NULL,
        .y = y, .y_stride = value_size, .scratch = scratch, .sink = i % 3 == 0 ? &sink : NULL};
    a->code_attention(&attention);
    attention.y = z;
    b->code_attention(&attention);
    expect(same_floats(y, z, result_count), "code_attention", key_count);
  }
  free(q), free(k), free(v), free(keys), free(other_keys), free(values), free(other_values);
  free(q_scales), free(k_scales), free(v_scales), free(y), free(z), free(scratch), free(mask);
}

void check_mixing(const struct ot_kernels *a, const struct ot_kernels *b) {
  static const size_t head_sizes[] = {1, 6, 32, 64, 80}, value_sizes[] = {1, 20, 32, 48, 80};
  for (int i = 0; i < 5; i++) {
    size_t half = head_sizes[i] / 2, count = 3 * head_sizes[i];
    float x[240], y[240], cosines[40], sines[40];
    fill_floats(x, count, 1, 0), fill_floats(cosines, 40, 1, 0), fill_floats(sines, 40, 1, 0);
    memcpy(y, x, sizeof x);
    a->rotate(x, 3, head_sizes[i], cosines, sines, half);
    b->rotate(y, 3, head_sizes[i], cosines, sines, half);
    expect(same_floats(x, y, count), "rotate", count);
    if (head_sizes[i] % 16 == 0 && (head_sizes[i] & (head_sizes[i] - 1)) == 0) {
      a->hadamard(x, count, head_sizes[i], x);
      b->hadamard(y, count, head_sizes[i], y);
      expect(same_floats(x, y, count), "hadamard", count);
    }
    for (size_t keys = 1; keys < 200; keys += 1 + random_below(60))
      check_attention(a, b, head_sizes[i], value_sizes[i], keys);
    for (size_t keys = 1; keys < 400; keys += 1 + random_below(90))
      check_code_attention(a, b, head_sizes[i], value_sizes[i], keys);
  }
}
