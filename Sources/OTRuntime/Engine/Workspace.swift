import OTFoundation
import OTGraph
import OTKernels
import OTPlatform

/// Memory that is aligned for the kernels; pages that are never touched cost nothing.
final class AlignedMemory<Element: BitwiseCopyable>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Element>
  let count: Int

  var buffer: UnsafeMutableBufferPointer<Element> { UnsafeMutableBufferPointer(start: base, count: count) }

  /// - Throws: `Refusal` with rule `run-memory` when memory runs out.
  init(count: Int) throws {
    let (byteCount, overflow) = max(1, count).multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
    var pointer: UnsafeMutableRawPointer?
    guard !overflow, byteCount < Int.max / 2, posix_memalign(&pointer, 64, byteCount) == 0, let pointer else {
      throw Refusal(
        "run-memory", "the system has no \(count) x \(MemoryLayout<Element>.stride) bytes of memory",
        remedy: "run fewer tokens at a time")
    }
    base = pointer.bindMemory(to: Element.self, capacity: max(1, count))
    self.count = count
  }

  deinit { free(base) }
}

/// The memory of one run at a time: the buffers of a program, and what threads need for themselves.
final class Workspace {
  /// Most rows of a batch, of the tail at a time, and sequences of a batch.
  let rowCapacity, tailCapacity, sequenceCapacity: Int
  /// Rows that go through a section at a time, of all threads and of one.
  private let sectionCapacity: Int
  let sectionShare: Int
  /// The first row that the buffers of the tail hold.
  var tailOrigin = 0

  let program: Program
  private let floats: [AlignedMemory<Float>]
  private let bytes: [AlignedMemory<UInt8>]
  /// The inputs of attention of quantized values.
  let quantizedQueries, quantizedKeys, quantizedValues: QuantizedMatrix
  var rotaryTables: [RotaryTable]
  private let routingTables: [RoutingTable]
  let scratch: [Scratch]

  /// The memory of one thread.
  struct Scratch: Sendable {
    let products: AlignedMemory<Int32>
    let codes: AlignedMemory<UInt8>
    let attention: AlignedMemory<Float>
    /// Weights that are multiplied as floats.
    let weights: AlignedMemory<Float>
  }

  /// Quantized rows of the batch, `[row][width]`, and their scales.
  struct QuantizedMatrix {
    let values: AlignedMemory<Int8>
    let scales: AlignedMemory<Float>

    init(rowCount: Int, width: Int) throws {
      values = try AlignedMemory(count: rowCount * width)
      scales = try AlignedMemory(count: rowCount)
    }
  }

  /// - Throws: `Refusal` with rule `run-memory`.
  init(
    _ program: Program, rowCapacity: Int, tailCapacity: Int, sequenceCapacity: Int, threadCount: Int,
    attention form: KeyValueCache.Form
  ) throws {
    self.program = program
    self.rowCapacity = rowCapacity
    self.tailCapacity = tailCapacity
    self.sequenceCapacity = sequenceCapacity
    // Whole lines of the cache, whatever a row's bytes.
    let share = ((max(rowCapacity, tailCapacity) + threadCount - 1) / threadCount).roundedUp(toMultipleOf: 16)
    sectionShare = min(Program.sectionRowCount, share)
    sectionCapacity = sectionShare * threadCount
    let capacities = [
      Program.Region.tokens: rowCapacity, .experts: rowCapacity, .tail: tailCapacity, .sequences: sequenceCapacity,
      .section: sectionCapacity, .chain: Program.chainRowCount * threadCount,
    ]
    floats = try program.bufferSizes.map {
      try AlignedMemory(count: $0.channelCount * capacities[$0.region, default: 0])
    }
    bytes = try program.quantizedBuffers.map {
      try AlignedMemory(count: $0.byteCount * capacities[$0.region, default: 0])
    }
    let queryWidth = program.attentions.map { $0.attention.headCount * $0.attention.headSize }.max() ?? 0
    let keyWidth = program.attentions.map { $0.attention.keyValueHeadCount * $0.attention.headSize }.max() ?? 0
    let valueWidth = program.attentions.map { $0.attention.keyValueHeadCount * $0.attention.valueSize }.max() ?? 0
    let quantizedCount = form == .quantized ? rowCapacity : 0
    quantizedQueries = try QuantizedMatrix(rowCount: quantizedCount, width: queryWidth)
    quantizedKeys = try QuantizedMatrix(rowCount: quantizedCount, width: keyWidth)
    quantizedValues = try QuantizedMatrix(rowCount: quantizedCount, width: valueWidth)
    rotaryTables = program.rotaries.map(RotaryTable.init)
    routingTables = try program.routingTables.map {
      try RoutingTable(expertCount: $0.expertCount, chosenCount: $0.chosenCount, rowCapacity: rowCapacity)
    }
    let attentionCount =
      program.attentions.map { stage in
        let (headSize, valueSize) = (stage.attention.headSize, stage.attention.valueSize)
        return form == .quantized
          ? Kernels.codeAttentionScratchCount(headSize: headSize, valueSize: valueSize)
          : Kernels.attentionScratchCount(headSize: headSize, valueSize: valueSize)
      }.max() ?? 0
    let weightCount =
      program.floatProducts.map { product in
        let linear = product.linear
        return [1, rowCapacity].map { rowCount in
          min(linear.outFeatures, ProductBlocks.floatChannelCount(inFeatures: linear.inFeatures, rowCount: rowCount))
            * linear.inFeatures
        }.max() ?? 0
      }.max() ?? 0
    scratch = try (0..<threadCount).map { _ in
      Scratch(
        products: try AlignedMemory(count: ProductBlocks.scratchCount),
        codes: try AlignedMemory(count: Kernels.productScratchByteCount),
        attention: try AlignedMemory(count: attentionCount),
        weights: try AlignedMemory(count: weightCount))
    }
  }

  /// The choice of a router.
  func routingTable(_ router: Int) -> RoutingTable { routingTables[program.routers[router].table] }

  /// The address of row 0 of a value that outlives its chain, in memory or not.
  func rows(of value: Program.ValueID) -> UnsafeMutablePointer<Float> {
    let place = program.values[value]
    return floats[place.buffer].base - origin(of: program.regions[value]) * place.channelCount
  }

  /// The address of row 0 of a value, in memory or not, for the thread that works on `block`.
  func rows(of value: Program.ValueID, in block: RowBlock) -> UnsafeMutablePointer<Float> {
    let place = program.values[value]
    let (share, origin): (Int, Int)
    switch program.regions[value] {
    case .chain: (share, origin) = (block.worker * Program.chainRowCount, block.rows.lowerBound)
    case .section: (share, origin) = (sectionShare(of: block), block.origin)
    default: return rows(of: value)
    }
    // Threads may be at different values of a buffer: the place of each is the same for all values.
    return floats[place.buffer].base + share * program.bufferSizes[place.buffer].channelCount
      - origin * place.channelCount
  }

  /// The rows of other threads before those of a block.
  private func sectionShare(of block: RowBlock) -> Int { block.isOfThread ? block.worker * sectionShare : 0 }

  /// A quantized value, for the thread that works on `block`.
  func quantized(_ id: Program.QuantizedID, in block: RowBlock) -> QuantizedRows {
    let value = program.quantizedValues[id]
    var base = bytes[value.buffer].base
    var (origin, capacity) = (origin(of: value.region), capacity(of: value.region))
    if value.region == .section {
      origin = block.origin
      base += sectionShare(of: block) * program.quantizedBuffers[value.buffer].byteCount
      if block.isOfThread { capacity = sectionShare }
    }
    return QuantizedRows(
      base: base, origin: origin, capacity: capacity,
      limbCount: value.quantization.limbCount, stride: value.paddedChannelCount, groupCount: value.groupCount,
      runCount: value.runCount)
  }

  private func capacity(of region: Program.Region) -> Int {
    switch region {
    case .tokens, .experts: rowCapacity
    case .tail: tailCapacity
    case .sequences: sequenceCapacity
    case .section: sectionCapacity
    case .chain: preconditionFailure("quantized values are there for a product, which no chain has")
    }
  }

  private func origin(of region: Program.Region) -> Int { region == .tail ? tailOrigin : 0 }
}

/// Rows that a thread works on at a time.
struct RowBlock {
  let rows: Range<Int>
  let worker: Int
  /// The row that comes first in the section's buffers.
  let origin: Int
  /// True where the thread takes the rows through a section: it has a part of the section's buffers.
  var isOfThread = false

  /// Some of its rows.
  func part(_ rows: Range<Int>, worker: Int? = nil) -> RowBlock {
    RowBlock(rows: rows, worker: worker ?? self.worker, origin: origin, isOfThread: isOfThread)
  }
}

/// Quantized rows of a batch in their buffer: values, then scales, sums and codes of 0, or groups.
struct QuantizedRows {
  let base: UnsafeMutablePointer<UInt8>
  let origin: Int
  let capacity: Int
  /// Rows of integers for each row of the batch.
  let limbCount: Int
  /// Integers from one row to the next.
  let stride: Int
  /// Groups of a row.
  let groupCount: Int
  /// Sums of a row.
  let runCount: Int

  func values(row: Int) -> UnsafeMutablePointer<Int8> {
    UnsafeMutableRawPointer(base + (row - origin) * limbCount * stride).assumingMemoryBound(to: Int8.self)
  }

  func scale(row: Int) -> UnsafeMutablePointer<Float> {
    UnsafeMutableRawPointer(base + capacity * limbCount * stride).assumingMemoryBound(to: Float.self)
      + (row - origin)
  }

  /// The groups of a row.
  func groups(row: Int) -> UnsafeMutablePointer<CodeRow> {
    UnsafeMutableRawPointer(base + capacity * limbCount * stride).assumingMemoryBound(to: CodeRow.self)
      + (row - origin) * groupCount
  }

  /// The codes of 0 of a row's groups, where they have some: behind the groups of all rows.
  func groupZeros(row: Int) -> UnsafeMutablePointer<Int32> {
    UnsafeMutableRawPointer(groups(row: origin + capacity)).assumingMemoryBound(to: Int32.self)
      + (row - origin) * groupCount
  }

  /// The code of 0 of a row, where rows have one.
  func zero(row: Int) -> UnsafeMutablePointer<Int32> {
    sums(row: row, run: runCount)
  }

  /// The sums of a row over the columns of a run; runs of all partitions are counted through.
  func sums(row: Int, run: Int) -> UnsafeMutablePointer<Int32> {
    UnsafeMutableRawPointer(base + capacity * (limbCount * stride + 4)).assumingMemoryBound(to: Int32.self)
      + (run * capacity + row - origin) * limbCount
  }
}
