/// One step of a model: what a node does with the values of its inputs.
///
/// Values are sequences of vectors, `[tokens, channels]`, except the three
/// kinds of IDs, which have no channels.
package enum Operation: Sendable, Hashable {
  /// The tokens, as integers; no inputs.
  case tokenIDs
  /// The position of each token in its sequence, from 0; no inputs.
  case positionIDs
  /// The segment of each token (0 where there is one segment); no inputs.
  case tokenTypeIDs
  /// Row `id + rowOffset` of a table. Input: IDs.
  case embedding(Embedding)
  /// `W x + b`. Input: one value.
  case linear(Linear)
  /// `(x − mean) / √(variance + ε) ⊙ γ + β`. Input: one value.
  case layerNorm(Norm)
  /// `x / √(mean of squares + ε) ⊙ γ + β`. Input: one value.
  case rmsNorm(Norm)
  /// Softmax attention. Inputs: queries, keys, values.
  case attention(Attention)
  /// One part of a fused, head-interleaved projection. Input: one value.
  case headSlice(HeadSlice)
  /// An element-wise function. Input: one value.
  case activation(ActivationKind)
  /// The product of two values; the first is the gate, the second is what it gates.
  case multiply
  /// The sum of two values.
  case add
  /// The vector of each sequence's first token. Input: one value.
  case firstToken
  /// `(x − shift) ⊘ scale` with the node's own entry of `Graph.transforms`;
  /// put on an edge by migration. Input: one value.
  case affine
}

/// A table of vectors, one row per ID.
package struct Embedding: Sendable, Hashable {
  /// The table, `[rowCount, size]`.
  package let table: SourceTensor
  /// Rows of the table, those before `rowOffset` included.
  package let rowCount: Int
  /// Channels of a row.
  package let size: Int
  /// Added to an ID to give its row (2 for OPT's positions).
  package let rowOffset: Int

  /// An embedding that looks rows up in the tensor `table`.
  package init(table: SourceTensor, rowCount: Int, size: Int, rowOffset: Int = 0) {
    self.table = table
    self.rowCount = rowCount
    self.size = size
    self.rowOffset = rowOffset
  }
}

/// A linear layer: `y = W x + b`.
package struct Linear: Sendable, Hashable {
  /// Where in the model a linear is, which says whether it may be quantized.
  package enum Role: String, Sendable, Hashable {
    /// Inside a transformer block.
    case block
    /// Output head, pooler, projections around the embeddings: its input is
    /// never a quantized activation.
    case head
  }

  /// The weight, `[outFeatures, inFeatures]`.
  package let weight: SourceTensor
  /// The bias, `[outFeatures]`; nil where the checkpoint has none.
  package let bias: SourceTensor?
  /// Channels of the input.
  package let inFeatures: Int
  /// Channels of the output.
  package let outFeatures: Int
  /// Where in the model the linear is.
  package let role: Role

  /// A linear layer with the tensors `weight` and `bias`.
  package init(weight: SourceTensor, bias: SourceTensor?, inFeatures: Int, outFeatures: Int, role: Role) {
    self.weight = weight
    self.bias = bias
    self.inFeatures = inFeatures
    self.outFeatures = outFeatures
    self.role = role
  }
}

/// The parameters of a LayerNorm or an RMSNorm.
package struct Norm: Sendable, Hashable {
  /// The gain, `[size]`; nil stands for ones.
  package let gamma: SourceTensor?
  /// The offset, `[size]`; nil stands for zeros.
  package let beta: SourceTensor?
  /// Added to the variance or the mean of squares; not negative.
  package let epsilon: Float
  /// Channels.
  package let size: Int

  /// A norm over `size` channels.
  package init(gamma: SourceTensor?, beta: SourceTensor?, epsilon: Float, size: Int) {
    self.gamma = gamma
    self.beta = beta
    self.epsilon = epsilon
    self.size = size
  }
}

/// One part of a fused projection whose parts are interleaved head by head.
///
/// Output channel `h·headSize + d` is input channel
/// `(h·partCount + part)·headSize + d`.
package struct HeadSlice: Sendable, Hashable {
  /// Which part: 0, 1, 2 for BLOOM's queries, keys, values.
  package let part: Int
  /// Parts in the fused value.
  package let partCount: Int
  /// Channels of one head; 0 where it is unknown (see `Graph.missing`).
  package let headSize: Int

  /// Part `part` of `partCount`.
  package init(part: Int, partCount: Int, headSize: Int) {
    self.part = part
    self.partCount = partCount
    self.headSize = headSize
  }

  /// The input channel that becomes output channel `channel`.
  ///
  /// - Precondition: `headSize` is known.
  package func inputChannel(of channel: Int) -> Int {
    (channel / headSize * partCount + part) * headSize + channel % headSize
  }
}

/// An element-wise function; raw values are those of the container.
package enum ActivationKind: String, Sendable, Hashable, CaseIterable {
  case relu
  /// `x·Φ(x)`, with the error function.
  case gelu
  /// GELU's approximation `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
  case geluTanh = "gelu_tanh"
  /// `x / (1 + exp(−x))`.
  case silu
  case tanh
}
