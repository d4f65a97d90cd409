import OTFoundation
import OTGraph
import OTKernels

/// Keys and values of attention: of growing sequences for every attention
/// of the model, or of a batch's whole sequences for one attention after the other.
final class KeyValueCache {
  /// The element type of keys and values.
  enum Form {
    case floats
    /// Quantized to at most 8 bits, and for each token a scale of its keys and one of its values.
    case quantized

    /// Bytes of a position's key and value in one head.
    fileprivate func byteCounts(_ attention: Attention) -> (key: Int, value: Int) {
      let (headSize, valueSize) = (attention.headSize, attention.valueSize)
      return switch self {
      case .floats: (4 * headSize, 4 * valueSize)
      case .quantized:
        (
          Kernels.keyCodeCount(positionCount: 16, headSize: headSize) / 16,
          Kernels.valueCodeCount(positionCount: 16, headSize: valueSize) / 16
        )
      }
    }
  }

  /// Keys of one head of one sequence, transposed in blocks of positions as
  /// `Kernels.storeKeys` lays them, and its values `[position][valueSize]`.
  struct Head {
    let keys, values: UnsafeMutablePointer<Float>
  }

  /// Keys and values as `Kernels.storeKeyCodes` and `storeValueCodes` lay them,
  /// and the scales by position.
  struct QuantizedHead {
    let keys: UnsafeMutablePointer<UInt8>
    let values: UnsafeMutablePointer<Int8>
    let keyScales, valueScales: UnsafeMutablePointer<Float>
  }

  /// Positions of a block of keys.
  static let blockSize = 16

  private let form: Form
  private let keys, values: AlignedMemory<UInt8>
  private let keyScales, valueScales: AlignedMemory<Float>
  /// The start of each attention's heads, in bytes; empty for a batch.
  private var starts: [(key: Int, value: Int)] = []
  /// Position, among all of a batch, where each sequence begins.
  private var sequenceStarts: [Int] = []
  /// Positions that each sequence has room for.
  private var capacities: [Int]

  private static func padded(_ count: Int) -> Int { (count + blockSize - 1) / blockSize * blockSize }

  /// Bytes that the keys and values of a token take in all attentions.
  static func bytesPerToken(_ attentions: [AttentionStage], _ form: Form) -> Int {
    attentions.reduce(0) { sum, stage in
      let counts = form.byteCounts(stage.attention)
      return sum + stage.attention.keyValueHeadCount * (counts.key + counts.value) + (form == .quantized ? 8 : 0)
    }
  }

  /// For sequences of up to `tokenCapacity` tokens each.
  ///
  /// - Throws: `Refusal` with rule `run-memory`.
  init(_ attentions: [AttentionStage], form: Form, tokenCapacity: Int, sequenceCount: Int) throws {
    let padded = KeyValueCache.padded(tokenCapacity)
    let (capacity, overflow) = padded.multipliedReportingOverflow(by: sequenceCount)
    guard !overflow, capacity < 1 << 40 else {
      throw Refusal(
        "run-memory", "the system has no memory for \(sequenceCount) sequences of \(tokenCapacity) tokens",
        remedy: "run fewer sequences, or shorter ones")
    }
    capacities = [Int](repeating: padded, count: sequenceCount)
    sequenceStarts = (0..<sequenceCount).map { $0 * padded }
    var end = (key: 0, value: 0)
    for stage in attentions {
      starts.append(end)
      let counts = form.byteCounts(stage.attention)
      end.key += capacity * stage.attention.keyValueHeadCount * counts.key
      end.value += capacity * stage.attention.keyValueHeadCount * counts.value
    }
    self.form = form
    keys = try AlignedMemory(count: end.key)
    values = try AlignedMemory(count: end.value)
    keyScales = try AlignedMemory(count: form == .quantized ? capacity * attentions.count : 0)
    valueScales = try AlignedMemory(count: form == .quantized ? capacity * attentions.count : 0)
  }

  /// For the sequences of `batch`, one attention at a time.
  ///
  /// - Throws: `Refusal` with rule `run-memory`.
  init(_ attentions: [AttentionStage], form: Form, batch: Batch) throws {
    capacities = batch.segments.map { KeyValueCache.padded($0.firstPosition + $0.rows.count) }
    var count = 0
    for capacity in capacities {
      sequenceStarts.append(count)
      count += capacity
    }
    let widths = attentions.map { stage in
      let counts = form.byteCounts(stage.attention)
      return (stage.attention.keyValueHeadCount * counts.key, stage.attention.keyValueHeadCount * counts.value)
    }
    self.form = form
    keys = try AlignedMemory(count: count * (widths.map(\.0).max() ?? 0))
    values = try AlignedMemory(count: count * (widths.map(\.1).max() ?? 0))
    keyScales = try AlignedMemory(count: form == .quantized ? count : 0)
    valueScales = try AlignedMemory(count: form == .quantized ? count : 0)
  }

  /// The offset of a head's key and value at position 0, in bytes.
  private func places(_ head: Int, of stage: AttentionStage, sequence: Int) -> (key: Int, value: Int) {
    let counts = form.byteCounts(stage.attention)
    let position = head * capacities[sequence] + sequenceStarts[sequence] * stage.attention.keyValueHeadCount
    let start = starts.isEmpty ? (key: 0, value: 0) : starts[stage.index]
    return (start.key + position * counts.key, start.value + position * counts.value)
  }

  func head(_ head: Int, of stage: AttentionStage, sequence: Int) -> Head {
    precondition(form == .floats)
    let places = places(head, of: stage, sequence: sequence)
    return Head(
      keys: UnsafeMutableRawPointer(keys.base + places.key).assumingMemoryBound(to: Float.self),
      values: UnsafeMutableRawPointer(values.base + places.value).assumingMemoryBound(to: Float.self))
  }

  func quantizedHead(_ head: Int, of stage: AttentionStage, sequence: Int) -> QuantizedHead {
    precondition(form == .quantized)
    let places = places(head, of: stage, sequence: sequence)
    let first = starts.isEmpty ? 0 : stage.index * capacities.count * capacities[sequence]
    let scales = first + sequenceStarts[sequence]
    return QuantizedHead(
      keys: keys.base + places.key,
      values: UnsafeMutableRawPointer(values.base + places.value).assumingMemoryBound(to: Int8.self),
      keyScales: keyScales.base + scales, valueScales: valueScales.base + scales)
  }

  /// Copies keys and values of the first `positionCount` positions of a head from one sequence to another. Of the block
  /// of keys that holds the last of them all is copied; what is stored next replaces the rest.
  func copy(positionCount: Int, head: Int, of stage: AttentionStage, from source: Int, to sequence: Int) {
    let counts = form.byteCounts(stage.attention)
    let count = KeyValueCache.padded(positionCount)
    let (from, to) = (places(head, of: stage, sequence: source), places(head, of: stage, sequence: sequence))
    (keys.base + to.key).update(from: keys.base + from.key, count: count * counts.key)
    (values.base + to.value).update(from: values.base + from.value, count: count * counts.value)
    // The scales are of all heads.
    guard form == .quantized, head == 0 else { return }
    let (known, new) = (
      quantizedHead(head, of: stage, sequence: source), quantizedHead(head, of: stage, sequence: sequence)
    )
    new.keyScales.update(from: known.keyScales, count: positionCount)
    new.valueScales.update(from: known.valueScales, count: positionCount)
  }
}
