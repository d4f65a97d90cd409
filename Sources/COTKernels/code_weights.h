// From scores to weights: the softmax of attention of codes, a block of keys at a time.

/// Two vectors of sums (or maxima) of half as many lanes as `width` says.
#define OT_HALVED(a, b, low, high)                                                \
  (is_sum ? __builtin_shufflevector(a, b, low) + __builtin_shufflevector(a, b, high) \
          : greater(__builtin_shufflevector(a, b, low), __builtin_shufflevector(a, b, high)))
#define OT_LANES(...) __VA_ARGS__

/// In lane r the largest lane of x[r], NaN left out, or the sum of its lanes in the
/// order of the fixed tree: the trees of 8 queries in the steps of about 2.
OT_INLINE f32x16 reduced_rows(const f32x16 x[8], int is_sum) {
  f32x16 y[4], z[2], w;
  for (int i = 0; i < 4; i++)
    y[i] = OT_HALVED(
        x[2 * i], x[2 * i + 1], OT_LANES(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
        OT_LANES(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31));
  for (int i = 0; i < 2; i++)
    z[i] = OT_HALVED(
        y[2 * i], y[2 * i + 1], OT_LANES(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
        OT_LANES(4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31));
  w = OT_HALVED(
      z[0], z[1], OT_LANES(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29),
      OT_LANES(2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31));
  return OT_HALVED(
      w, w, OT_LANES(0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14),
      OT_LANES(1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15));
}
#undef OT_HALVED
#undef OT_LANES

OT_INLINE i32x16 seen_codes(const struct ot_code_queries *b, int r, size_t key) {
  return seen_keys(b->a->mask, b->a->key_count, key, b->begin[r], b->end[r]);
}

/// Scales of 16 values, 0 for those that query r does not see.
OT_INLINE f32x16 seen_scales(
    const struct ot_code_queries *b, const float *scales, int r, size_t key, int sees_all) {
  f32x16 scale = OT_LOAD(f32x16, scales + key);
  return sees_all ? scale : blend(seen_codes(b, r, key), scale, splat(0));
}

/// Finds the largest scale of the values from `first` on that query r sees.
OT_INLINE void compare_scales(
    struct ot_code_queries *b, int r, size_t first, size_t vector_count, int sees_all) {
  f32x16 largest = splat(OT_SMALLEST_VALUE_SCALE);
  i32x16 is_nan = {0};
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 key_scale = seen_scales(b, b->a->key_scales, r, first + v * 16, sees_all);
    f32x16 scale = seen_scales(b, b->a->value_scales, r, first + v * 16, sees_all);
    largest = greater(scale, largest);
    is_nan |= (key_scale != key_scale) | (scale != scale);
  }
  OT_REDUCE(largest, a > b ? a : b)
  OT_REDUCE(is_nan, a | b)
  b->scales[r] = largest[0];
  b->faults[r] = is_nan[0] ? __builtin_nanf("") : 0;
}

/// The steps of the weights of query r.
OT_INLINE void step_weights(
    struct ot_code_queries *b, int r, size_t first, size_t vector_count, int sees_all) {
  f32x16 step = splat(OT_LARGEST_DIGIT / b->scales[r]);
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 scale = seen_scales(b, b->a->value_scales, r, first + v * 16, sees_all) * step;
    OT_STORE(b->steps + r * OT_CODE_BLOCK + v * 16, scale);
  }
}

/// Turns the integer scores of query r with the keys from `first` on into floats;
/// returns their largest by lanes.
OT_INLINE f32x16 scale_scores(
    const struct ot_code_queries *b, int r, size_t first, size_t vector_count, int sees_all) {
  const float *key_scales = b->a->key_scales + first;
  float *scores = b->scores + r * OT_CODE_BLOCK;
  size_t position = b->a->first_position + b->query + (size_t)r;
  // That of the first key's distance from the query.
  const float *bias = b->a->bias == NULL ? NULL : b->a->bias + first - position;
  f32x16 factor = splat(b->factor[r]), slope = splat(b->slope);
  f32x16 largest = splat(-__builtin_inff());
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 step = OT_LOAD(f32x16, key_scales + v * 16) * factor;
    f32x16 value = __builtin_convertvector(OT_LOAD(i32x16, scores + v * 16), f32x16) * step;
    if (b->cap != 0) value = splat(b->cap) * tangent(value);
    if (!sees_all) {
      if (b->slope != 0) {
        i32x16 keys;
        for (int lane = 0; lane < 16; lane++) keys[lane] = (int32_t)(first + v * 16) + lane;
        f32x16 sloped = slope * __builtin_convertvector(keys, f32x16);
        value = value + sloped;
      }
      if (bias != NULL) {
        f32x16 added = OT_LOAD(f32x16, bias + v * 16) * splat(OT_LOG2_E);
        value = value + added;
      }
      value = blend(seen_codes(b, r, first + v * 16), value, splat(-__builtin_inff()));
    }
    OT_STORE(scores + v * 16, value);
    largest = greater(value, largest);
  }
  return largest;
}

/// Turns the scores of query r into weights; gives their sums, and those of weights
/// times `steps`, by lanes.
OT_INLINE void weigh_codes(
    const struct ot_code_queries *b, int r, float largest, const float *steps, size_t first,
    size_t vector_count, int sees_all, f32x16 *sums, f32x16 *scaled_sums) {
  float *scores = b->scores + r * OT_CODE_BLOCK;
  f32x16 sum = splat(0), scaled_sum = splat(0);
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 p = decay2(OT_LOAD(f32x16, scores + v * 16) - splat(largest));
    if (!sees_all) p = blend(seen_codes(b, r, first + v * 16), p, splat(0));
    OT_STORE(scores + v * 16, p);
    sum = sum + p;
    scaled_sum = fma_of(p, OT_LOAD(f32x16, steps + v * 16), scaled_sum);
  }
  *sums = sum;
  *scaled_sums = scaled_sum;
}

/// The weights of query r in one digit, or two if `is_fine`.
OT_INLINE void round_weights(
    const struct ot_code_queries *b, int r, const float *steps, size_t vector_count,
    int is_fine) {
  const float *weights = b->scores + r * OT_CODE_BLOCK;
  int8_t *high = b->digits + r * OT_CODE_BLOCK, *low = high + ot_most_queries * OT_CODE_BLOCK;
  for (size_t v = 0; v < vector_count; v++) {
    f32x16 step = OT_LOAD(f32x16, steps + v * 16);
    if (is_fine) step = step * splat(OT_WEIGHT_BASE);
    u32x16 weight =
        (u32x16)fma_of(OT_LOAD(f32x16, weights + v * 16), step, splat(OT_ROUNDER));
    if (is_fine) {
      u32x16 rest = weight & (OT_WEIGHT_BASE - 1);
      OT_STORE(low + v * 16, __builtin_convertvector(rest, i8x16));
      weight = weight / OT_WEIGHT_BASE;
    }
    OT_STORE(high + v * 16, __builtin_convertvector(weight, i8x16));
  }
}

// MARK: Blocks

/// The side that is corrected to the larger maximum: the sums so far, or the block's.
OT_INLINE void compare_maxima(struct ot_code_queries *b, f32x16 block_maxima) {
  i32x16 grows = block_maxima > b->maxima;
  f32x16 larger = blend(grows, block_maxima, b->maxima);
  f32x16 smaller = blend(grows, b->maxima, block_maxima);
  f32x16 factors = decay2(smaller - larger);
  b->maxima = larger;
  b->corrections = blend(grows, factors, splat(1));
  b->units = blend(grows, splat(1), factors);
}

OT_INLINE void add_totals(struct ot_code_queries *b, f32x16 block_maxima, f32x16 sums) {
  i32x16 is_infinite = block_maxima == splat(__builtin_inff());
  f32x16 units = blend(is_infinite, splat(__builtin_nanf("")), b->units);
  units = units + OT_LOAD(f32x16, b->faults);
  f32x16 corrected = b->totals * b->corrections;
  b->totals = fma_of(sums, units, corrected);
  f32x16 steps = OT_LOAD(f32x16, b->scales) * splat(1 / (OT_LARGEST_DIGIT * OT_WEIGHT_BASE));
  b->units = units * steps;
}

/// Weights of `rows` queries for the keys from `first` on; returns whether any have
/// two digits. `sees_all` says that all queries see all of them, without slopes and biases.
OT_INLINE int weigh_block(
    struct ot_code_queries *b, int rows, size_t first, size_t vector_count, int sees_all) {
  f32x16 sums[8] = {{0}}, scaled_sums[8] = {{0}};
  float maxima[16];
  int32_t is_fine[16], any_fine = 0;
  size_t steps_stride = sees_all ? 0 : OT_CODE_BLOCK;
  for (int r = 0; r < rows; r++) sums[r] = scale_scores(b, r, first, vector_count, sees_all);
  f32x16 block_maxima = reduced_rows(sums, 0);
  compare_maxima(b, block_maxima);
  OT_STORE(maxima, block_maxima);
  for (int r = 0; r < (sees_all ? 1 : rows); r++) {
    compare_scales(b, r, first, vector_count, sees_all);
    step_weights(b, r, first, vector_count, sees_all);
  }
  if (sees_all) {
    OT_STORE(b->scales, splat(b->scales[0]));
    OT_STORE(b->faults, splat(b->faults[0]));
  }
  for (int r = 0; r < rows; r++)
    weigh_codes(
        b, r, maxima[r], b->steps + (size_t)r * steps_stride, first, vector_count, sees_all,
        &sums[r], &scaled_sums[r]);
  i32x16 is_peaked = reduced_rows(scaled_sums, 1) < splat(OT_COARSE_SUM * OT_LARGEST_DIGIT);
  OT_STORE(is_fine, is_peaked & (b->units * splat(OT_COARSE_PART) > b->totals * b->corrections));
  add_totals(b, block_maxima, reduced_rows(sums, 1));
  for (int r = 0; r < rows; r++) any_fine |= is_fine[r];
  for (int r = 0; r < rows; r++) {
    const float *steps = b->steps + (size_t)r * steps_stride;
    if (is_fine[r]) {
      round_weights(b, r, steps, vector_count, 1);
    } else {
      round_weights(b, r, steps, vector_count, 0);
      if (any_fine)
        __builtin_memset(b->digits + (ot_most_queries + r) * OT_CODE_BLOCK, 0, OT_CODE_BLOCK);
    }
  }
  return any_fine;
}
