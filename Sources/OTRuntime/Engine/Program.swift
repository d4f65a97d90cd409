import OTGraph
import OTKernels
import OTTensor

/// A graph made ready to run: stages in order, and the buffers that they read and write.
///
/// A buffer holds the values of several nodes, one after the other. Attention takes
/// all rows of a batch at a time; what lies between needs no other row. So, where rows are many,
/// each thread takes some through a section of stages while they are in its cache; where they are few, all threads share
/// a product's channels. Between products a row goes through a chain of steps.
struct Program: Sendable {
  /// A node's value: `[rows, channelCount]` floats.
  struct Value: Sendable {
    /// nil: only a part of what a node does.
    let node: String?
    let channelCount: Int
    let rows: Rows
    /// Filled in when all stages are known.
    var buffer = 0
  }

  /// The rows of a value.
  enum Rows: Hashable, Sendable {
    case tokens, sequences
    /// The tokens that a router, by its number, sends to an expert: one behind the other, in their order.
    case expert(Int, of: Int)

    /// The number of the router whose choice the rows are.
    var router: Int? {
      if case .expert(_, let router) = self { return router }
      return nil
    }
  }

  /// The place of a router's choice.
  struct Router: Sendable {
    let routing: Routing
    /// Choices that are not needed at the same time share a table.
    var table = 0
  }

  /// The number of a value.
  typealias ValueID = Int

  /// The quantization of a site's value, or the split of floats into limbs.
  enum Quantization: Hashable, Sendable {
    /// Rounded as it is.
    case `static`(bits: Int)
    /// With one scale per row.
    case dynamic(bits: Int)
    /// With one scale and one code of 0 per row.
    case asymmetric(bits: Int)
    /// With one scale per so many columns of a row, and where they are asymmetric one code of 0.
    case groups(bits: Int, size: Int, isAsymmetric: Bool)
    /// Three limbs of base 256 per value and one scale per row: as precise as float32, where
    /// packed weights meet float activations.
    case limbs

    /// Rows of integers for a row of values.
    var limbCount: Int { self == .limbs ? 3 : 1 }

    /// True when rows have one scale, of their own.
    var hasRowScales: Bool {
      switch self {
      case .static, .groups: false
      case .dynamic, .asymmetric, .limbs: true
      }
    }

    /// True when rows have codes of 0 of their own.
    var hasRowZeros: Bool {
      if case .asymmetric = self { return true }
      return false
    }

    /// Columns that share a scale; nil: none do, or all of a row.
    var groupSize: Int? {
      if case .groups(_, let size, _) = self { return size }
      return nil
    }

    /// True when groups have codes of 0 of their own.
    var hasGroupZeros: Bool {
      if case .groups(_, _, true) = self { return true }
      return false
    }
  }

  /// Integers made from a value.
  struct QuantizedValue: Sendable {
    let value: ValueID
    let quantization: Quantization
    /// Runs of columns of all readers that have a scale of their own; one run for
    /// readers without groups.
    var partitions: [[Range<Int>]]
    let channelCount: Int
    var paddedChannelCount: Int { TileLayout(rowCount: 1, columnCount: channelCount).paddedColumnCount }
    /// That of the stage that makes them, which may be the tail while the value is not of it.
    var region = Region.tokens
    var buffer = 0

    /// Groups of a row that have a scale; 0 where rows have one or none.
    var groupCount: Int {
      guard let size = quantization.groupSize else { return 0 }
      return (channelCount + size - 1) / size
    }

    /// Runs of columns of all partitions.
    var runCount: Int { partitions.reduce(0) { $0 + $1.count } }

    /// Integers, then the scale, the sums of each run of columns and the code of 0, or the groups and their codes of 0.
    var bytesPerRow: Int {
      guard groupCount == 0 else {
        return paddedChannelCount + groupCount
          * (MemoryLayout<CodeRow>.stride + (quantization.hasGroupZeros ? MemoryLayout<Int32>.stride : 0))
      }
      return
        quantization.limbCount * (paddedChannelCount + 4 * runCount) + 4 + (quantization.hasRowZeros ? 4 : 0)
    }
  }

  /// The number of a quantized value.
  typealias QuantizedID = Int

  /// The meaning of a value's rows.
  enum Region: Sendable {
    case tokens
    /// Tokens again, after the last attention: rows no longer depend on each
    /// other, so that they can be done some at a time, or only those wanted.
    case tail
    /// One row per sequence.
    case sequences
    /// The tokens of one expert, before the last attention or after it.
    case experts
    /// The rows that threads take through a section at a time: of values that nothing reads after it.
    case section
    /// The rows that a thread takes through a chain of steps at a time: of values that
    /// nothing reads after the chain. They stay in cache.
    case chain
  }

  /// Rows that go through a chain of steps together.
  static let chainRowCount = 8
  /// Rows that a thread takes through a section together: fewer would have the kernels read weights too often.
  static let sectionRowCount = 64
  /// Bytes of a row's floats that a stage of a section may make: so many rows of them stay in the cache of a core.
  static let sectionRowByteCount = 16 << 10

  struct PlacedStage: Sendable {
    let stage: any Stage
    let region: Region
    let rows: Rows
    /// Values that observers are shown after it, in the order of the graph.
    let shown: [ValueID]
  }

  /// Stages that follow each other.
  struct Section: Sendable {
    let stages: Range<Int>
    let region: Region
    /// True when no row depends on another, and some stay in a core's cache: a thread can take them through all stages
    /// and waits for no other.
    let isRowwise: Bool
  }

  var stages: [PlacedStage]
  var sections: [Section] = []
  var values: [Value]
  var regions: [Region]
  var quantizedValues: [QuantizedValue]
  /// Channels of each buffer of floats.
  var bufferSizes: [(channelCount: Int, region: Region)]
  /// Bytes of a row of each buffer of quantized values.
  var quantizedBuffers: [(byteCount: Int, region: Region)]
  var outputs: [String: ValueID]
  var rotaries: [Rotary]
  var routers: [Router]
  /// The experts of the tables that routers share, and the most that a token has.
  var routingTables: [(expertCount: Int, chosenCount: Int)] = []
  /// The attentions, in order.
  var attentions: [AttentionStage]

  /// The linears whose weights are floats.
  var floatProducts: [Product] {
    stages.flatMap { placed -> [Product] in
      guard let stage = placed.stage as? ProductStage else { return [] }
      return stage.products.filter { if case .float = $0.weights { true } else { false } }
    }
  }

  /// Bytes that a token takes in the buffers.
  var bytesPerToken: Int {
    bufferSizes.reduce(0) { $0 + ($1.region == .chain || $1.region == .section ? 0 : $1.channelCount * 4) }
      + quantizedBuffers.reduce(0) { $0 + $1.byteCount }
      + routingTables.reduce(0) { $0 + $1.chosenCount * RoutingTable.bytesPerChoice }
  }
}
