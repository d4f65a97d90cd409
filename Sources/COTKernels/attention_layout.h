// How attention divides its work, which decides its bits, and its scratch.
#ifndef OT_ATTENTION_LAYOUT_H
#define OT_ATTENTION_LAYOUT_H

#include <stddef.h>

enum {
  /// Keys between two corrections of the running sums.
  ot_key_block = 64,
  /// Most queries that are worked on at once.
  ot_most_queries = 8,
  // Scratch, in floats: scores or weights [queries][64], sums [queries][16],
  // maxima [16], the last channels of a block of values [64][16], and the
  // accumulators [queries][padded head size].
  ot_scratch_sums = ot_most_queries * ot_key_block,
  ot_scratch_maxima = ot_scratch_sums + ot_most_queries * 16,
  ot_scratch_values = ot_scratch_maxima + 16,
  ot_scratch_accumulators = ot_scratch_values + ot_key_block * 16,
};

static inline size_t ot_padded_head_size(size_t head_size) { return (head_size + 15) / 16 * 16; }

#endif
