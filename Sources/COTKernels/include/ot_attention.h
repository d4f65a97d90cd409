// The arguments of attention: of floats, and of quantized values.
#ifndef OT_ATTENTION_H
#define OT_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

/// Attention of consecutive queries of one head:
/// y = softmax(cap(scale * (q . k)) + slope * position of k + bias[position of k - position of q]) v.
///
/// Keys are taken in blocks of 64 positions from 0 on, with a running maximum
/// and sum, so a query's result depends only on itself and the keys it sees: it
/// has the same bits in whatever pieces the queries come. A weight below 2^-126
/// of the largest one is 0.
struct ot_attention {
  const float *_Nonnull q;
  size_t q_stride, query_count;
  /// As `store_keys` lays them, in whole blocks of 16 positions; what stands
  /// beyond `key_count` does not matter.
  const float *_Nonnull keys;
  /// [position][value_size].
  const float *_Nonnull values;
  /// Channels of a query and of a key, and those of a value and of a result.
  size_t value_stride, key_count, head_size, value_size;
  /// Position of query 0. A causal query at position p sees keys 0 ... p, which
  /// there must be; otherwise all keys are seen, or those of the window.
  size_t first_position;
  int is_causal;
  /// A query sees keys whose distance from it is less than this; 0 for all.
  size_t window;
  float scale;
  /// cap(s) = soft_cap * tanh(s / soft_cap); 0 for s itself.
  float soft_cap;
  /// ALiBi; 0 for none.
  float slope;
  /// Added to scores, by the distance of the key from the query, from here on in both directions; NULL for none.
  /// There are elements for -(position of the last query) ..< key_count rounded up to 16.
  const float *_Nullable bias;
  /// Per key, 0 for one that is not seen. A query that sees none gets the value
  /// at its own position, 0 where there is none.
  const uint8_t *_Nullable mask;
  float *_Nonnull y;
  size_t y_stride;
  /// `ot_attention_scratch_count(head_size, value_size)` floats.
  float *_Nonnull scratch;
  /// A score that takes part in the softmax and has no value; NULL for none. No slope or bias is added to it.
  const float *_Nullable sink;
};

/// Attention as `ot_attention` says, of codes -127 ... 127 with one step per
/// token: q = q_scales[query] * code, likewise keys and values. Products of codes
/// are summed exactly, with scores so:
///   cap((float)(sum of codes' products) * (key_scales[t] * (q_scales[i] * scale))) +
///   slope * t + bias[t - position of i].
///
/// Keys are taken in blocks of OT_CODE_BLOCK positions from 0 on. Weights are first
/// relative to the largest of their block. Times value_scales[t] they are rounded to
/// integers: the weight 1, with the largest value scale that the query sees in the
/// block, becomes 127 * 128. Blocks of even weights, whose errors cancel out, and
/// those of small ones make do with 127. The sum of weights that the result is divided
/// by is that of the weights before rounding.
///
/// A query that sees a scale of NaN, or whose own is, gets NaN, but only the codes
/// and scales that it sees matter.
struct ot_code_attention {
  const int8_t *_Nonnull q;
  size_t q_stride, query_count;
  /// One per query.
  const float *_Nonnull q_scales;
  /// As `store_key_codes` and `store_value_codes` lay them, in whole blocks of 16
  /// positions.
  const uint8_t *_Nonnull keys;
  const int8_t *_Nonnull values;
  /// One per position, up to a multiple of 16.
  const float *_Nonnull key_scales, *_Nonnull value_scales;
  /// As in `ot_attention`.
  size_t key_count, head_size, value_size;
  size_t first_position;
  int is_causal;
  size_t window;
  float scale, soft_cap, slope;
  const float *_Nullable bias;
  const uint8_t *_Nullable mask;
  float *_Nonnull y;
  size_t y_stride;
  /// `ot_code_attention_scratch_count(head_size, value_size)` floats.
  float *_Nonnull scratch;
  const float *_Nullable sink;
};

/// Positions of a block of keys of `code_attention`.
enum { OT_CODE_BLOCK = 128 };

/// Floats that `attention` and `code_attention` need as scratch.
size_t ot_attention_scratch_count(size_t head_size, size_t value_size);
size_t ot_code_attention_scratch_count(size_t head_size, size_t value_size);

#endif
