import Foundation
import OTFoundation
import OTGraph
import OTKernels

/// Memory that is aligned for the kernels; pages that are never touched cost nothing.
final class AlignedMemory<Element: BitwiseCopyable>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Element>
  let count: Int

  var buffer: UnsafeMutableBufferPointer<Element> { UnsafeMutableBufferPointer(start: base, count: count) }

  /// - Throws: `Refusal` with rule `run-memory` when the system has not as much.
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
  /// The first row that the buffers of the tail hold.
  var tailOrigin = 0

  let program: Program
  private let floats: [AlignedMemory<Float>]
  private let bytes: [AlignedMemory<UInt8>]
  /// What is mixed where attention is of codes.
  let queryCodes, keyCodes, valueCodes: MixedCodes
  var rotaryTables: [RotaryTable]
  let scratch: [Scratch]

  /// What one thread needs.
  struct Scratch: Sendable {
    let products: AlignedMemory<Int32>
    let codes: AlignedMemory<UInt8>
    let attention: AlignedMemory<Float>
    /// Weights that are multiplied as floats.
    let weights: AlignedMemory<Float>
  }

  /// Codes of a row of the batch, `[row][width]`, and their scales.
  struct MixedCodes {
    let codes: AlignedMemory<Int8>
    let scales: AlignedMemory<Float>

    init(rowCount: Int, width: Int) throws {
      codes = try AlignedMemory(count: rowCount * width)
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
    let capacities = [
      Program.Region.tokens: rowCapacity, .tail: tailCapacity, .sequences: sequenceCapacity,
      .chain: Program.chainRowCount * threadCount,
    ]
    floats = try program.bufferSizes.map {
      try AlignedMemory(count: $0.channelCount * capacities[$0.region, default: 0])
    }
    bytes = try program.codeBuffers.map { try AlignedMemory(count: $0.byteCount * capacities[$0.region, default: 0]) }
    let queryWidth = program.mixings.map { $0.attention.headCount * $0.attention.headSize }.max() ?? 0
    let keyWidth = program.mixings.map { $0.attention.keyValueHeadCount * $0.attention.headSize }.max() ?? 0
    let codeCount = form == .codes ? rowCapacity : 0
    queryCodes = try MixedCodes(rowCount: codeCount, width: queryWidth)
    keyCodes = try MixedCodes(rowCount: codeCount, width: keyWidth)
    valueCodes = try MixedCodes(rowCount: codeCount, width: keyWidth)
    rotaryTables = program.rotaries.map(RotaryTable.init)
    let attentionCount =
      program.mixings.map { mixing in
        let headSize = mixing.attention.headSize
        return form == .codes
          ? Kernels.codeAttentionScratchCount(headSize: headSize) : Kernels.attentionScratchCount(headSize: headSize)
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

  /// Where row 0 of a value is or would be, of one that outlives its chain.
  func rows(of value: Program.ValueID) -> UnsafeMutablePointer<Float> {
    let place = program.values[value]
    return floats[place.buffer].base - origin(of: program.regions[value]) * place.channelCount
  }

  /// Where row 0 of a value is or would be, for the thread that works on `block`.
  func rows(of value: Program.ValueID, in block: RowBlock) -> UnsafeMutablePointer<Float> {
    guard program.regions[value] == .chain else { return rows(of: value) }
    let place = program.values[value]
    let row = block.worker * Program.chainRowCount - block.rows.lowerBound
    return floats[place.buffer].base + row * place.channelCount
  }

  func codes(_ id: Program.CodesID) -> CodeRows {
    let codes = program.codes[id]
    return CodeRows(
      base: bytes[codes.buffer].base, origin: origin(of: codes.region), capacity: capacity(of: codes.region),
      digitCount: codes.form.digitCount, stride: codes.paddedChannelCount)
  }

  private func capacity(of region: Program.Region) -> Int {
    switch region {
    case .tokens: rowCapacity
    case .tail: tailCapacity
    case .sequences: sequenceCapacity
    case .chain: preconditionFailure("codes are there for a product, which no chain has")
    }
  }

  private func origin(of region: Program.Region) -> Int { region == .tail ? tailOrigin : 0 }
}

/// Rows that a thread works on at a time, at most `Program.chainRowCount`.
struct RowBlock {
  let rows: Range<Int>
  let worker: Int
}

/// Codes of the rows of a batch in their buffer: codes, scales, then sums.
struct CodeRows {
  let base: UnsafeMutablePointer<UInt8>
  let origin: Int
  let capacity: Int
  /// Rows of codes for each row of the batch.
  let digitCount: Int
  /// Codes from one row to the next.
  let stride: Int

  func codes(row: Int) -> UnsafeMutablePointer<Int8> {
    UnsafeMutableRawPointer(base + (row - origin) * digitCount * stride).assumingMemoryBound(to: Int8.self)
  }

  func scale(row: Int) -> UnsafeMutablePointer<Float> {
    UnsafeMutableRawPointer(base + capacity * digitCount * stride).assumingMemoryBound(to: Float.self)
      + (row - origin)
  }

  /// The sums of a row over the columns of a run; runs of all partitions are counted through.
  func sums(row: Int, run: Int) -> UnsafeMutablePointer<Int32> {
    UnsafeMutableRawPointer(base + capacity * (digitCount * stride + 4)).assumingMemoryBound(to: Int32.self)
      + (run * capacity + row - origin) * digitCount
  }
}

/// Cosines and sines of a rotary embedding by position.
struct RotaryTable {
  let pairCount: Int
  private let frequencies: [Float]
  private(set) var cosines: [Float] = []
  private(set) var sines: [Float] = []

  /// As in the models' original implementations, frequencies and angles are rounded to float32.
  init(_ rotary: Rotary) {
    frequencies = rotary.frequencies.map { Float($0) }
    pairCount = rotary.dimensions / 2
  }

  mutating func reserve(positionCount: Int) {
    cosines.reserveCapacity(positionCount * pairCount)
    sines.reserveCapacity(positionCount * pairCount)
  }

  /// Makes the table hold positions 0..<`positionCount` at least.
  mutating func extend(to positionCount: Int) {
    guard pairCount > 0 else { return }
    var position = cosines.count / pairCount
    while position < positionCount {
      for frequency in frequencies {
        let angle = Float(position) * frequency
        cosines.append(cosf(angle))
        sines.append(sinf(angle))
      }
      position += 1
    }
  }
}
