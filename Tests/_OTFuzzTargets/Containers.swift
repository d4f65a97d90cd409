import OTContainer
import OTFoundation
import OTModel
import OTRuntime

extension FuzzTarget {
  /// Readers of `.otq` files.
  static let containers = [
    FuzzTarget("otq", maximumByteCount: 12_288) { bytes in try readContainer(sealed(bytes)) },
    FuzzTarget("otq-content", maximumByteCount: 12_288) { bytes in try readContainer(container(of: bytes)) },
  ]

  private static func readContainer(_ bytes: [UInt8]) throws {
    let container = try Container(MappedFile(madeOf: bytes, path: "\(folder)/a.otq"))
    try container.verify(threadCount: 1)
    for tensor in container.tensors {
      switch tensor.content {
      case .alias: continue
      case .plain(let type):
        _ = try container.values(of: tensor)
        if type.isConvertibleFloat { _ = try container.floats(of: tensor) }
      case .quantized:
        _ = try container.dequantized(
          tensor, rowTiles: 0..<min(tensor.layout.rowTileCount, 8), scales: container.scales(of: tensor),
          zeroPoints: container.zeroPoints(of: tensor))
      }
    }
    for name in container.attachmentNames { _ = try container.attachment(name) }
    let model = try PackedModel(container)
    guard let graph = model.graph, isSmall(graph) else { return }
    try run(QuantizedExecutor(graph: graph, container: container, threadCount: 1, checksMappedCodes: true))
  }

  /// The same bytes with the length and the checksums that a file of this layout has, where their places are
  /// possible, so that damage reaches the rules behind them.
  private static func sealed(_ input: [UInt8]) -> [UInt8] {
    var bytes = input
    guard bytes.count >= 128 else { return bytes }
    bytes.put(UInt64(bytes.count), at: 32)
    func place(_ offset: Int, _ length: Int) -> Range<Int>? {
      guard let start = number(at: offset), let count = number(at: length), start <= bytes.count,
        count <= bytes.count - start
      else { return nil }
      return start..<start + count
    }
    func number(at offset: Int) -> Int? {
      Int(exactly: (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) })
    }
    if let table = place(72, 80) {
      for entry in stride(from: table.lowerBound, to: table.upperBound - 31, by: 32) {
        if let run = place(entry, entry + 8) { bytes.put(bytes.checksum(run), at: entry + 28) }
      }
      bytes.put(bytes.checksum(table), at: 88)
    }
    if let metadata = place(40, 48) { bytes.put(bytes.checksum(metadata), at: 68) }
    bytes.put(bytes.checksum(0..<124), at: 124)
    return bytes
  }

  /// A file whose structure is right and whose content is the input's: the metadata up to the first NUL, then
  /// extents, each with its codec (a byte), the bytes that are stored (two) and those that they decode to (two).
  private static func container(of input: [UInt8]) -> [UInt8] {
    let parts = input.texts(2)
    let (metadata, rest) = (parts[0], parts[1])
    var bytes = [UInt8](repeating: 0, count: 128)
    var table: [UInt8] = []
    func pad(_ bytes: inout [UInt8]) { bytes += repeatElement(0, count: (64 - bytes.count % 64) % 64) }
    var position = 0
    while position + 5 <= rest.count {
      let codec = UInt32(rest[position] & 1)
      let stored = Int(rest[position + 1]) | Int(rest[position + 2]) << 8
      let decoded = codec == 0 ? stored : Int(rest[position + 3]) | Int(rest[position + 4]) << 8
      let content = rest[(position + 5)...].prefix(stored)
      position += 5 + stored
      pad(&bytes)
      for value in [bytes.count, content.count, codec == 0 ? content.count : decoded] { table.append(fixed: value) }
      table.append(fixed: codec)
      table.append(fixed: UInt32(0))
      bytes += content
    }
    pad(&bytes)
    let metadataStart = bytes.count
    bytes += metadata
    pad(&bytes)
    let tableStart = bytes.count
    bytes += table
    let header: [UInt8] = [0x89, 0x4F, 0x54, 0x51, 0x0D, 0x0A, 0x1A, 0x0A, 1, 0, 0, 0, 128, 0, 0, 0]
    bytes.replaceSubrange(0..<16, with: header)
    let fields = [bytes.count, metadataStart, metadata.count, metadata.count, 0, tableStart, table.count]
    for (index, field) in fields.enumerated() { bytes.put(field, at: 32 + 8 * index) }
    return sealed(bytes)
  }
}
