import OTCheckpoint
import OTFoundation
import OTTensor

/// Bytes on their way to a place in a tensor of a file.
struct PlacedBytes: Sendable {
  /// The tensor's name in the file.
  let name: String
  /// Bytes before these in the tensor.
  let offset: Int
  let bytes: [UInt8]

  /// Rows that another engine has in another order, each for itself.
  ///
  /// - Parameters:
  ///   - first: the first row in the model's order.
  ///   - place: the other order.
  ///   - rowCount: rows of the whole tensor.
  static func rows(
    _ name: String, _ bytes: [UInt8], from first: Int, count: Int, _ place: GGUFLayout.Place, of rowCount: Int
  ) -> [PlacedBytes] {
    let size = bytes.count / max(count, 1)
    return (0..<count).map { row in
      PlacedBytes(
        name: name, offset: place.row(first + row, rowCount: rowCount) * size,
        bytes: Array(bytes[row * size..<(row + 1) * size]))
    }
  }
}

/// Safetensors files whose tensors come unit by unit; within a unit, in any order.
final class PlacedTensors {
  typealias Entry = SafetensorsWriter.Entry

  /// The tensors of each file, in the order of the file.
  let files: [[Entry]]
  private let unitCounts: [Int]
  private let metadata: [String: String]
  private var paths: [String] = []
  private var writer: SafetensorsWriter?
  private var file = 0
  private var unit = 0

  /// - Parameters:
  ///   - units: tensors that are written together and go into one file.
  ///   - byteCount: the most bytes of a file, one unit at least; nil for one file.
  init(_ units: [[Entry]], byteCount: Int?, metadata: [String: String]) {
    var files: [[Entry]] = [[]]
    var counts = [0]
    var size = 0
    for entries in units {
      let unitByteCount = entries.reduce(0) { $0 + $1.byteCount }
      if let byteCount, size + unitByteCount > byteCount, size > 0 {
        files.append([])
        counts.append(0)
        size = 0
      }
      files[files.count - 1] += entries
      counts[counts.count - 1] += 1
      size += unitByteCount
    }
    self.files = files.map { Entry.aligned($0) }
    unitCounts = counts
    self.metadata = metadata
  }

  /// Begins the first file.
  ///
  /// - Parameter path: the path of each file by its number.
  func begin(path: (Int) throws -> String) throws {
    paths = try files.indices.map(path)
    try open()
  }

  private func open() throws {
    writer = try SafetensorsWriter(path: paths[file], entries: files[file], metadata: metadata)
    try writer?.reserve()
  }

  func put(_ part: PlacedBytes) throws {
    try part.bytes.withUnsafeBytes { try writer?.put($0, of: part.name, at: part.offset) }
  }

  /// Ends the current unit; of the last one of a file, the file.
  func finishUnit() throws {
    unit += 1
    guard unit == unitCounts[file] else { return }
    if let writer = writer.take() { try writer.commit() }
    guard file + 1 < files.count else { return }
    (file, unit) = (file + 1, 0)
    try open()
  }

  /// Ends the file of a model without tensors.
  func commit() throws {
    if let writer = writer.take() { try writer.commit() }
  }
}
