// The division of attention's work, which decides its bits, and its scratch memory.
#ifndef OT_ATTENTION_LAYOUT_H
#define OT_ATTENTION_LAYOUT_H

#include <stddef.h>

#include "ot_attention.h"

enum {
  /// Keys between two corrections of the running sums.
  ot_key_block = 64,
  /// Most queries that are worked on at once.
  ot_most_queries = 8,
  // Scratch, in floats: scores or weights [queries][64], sums [queries][16],
  // maxima [16], the last channels of a block of values [64][16], and the
  // accumulators [queries][padded value size].
  ot_scratch_sums = ot_most_queries * ot_key_block,
  ot_scratch_maxima = ot_scratch_sums + ot_most_queries * 16,
  ot_scratch_values = ot_scratch_maxima + 16,
  ot_scratch_accumulators = ot_scratch_values + ot_key_block * 16,
};

enum {
  // Scratch of attention of codes, in floats: scores [queries][128], steps of
  // weights [queries][128], two digits of weights [2][queries][128] in bytes,
  // accumulators [queries][padded value size], and in bytes the queries, [queries][padded head size].
  ot_code_scratch_steps = ot_most_queries * OT_CODE_BLOCK,
  ot_code_scratch_digits = ot_code_scratch_steps + ot_most_queries * OT_CODE_BLOCK,
  ot_code_scratch_accumulators = ot_code_scratch_digits + 2 * ot_most_queries * OT_CODE_BLOCK / 4,
};

// Weights have one or two digits of 7 bits, so that they multiply signed and
// unsigned bytes alike.
#define OT_WEIGHT_BASE 128
#define OT_LARGEST_DIGIT 127.0f
/// Two, where one would lose too much: where the weights of a block, times their
/// values' scales, add up to less than so many times the most that one could be,
#define OT_COARSE_SUM 16.0f
/// unless that one is less than such a part of all weights before.
#define OT_COARSE_PART 64.0f
/// Value scales below this are as this: 1 / scale stays finite.
#define OT_SMALLEST_VALUE_SCALE 1e-30f

/// The first key that the query at `position` sees with such a window.
static inline size_t ot_first_seen(size_t position, size_t window) {
  return window != 0 && position + 1 > window ? position + 1 - window : 0;
}

/// The first key behind those that the query at `position` sees.
static inline size_t ot_end_seen(size_t position, int is_causal, size_t window, size_t key_count) {
  if (is_causal) return position + 1;
  // Not a sum, which could be too large.
  return window != 0 && position < key_count && window < key_count - position ? position + window : key_count;
}

static inline size_t ot_padded_head_size(size_t head_size) { return (head_size + 15) / 16 * 16; }

#endif
