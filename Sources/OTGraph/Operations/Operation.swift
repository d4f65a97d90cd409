/// One step of a model: what a node does with the values of its inputs.
///
/// Values are sequences of vectors, `[tokens, channels]`, except the kinds of IDs, which have no channels.
///
/// The cases make every use exhaustive; all that is to be known of an operation
/// stands in its `body`, one file each.
package enum Operation: Sendable, Hashable {
  /// The tokens, as integers; no inputs.
  case tokenIDs
  /// The position of each token in its sequence, from 0; no inputs.
  case positionIDs
  /// The same, of tokens that are not padding; no inputs.
  case countedPositionIDs(CountedPositions)
  /// The segment of each token (0 where there is one segment); no inputs.
  case tokenTypeIDs
  /// Row `id + rowOffset` of a table. Input: IDs.
  case embedding(Embedding)
  /// `W x + b`. Input: one value; of an expert's, the router, too.
  case linear(Linear)
  /// `(x − mean) / √(variance + ε) ⊙ γ + β`. Input: one value.
  case layerNorm(Norm)
  /// `x / √(mean of squares + ε) ⊙ γ + β`. Input: one value.
  case rmsNorm(Norm)
  /// Softmax attention. Inputs: queries, keys, values.
  case attention(Attention)
  /// One part of a fused projection. Input: one value.
  case channelSlice(ChannelSlice)
  /// Heads of several values side by side. Inputs: these.
  case headConcatenation(HeadConcatenation)
  /// Some channels; put before linears by migration. Input: one value.
  case gather(Gather)
  /// An element-wise function. Input: one value.
  case activation(ActivationKind)
  /// The product of each channel and one constant. Input: one value.
  case scale(Scale)
  /// `c·tanh(x / c)`. Input: one value.
  case softCap(SoftCap)
  /// Each channel brought within ±bound. Input: one value.
  case clamp(Clamp)
  /// The product of two values; the first is the gate, the second is what it gates.
  case multiply
  /// The product of two values within limits: the gate, then what it gates.
  case clampedGate(ClampedGate)
  /// The weights of each token's experts. Input: their scores.
  case routing(Routing)
  /// The weighted sum of what experts give. Inputs: the router, then all experts.
  case mixture(Mixture)
  /// The sum of two values.
  case add
  /// The vector of each sequence's first token. Input: one value.
  case firstToken
  /// The vector of each sequence's last token that is not padding. Input: one value.
  case lastToken(LastToken)
  /// The mean over the tokens of each sequence that are not hidden. Input: one value.
  case meanTokens
  /// `(x − shift) ⊘ scale` with the node's own entry of `Graph.transforms`;
  /// put on an edge by migration. Input: one value.
  case affine
  /// The Hadamard transform of blocks of channels; put on an edge by migration. Input: one value.
  case rotation(Rotation)

  /// The operation's own file: inputs, value, passing of transforms, JSON.
  var body: any OperationBody {
    switch self {
    case .tokenIDs: ModelInput.tokenIDs
    case .positionIDs: ModelInput.positionIDs
    case .countedPositionIDs(let positions): positions
    case .tokenTypeIDs: ModelInput.tokenTypeIDs
    case .embedding(let embedding): embedding
    case .linear(let linear): linear
    case .layerNorm(let norm): NormBody(name: "layer_norm", norm: norm)
    case .rmsNorm(let norm): NormBody(name: "rms_norm", norm: norm)
    case .attention(let attention): attention
    case .channelSlice(let slice): slice
    case .headConcatenation(let concatenation): concatenation
    case .gather(let gather): gather
    case .activation(let kind): kind
    case .scale(let scale): scale
    case .softCap(let softCap): softCap
    case .clamp(let clamp): clamp
    case .multiply: Multiply()
    case .clampedGate(let gate): gate
    case .routing(let routing): routing
    case .mixture(let mixture): mixture
    case .add: Add()
    case .firstToken: FirstToken()
    case .lastToken(let last): last
    case .meanTokens: MeanTokens()
    case .affine: Affine()
    case .rotation(let rotation): rotation
    }
  }

  /// The operation that the object of a node in a container describes.
  init(reader: GraphReader) throws {
    switch try reader.string("operation") {
    case "token_ids": self = .tokenIDs
    case "position_ids": self = .positionIDs
    case "counted_position_ids": self = .countedPositionIDs(try CountedPositions(reader: reader))
    case "token_type_ids": self = .tokenTypeIDs
    case "embedding": self = .embedding(try Embedding(reader: reader))
    case "linear", "expert_linear": self = .linear(try Linear(reader: reader))
    case "layer_norm", "head_layer_norm": self = .layerNorm(try Norm(reader: reader))
    case "rms_norm", "head_rms_norm": self = .rmsNorm(try Norm(reader: reader))
    case "attention", "bounded_attention": self = .attention(try Attention(reader: reader))
    case "head_slice", "heads_slice": self = .channelSlice(try ChannelSlice(reader: reader))
    case "head_concatenation": self = .headConcatenation(try HeadConcatenation(reader: reader))
    case "gather": self = .gather(try Gather(reader: reader))
    case "activation": self = .activation(try ActivationKind(reader: reader))
    case "scale": self = .scale(try Scale(reader: reader))
    case "soft_cap": self = .softCap(try SoftCap(reader: reader))
    case "clamp": self = .clamp(try Clamp(reader: reader))
    case "multiply": self = .multiply
    case "clamped_gate": self = .clampedGate(try ClampedGate(reader: reader))
    case "routing", "group_routing": self = .routing(try Routing(reader: reader))
    case "mixture": self = .mixture(try Mixture(reader: reader))
    case "add": self = .add
    case "first_token": self = .firstToken
    case "last_token": self = .lastToken(try LastToken(reader: reader))
    case "mean_tokens": self = .meanTokens
    case "affine": self = .affine
    case "rotation": self = .rotation(try Rotation(reader: reader))
    case let name: throw reader.refusal("the operation '\(name)' is not known")
    }
  }
}

extension Operation {
  /// The kind of node that gives a value.
  package enum Kind: Sendable, Hashable {
    /// IDs of tokens, positions or segments.
    case input
    case embedding, linear, norm, attention, slice, activation
    /// The product of a gate and what it gates.
    case gate
    case scale, sum, firstToken
    /// The choice of experts, and the sum of what they give.
    case routing
    /// A node that migration puts on an edge; the linears behind it make up for its change.
    case edge
  }

  /// The kind of the operation.
  package var kind: Kind { body.kind }

  /// The parameters that a node with this operation takes of the checkpoint.
  var tensors: [SourceTensor] { body.parameters(input: .identity, output: .identity).compactMap(\.tensor) }
}
