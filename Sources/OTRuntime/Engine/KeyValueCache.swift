import OTGraph
import OTKernels

/// Keys and values of attention: of one growing sequence for every attention
/// of the model, or of a batch's whole sequences for one attention after the other.
final class KeyValueCache {
  /// Keys of one head of one sequence, transposed in blocks of positions as
  /// `Kernels.storeKeys` lays them, and its values `[position][headSize]`.
  struct Head {
    let keys, values: UnsafeMutablePointer<Float>
  }

  /// Positions of a block of keys.
  static let blockSize = 16

  private let keys: AlignedMemory<Float>
  private let values: AlignedMemory<Float>
  /// Where the heads of an attention begin, in floats; empty for a batch.
  private var starts: [Int] = []
  /// Position, among all of a batch, where each sequence begins.
  private var segmentStarts: [Int] = []
  /// Positions that each sequence has room for.
  private var capacities: [Int]

  private static func padded(_ count: Int) -> Int { (count + blockSize - 1) / blockSize * blockSize }

  /// For a sequence of up to `tokenCapacity` tokens.
  ///
  /// - Throws: `Refusal` with rule `run-memory`.
  init(_ mixings: [Program.Mixing], tokenCapacity: Int) throws {
    let capacity = KeyValueCache.padded(tokenCapacity)
    var count = 0
    for mixing in mixings {
      starts.append(count)
      count += capacity * mixing.attention.keyValueHeadCount * mixing.attention.headSize
    }
    capacities = [capacity]
    keys = try AlignedMemory(count: count)
    values = try AlignedMemory(count: count)
  }

  /// For the sequences of `batch`, one attention at a time.
  ///
  /// - Throws: `Refusal` with rule `run-memory`.
  init(_ mixings: [Program.Mixing], batch: Batch) throws {
    capacities = batch.segments.map { KeyValueCache.padded($0.rows.count) }
    var count = 0
    for capacity in capacities {
      segmentStarts.append(count)
      count += capacity
    }
    let width = mixings.map { $0.attention.keyValueHeadCount * $0.attention.headSize }.max() ?? 0
    keys = try AlignedMemory(count: count * width)
    values = try AlignedMemory(count: count * width)
  }

  func head(_ head: Int, of mixing: Program.Mixing, segment: Int) -> Head {
    let attention = mixing.attention
    let start =
      starts.isEmpty
      ? segmentStarts[segment] * attention.keyValueHeadCount * attention.headSize : starts[mixing.index]
    let place = start + head * capacities[segment] * attention.headSize
    return Head(keys: keys.base + place, values: values.base + place)
  }
}
