import OTGraph
import OTKernels

/// Keys and values of attention: of one growing sequence for every attention
/// of the model, or of a batch's whole sequences for one attention after the other.
final class KeyValueCache {
  /// What keys and values are kept as.
  enum Form {
    case floats
    /// Codes of 8 bits, and for each token a scale of its keys and one of its values.
    case codes

    /// Bytes of a position's key and value in one head.
    fileprivate func byteCounts(headSize: Int) -> (key: Int, value: Int) {
      switch self {
      case .floats: (4 * headSize, 4 * headSize)
      case .codes:
        (
          Kernels.keyCodeCount(positionCount: 16, headSize: headSize) / 16,
          Kernels.valueCodeCount(positionCount: 16, headSize: headSize) / 16
        )
      }
    }
  }

  /// Keys of one head of one sequence, transposed in blocks of positions as
  /// `Kernels.storeKeys` lays them, and its values `[position][headSize]`.
  struct Head {
    let keys, values: UnsafeMutablePointer<Float>
  }

  /// Keys and values as `Kernels.storeKeyCodes` and `storeValueCodes` lay them,
  /// and the scales by position.
  struct CodeHead {
    let keys: UnsafeMutablePointer<UInt8>
    let values: UnsafeMutablePointer<Int8>
    let keyScales, valueScales: UnsafeMutablePointer<Float>
  }

  /// Positions of a block of keys.
  static let blockSize = 16

  private let form: Form
  private let keys, values: AlignedMemory<UInt8>
  private let keyScales, valueScales: AlignedMemory<Float>
  /// Where the heads of an attention begin, in bytes; empty for a batch.
  private var starts: [(key: Int, value: Int)] = []
  /// Position, among all of a batch, where each sequence begins.
  private var segmentStarts: [Int] = []
  /// Positions that each sequence has room for.
  private var capacities: [Int]

  private static func padded(_ count: Int) -> Int { (count + blockSize - 1) / blockSize * blockSize }

  /// Bytes that the keys and values of a token take in all attentions.
  static func bytesPerToken(_ mixings: [Program.Mixing], _ form: Form) -> Int {
    mixings.reduce(0) { sum, mixing in
      let counts = form.byteCounts(headSize: mixing.attention.headSize)
      return sum + mixing.attention.keyValueHeadCount * (counts.key + counts.value) + (form == .codes ? 8 : 0)
    }
  }

  /// For a sequence of up to `tokenCapacity` tokens.
  ///
  /// - Throws: `Refusal` with rule `run-memory`.
  init(_ mixings: [Program.Mixing], form: Form, tokenCapacity: Int) throws {
    let capacity = KeyValueCache.padded(tokenCapacity)
    var end = (key: 0, value: 0)
    for mixing in mixings {
      starts.append(end)
      let counts = form.byteCounts(headSize: mixing.attention.headSize)
      end.key += capacity * mixing.attention.keyValueHeadCount * counts.key
      end.value += capacity * mixing.attention.keyValueHeadCount * counts.value
    }
    capacities = [capacity]
    self.form = form
    keys = try AlignedMemory(count: end.key)
    values = try AlignedMemory(count: end.value)
    keyScales = try AlignedMemory(count: form == .codes ? capacity * mixings.count : 0)
    valueScales = try AlignedMemory(count: form == .codes ? capacity * mixings.count : 0)
  }

  /// For the sequences of `batch`, one attention at a time.
  ///
  /// - Throws: `Refusal` with rule `run-memory`.
  init(_ mixings: [Program.Mixing], form: Form, batch: Batch) throws {
    capacities = batch.segments.map { KeyValueCache.padded($0.rows.count) }
    var count = 0
    for capacity in capacities {
      segmentStarts.append(count)
      count += capacity
    }
    let widths = mixings.map { mixing in
      let counts = form.byteCounts(headSize: mixing.attention.headSize)
      return (mixing.attention.keyValueHeadCount * counts.key, mixing.attention.keyValueHeadCount * counts.value)
    }
    self.form = form
    keys = try AlignedMemory(count: count * (widths.map(\.0).max() ?? 0))
    values = try AlignedMemory(count: count * (widths.map(\.1).max() ?? 0))
    keyScales = try AlignedMemory(count: form == .codes ? count : 0)
    valueScales = try AlignedMemory(count: form == .codes ? count : 0)
  }

  /// Where a head's key and value at position 0 are, in bytes.
  private func places(_ head: Int, of mixing: Program.Mixing, segment: Int) -> (key: Int, value: Int) {
    let counts = form.byteCounts(headSize: mixing.attention.headSize)
    var position = head * capacities[segment]
    guard starts.isEmpty else {
      let start = starts[mixing.index]
      return (start.key + position * counts.key, start.value + position * counts.value)
    }
    position += segmentStarts[segment] * mixing.attention.keyValueHeadCount
    return (position * counts.key, position * counts.value)
  }

  func head(_ head: Int, of mixing: Program.Mixing, segment: Int) -> Head {
    precondition(form == .floats)
    let places = places(head, of: mixing, segment: segment)
    return Head(
      keys: UnsafeMutableRawPointer(keys.base + places.key).assumingMemoryBound(to: Float.self),
      values: UnsafeMutableRawPointer(values.base + places.value).assumingMemoryBound(to: Float.self))
  }

  func codeHead(_ head: Int, of mixing: Program.Mixing, segment: Int) -> CodeHead {
    precondition(form == .codes)
    let places = places(head, of: mixing, segment: segment)
    let scales = starts.isEmpty ? segmentStarts[segment] : mixing.index * capacities[segment]
    return CodeHead(
      keys: keys.base + places.key,
      values: UnsafeMutableRawPointer(values.base + places.value).assumingMemoryBound(to: Int8.self),
      keyScales: keyScales.base + scales, valueScales: valueScales.base + scales)
  }
}
