/// The blocks of decoders and encoders; families name the parts.
extension GraphBuilder {
  /// A layer's attention.
  struct AttentionBlock {
    let attention: Attention
    /// Channels of the residual stream.
    let hidden: Int
    /// Channels of queries.
    let querySize: Int
    /// Channels of keys and of values.
    let keyValueSize: Int
    /// Of queries, keys and values.
    var inputBias = Bias.optional
    var outputBias = Bias.optional
    /// The module whose weight has those of queries, keys and values one below the other, and its bias likewise.
    var fused: String?
    /// Operations on queries and keys before the attention scores: a builder, the name of their linear,
    /// its value, the channels of that.
    var between: ((inout GraphBuilder, String, String, Int) -> String)?

    /// Attention whose queries, keys and values are as wide as the residual stream.
    init(_ attention: Attention, hidden: Int, bias: Bias) {
      self.init(attention, hidden: hidden, querySize: hidden, keyValueSize: hidden)
      inputBias = bias
      outputBias = bias
    }

    init(_ attention: Attention, hidden: Int, querySize: Int, keyValueSize: Int) {
      self.attention = attention
      self.hidden = hidden
      self.querySize = querySize
      self.keyValueSize = keyValueSize
    }
  }

  /// Linears for queries, keys and values of `input`, attention called `name`, and a linear for its value.
  ///
  /// - Parameter linears: names of the linears for queries, keys, values and the output.
  mutating func attention(
    _ name: String, _ input: String, _ block: AttentionBlock, linears: (String, String, String, String)
  ) -> String {
    let sizes = [block.querySize, block.keyValueSize, block.keyValueSize]
    let names = [linears.0, linears.1, linears.2]
    let weights = block.fused.map { parts(of: "\($0).weight", sizes, columnCount: block.hidden) }
    let inputs = names.indices.map { index in
      let first = sizes[..<index].reduce(0, +)
      return linear(
        names[index], input, block.hidden, sizes[index], weight: weights?[index], bias: block.inputBias,
        biasSource: block.fused.map { .rows(of: .named("\($0).bias"), first..<first + sizes[index]) })
    }
    var (queries, keys) = (inputs[0], inputs[1])
    if let between = block.between {
      queries = between(&self, linears.0, queries, block.querySize)
      keys = between(&self, linears.1, keys, block.keyValueSize)
    }
    let mixed = add(name, .attention(block.attention), queries, keys, inputs[2])
    return linear(linears.3, mixed, block.querySize, block.hidden, bias: block.outputBias)
  }

  /// The MLP of a layer, which works on each token alone.
  struct MLP {
    let hidden: Int
    let inner: Int
    let kind: ActivationKind
    let bias: Bias
    /// The module whose weight has those of gate and up one below the other.
    var fused: String?
  }

  /// `second(act(first(input)))`.
  mutating func mlp(_ input: String, _ mlp: MLP, first: String, activation: String, second: String) -> String {
    let wide = linear(first, input, mlp.hidden, mlp.inner, bias: mlp.bias)
    let active = add(activation, .activation(mlp.kind), wide)
    return linear(second, active, mlp.inner, mlp.hidden, bias: mlp.bias)
  }

  /// `down(act(gate(input)) ⊙ up(input))`, with the names of LLaMA behind `prefix`.
  mutating func gatedMLP(_ prefix: String, _ input: String, _ mlp: MLP) -> String {
    let weights = mlp.fused.map { parts(of: "\($0).weight", [mlp.inner, mlp.inner], columnCount: mlp.hidden) }
    let gate = linear(
      prefix + "gate_proj", input, mlp.hidden, mlp.inner, weight: weights?[0], bias: mlp.bias)
    let up = linear(prefix + "up_proj", input, mlp.hidden, mlp.inner, weight: weights?[1], bias: mlp.bias)
    let active = add(prefix + "act_fn", .activation(mlp.kind), gate)
    let gated = add(prefix + "gated", .multiply, active, up)
    return linear(prefix + "down_proj", gated, mlp.inner, mlp.hidden, bias: mlp.bias)
  }
}
