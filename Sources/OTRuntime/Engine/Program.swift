import OTGraph
import OTTensor

/// A graph made ready to run: stages in order, and the buffers that they read and write.
///
/// A buffer holds the values of several nodes, one after the other. Products
/// and attention take all rows of a batch at a time; what lies between them works
/// row by row, so that a row goes through a chain of steps while it is in cache.
struct Program: Sendable {
  /// A node's value: `[rows, channelCount]` floats.
  struct Value: Sendable {
    /// nil: only a part of what a node does.
    let node: String?
    let channelCount: Int
    /// Filled in when all stages are known.
    var buffer = 0
  }

  /// The number of a value.
  typealias ValueID = Int

  /// How the integers of a site's value, or those that stand for floats, are made.
  enum CodeForm: Hashable, Sendable {
    /// Rounded as it is.
    case `static`(bits: Int)
    /// With one scale per row.
    case dynamic(bits: Int)
    /// Three digits of base 256 per value and one scale per row: as precise as float32, where
    /// packed weights meet float activations.
    case digits

    /// Rows of codes for a row of values.
    var digitCount: Int { self == .digits ? 3 : 1 }
  }

  /// Integers made from a value.
  struct Codes: Sendable {
    let value: ValueID
    let form: CodeForm
    /// Runs of columns of all readers that have a scale of their own; one run for
    /// readers without groups.
    var partitions: [[Range<Int>]]
    let channelCount: Int
    var paddedChannelCount: Int { TileLayout(rowCount: 1, columnCount: channelCount).paddedColumnCount }
    /// That of the stage that makes them, which may be the tail while the value is not of it.
    var region = Region.tokens
    var buffer = 0
  }

  typealias CodesID = Int

  /// One step of a chain that works row by row.
  enum RowStep: Sendable {
    case layerNorm(Norm, gamma: [Float]?, beta: [Float]?, ValueID, to: ValueID)
    case rmsNorm(Norm, gamma: [Float]?, beta: [Float]?, ValueID, to: ValueID)
    case activate(ActivationKind, ValueID, to: ValueID)
    case add(ValueID, ValueID, to: ValueID)
    case multiply(ValueID, ValueID, to: ValueID)
    case affine(shift: [Float]?, scale: [Float]?, ValueID, to: ValueID)
    case slice(ChannelSlice, ValueID, to: ValueID)
    /// Turns each head by the angles of the row's position; of `rotaries`, the one that is meant.
    case rotate(Int, headSize: Int, ValueID, to: ValueID)
    case quantize(CodesID)
  }

  /// The rows of a table, by IDs.
  struct Lookup: Sendable {
    enum IDs: Sendable { case tokens, positions, types }
    let ids: IDs
    let embedding: Embedding
    let use: ParameterUse
    let to: ValueID
  }

  /// What is done to a product while it is in cache.
  enum Finish: Sendable {
    case none
    case activate(ActivationKind)
    /// Adds a value that was there before.
    case add(ValueID)
  }

  /// One linear. (A class: threads that share a loop would else count references to every part of it.)
  final class Product: Sendable {
    enum Weights: Sendable {
      /// Multiplied in integers, with the codes and the partition of their columns.
      case packed(PackedMatrix, CodesID, partition: Int)
      case float(ParameterUse)
    }

    let linear: Linear
    let weights: Weights
    let bias: [Float]?
    let finish: Finish
    let from: ValueID
    let to: ValueID

    init(linear: Linear, weights: Weights, bias: [Float]?, finish: Finish, from: ValueID, to: ValueID) {
      self.linear = linear
      self.weights = weights
      self.bias = bias
      self.finish = finish
      self.from = from
      self.to = to
    }
  }

  /// Softmax attention of the whole batch.
  struct Mixing: Sendable {
    let attention: Attention
    /// Counts the attentions of the program.
    let index: Int
    /// ALiBi's slopes of the heads.
    let slopes: [Float]?
    /// Queries and keys are rotated where they are to be.
    let queries, keys, values: ValueID
    let to: ValueID
  }

  /// What is done before the next stage begins.
  enum Stage: Sendable {
    /// The value of a node that is given.
    case copyGiven(String, to: ValueID)
    case lookUp(Lookup)
    case rows([RowStep])
    /// Linears that read one value.
    case products([Product])
    case mix(Mixing)
    /// The first row of each sequence.
    case firstRows(ValueID, to: ValueID)
  }

  /// What the rows of a value are.
  enum Region: Sendable {
    case tokens
    /// Tokens again, after the last attention: rows no longer depend on each
    /// other, so that they can be done some at a time, or only those wanted.
    case tail
    /// One row per sequence.
    case sequences
    /// The rows that a thread takes through a chain of steps at a time: of values that
    /// nothing reads after the chain. They stay in cache.
    case chain
  }

  /// Rows that go through a chain of steps together.
  static let chainRowCount = 8

  struct PlacedStage: Sendable {
    let stage: Stage
    let region: Region
    /// Values that observers are shown after it, in the order of the graph.
    let shown: [ValueID]
  }

  var stages: [PlacedStage]
  var values: [Value]
  var regions: [Region]
  var codes: [Codes]
  /// Channels of each buffer of floats.
  var bufferSizes: [(channelCount: Int, region: Region)]
  /// Bytes of a row of each buffer of codes.
  var codeBuffers: [(byteCount: Int, region: Region)]
  var outputs: [String: ValueID]
  var rotaries: [Rotary]
  /// The attentions, in order.
  var mixings: [Mixing]

  /// The linears whose weights are floats.
  var floatProducts: [Product] {
    stages.flatMap { placed -> [Product] in
      guard case .products(let products) = placed.stage else { return [] }
      return products.filter { if case .float = $0.weights { true } else { false } }
    }
  }

  /// Bytes that a token takes in the buffers.
  var bytesPerToken: Int {
    bufferSizes.reduce(0) { $0 + ($1.region == .chain ? 0 : $1.channelCount * 4) }
      + codeBuffers.reduce(0) { $0 + $1.byteCount }
  }
}
