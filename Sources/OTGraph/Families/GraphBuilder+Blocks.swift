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
    /// The bound of queries, keys and values; nil: none.
    var bound: Float?
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
    let bounded = zip(names, inputs).map { clamped($0, $1, block.bound) }
    var (queries, keys) = (bounded[0], bounded[1])
    if let between = block.between {
      queries = between(&self, linears.0, queries, block.querySize)
      keys = between(&self, linears.1, keys, block.keyValueSize)
    }
    let mixed = add(name, .attention(block.attention), queries, keys, bounded[2])
    return linear(linears.3, mixed, block.querySize, block.hidden, bias: block.outputBias)
  }

  /// The value of the linear called `name` within ±`bound`, where there is one.
  mutating func clamped(_ name: String, _ input: String, _ bound: Float?) -> String {
    bound.map { add(name + ".clamped", .clamp(Clamp(bound: $0)), input) } ?? input
  }

  /// Attention of one linear, `fused`, whose value has queries, keys and values.
  struct FusedAttention {
    let attention: Attention
    /// Channels of the residual stream, and of queries.
    let hidden: Int
    /// The linear that gives queries, keys and values.
    let fused: String
    /// The linear for the value of attention.
    let output: String
    let bias: Bias
    /// The bound of queries, keys and values; nil: none.
    var bound: Float?

    /// True when queries, keys and values alternate by groups of heads; else each stands alone.
    var areGrouped = true
  }

  /// Adds it: slices of queries, keys and values, attention called `name`, and a linear for its value.
  mutating func attention(_ name: String, _ input: String, _ block: FusedAttention) -> String {
    let attention = block.attention
    let (heads, groups, size) = (attention.headCount, attention.keyValueHeadCount, attention.headSize)
    let rows = (heads + 2 * groups) * size
    var value = linear(block.fused, input, block.hidden, rows, bias: block.bias)
    value = clamped(block.fused, value, block.bound)
    // Heads of queries that stand side by side.
    let width = block.areGrouped ? heads / groups : heads
    let others = block.areGrouped ? 1 : groups
    let parts = [("query", 0, width), ("key", width, others), ("value", width + others, others)].map {
      let slice = ChannelSlice(part: $0.1, partCount: width + 2 * others, blockSize: size, width: $0.2)
      return add("\(name).\($0.0)", .channelSlice(slice), value)
    }
    let mixed = add(name, .attention(attention), parts[0], parts[1], parts[2])
    return linear(block.output, mixed, block.hidden, block.hidden, bias: block.bias)
  }

  /// What attention and the MLP of a layer add to the residual stream: the MLP reads what attention has added to, or
  /// both read the same.
  mutating func residuals(
    _ layer: String, _ input: String, isParallel: Bool, attention: (inout GraphBuilder, String) -> String,
    mlp: (inout GraphBuilder, String) -> String
  ) -> String {
    let middle = add(layer + "attention_sum", .add, input, attention(&self, input))
    return add(layer + "mlp_sum", .add, middle, mlp(&self, isParallel ? input : middle))
  }

  /// The MLP of a layer, which works on each token alone.
  struct MLP {
    let hidden: Int
    let inner: Int
    let kind: ActivationKind
    let bias: Bias
    /// The module whose weight has those of gate and up one below the other.
    var fused: String?
    /// True when the activation function's value is squared.
    var isSquared = false
  }

  /// `second(act(first(input)))`.
  mutating func mlp(_ input: String, _ mlp: MLP, first: String, activation: String, second: String) -> String {
    let wide = linear(first, input, mlp.hidden, mlp.inner, bias: mlp.bias)
    var active = add(activation, .activation(mlp.kind), wide)
    if mlp.isSquared { active = add(activation + ".squared", .multiply, active, active) }
    return linear(second, active, mlp.inner, mlp.hidden, bias: mlp.bias)
  }

  /// `down(act(gate(input)) ⊙ up(input))`, with the names of LLaMA behind `prefix`, or `output` for the last linear.
  mutating func gatedMLP(_ prefix: String, _ input: String, _ mlp: MLP, output: String? = nil) -> String {
    let weights = mlp.fused.map { parts(of: "\($0).weight", [mlp.inner, mlp.inner], columnCount: mlp.hidden) }
    let gate = linear(
      prefix + "gate_proj", input, mlp.hidden, mlp.inner, weight: weights?[0], bias: mlp.bias)
    let up = linear(prefix + "up_proj", input, mlp.hidden, mlp.inner, weight: weights?[1], bias: mlp.bias)
    let active = add(prefix + "act_fn", .activation(mlp.kind), gate)
    let gated = add(prefix + "gated", .multiply, active, up)
    return linear(output ?? prefix + "down_proj", gated, mlp.inner, mlp.hidden, bias: mlp.bias)
  }
}
