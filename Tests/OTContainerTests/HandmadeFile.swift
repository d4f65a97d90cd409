import Foundation
import OTContainer
import OTFoundation
import OTJSON
import _OTTestSupport

/// A `.otq` file put together field by field from `formats/otq.md`, with none
/// of the writer's code, so that tests can break any part of it.
struct HandmadeFile {
  struct Extent {
    var stored: [UInt8]
    var decodedByteCount: Int
    var codec: UInt32

    /// A raw extent.
    init(_ stored: [UInt8]) { (self.stored, decodedByteCount, codec) = (stored, stored.count, 0) }
    /// A zstd extent.
    init(frame: [UInt8], of decodedByteCount: Int) {
      (stored, self.decodedByteCount, codec) = (frame, decodedByteCount, 1)
    }
  }

  var extents: [Extent]
  var metadata: [UInt8]

  init(_ extents: [Extent], _ metadata: String) {
    self.extents = extents
    self.metadata = Array(metadata.utf8)
  }

  var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 128)
    var table: [UInt8] = []
    for extent in extents {
      bytes.padTo64()
      table.append(fixed: UInt64(bytes.count))
      table.append(fixed: UInt64(extent.stored.count))
      table.append(fixed: UInt64(extent.decodedByteCount))
      table.append(fixed: extent.codec)
      table.append(fixed: UInt32(0))
      bytes += extent.stored
    }
    bytes.padTo64()
    let metadataOffset = bytes.count
    bytes += metadata
    bytes.padTo64()
    let tableOffset = bytes.count
    bytes += table
    var header: [UInt8] = [0x89, 0x4F, 0x54, 0x51, 0x0D, 0x0A, 0x1A, 0x0A, 1, 0, 0, 0, 128, 0, 0, 0]
    header += [UInt8](repeating: 0, count: 16)
    let fields = [bytes.count, metadataOffset, metadata.count, metadata.count, 0, tableOffset, table.count]
    for field in fields { header.append(fixed: UInt64(field)) }
    bytes.replaceSubrange(0..<header.count, with: header)
    HandmadeFile.seal(&bytes)
    return bytes
  }

  /// The checksums that `seal` computes.
  enum Part: CaseIterable { case extents, metadata, table, header }

  /// Computes the checksums of a file of this layout anew, so that a change is
  /// found by the rule it breaks; parts whose place is impossible are left out.
  static func seal(_ bytes: inout [UInt8], _ parts: [Part] = Part.allCases) {
    func place(_ offset: Int, _ length: Int) -> Range<Int>? {
      guard offset >= 0, length >= 0, offset <= bytes.count, length <= bytes.count - offset else { return nil }
      return offset..<offset + length
    }
    let table = place(bytes.count(at: 72), bytes.count(at: 80))
    if parts.contains(.extents), let table {
      for entry in stride(from: table.lowerBound, to: table.upperBound - 31, by: 32) {
        guard let run = place(bytes.count(at: entry), bytes.count(at: entry + 8)) else { continue }
        bytes.put(bitwiseCRC(bytes[run]), at: entry + 28)
      }
    }
    if parts.contains(.metadata), let run = place(bytes.count(at: 40), bytes.count(at: 48)) {
      bytes.put(bitwiseCRC(bytes[run]), at: 68)
    }
    if parts.contains(.table), let table { bytes.put(bitwiseCRC(bytes[table]), at: 88) }
    if parts.contains(.header) { bytes.put(bitwiseCRC(bytes[..<124]), at: 124) }
  }

  /// CRC-32 bit by bit: the document's definition.
  static func bitwiseCRC(_ bytes: some Sequence<UInt8>) -> UInt32 {
    var crc: UInt32 = 0xFFFF_FFFF
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
    return ~crc
  }
}

extension HandmadeFile {
  /// Codes of `small`'s tensor "w", `[2, 3]`, symmetric with 6 bits: all of 1 … 63.
  static let smallCodes: [[UInt8]] = [[1, 32, 63], [33, 31, 40]]

  /// The row tile of `smallCodes`.
  static var smallTile: [UInt8] {
    var tile = [UInt8](repeating: 0, count: 1024)
    tile.replaceSubrange(0..<3, with: smallCodes[0])
    tile.replaceSubrange(4..<7, with: smallCodes[1])
    return tile
  }

  static let smallMetadata = """
    {"producer":"by hand","attachments":[{"name":"config.json","byteCount":2,"extents":[0,1]}],\
    "tensors":[{"name":"w","shape":[2,3],"source":{"name":"w0","dtype":"F16"},"bits":6,"symmetric":true,\
    "granularity":"channel","form":"bytes","rowTilesPerChunk":256,\
    "planes":{"codes":[1,1],"scales":[2,1]},\
    "error":{"sqnrDecibels":40.5,"maximumInSteps":0.5}},\
    {"name":"v","shape":[2,3],"alias":"w"},\
    {"name":"b","shape":[2],"dtype":"F32","planes":{"values":[3,1]}}]}
    """

  /// One tensor of each kind and an attachment; scales 0.5 and 2, values 1 and −1.
  static var small: HandmadeFile {
    HandmadeFile(
      [Extent(Array("{}".utf8)), Extent(smallTile), Extent([0, 0, 0, 0x3F, 0, 0, 0, 0x40])]
        + [Extent([0, 0, 0x80, 0x3F, 0, 0, 0x80, 0xBF])], smallMetadata)
  }

  /// `small` with other metadata.
  static func small(_ old: String, _ new: String) -> HandmadeFile {
    precondition(smallMetadata.contains(old))
    return HandmadeFile(small.extents, smallMetadata.replacingOccurrences(of: old, with: new))
  }
}

extension [UInt8] {
  mutating func append(fixed value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: value >> shift)) }
  }

  mutating func padTo64() { while count % 64 != 0 { append(0) } }

  mutating func put(_ value: some FixedWidthInteger, at offset: Int) {
    var field: [UInt8] = []
    field.append(fixed: value)
    replaceSubrange(offset..<offset + field.count, with: field)
  }

  /// The u64 at `offset`, which a test keeps within Int; −1 otherwise.
  func count(at offset: Int) -> Int {
    Int(exactly: (0..<8).reduce(UInt64(0)) { $0 | UInt64(self[offset + $1]) << UInt64(8 * $1) }) ?? -1
  }
}

/// Writes `bytes` to a file and opens it.
func open(_ bytes: [UInt8], name: String = "model.otq") throws -> Container {
  try withTemporaryFolder { folder in
    let path = "\(folder)/\(name)"
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return try Container(path: path)
  }
}

/// All that a container says, as text and bytes.
func contents(_ container: Container) throws -> [String: [UInt8]] {
  var result = ["": Array(container.metadata.text().utf8)]
  for tensor in container.tensors {
    let name = "tensor \(tensor.name)"
    switch tensor.content {
    case .alias: continue
    case .plain: result[name] = try container.values(of: tensor)
    case .quantized:
      let tiles = 0..<tensor.layout.rowTileCount
      result[name] = try container.codes(of: tensor, rowTiles: tiles)
      result[name + " scales"] = try container.scales(of: tensor).flatMap { scale in
        withUnsafeBytes(of: scale.bitPattern) { Array($0) }
      }
      result[name + " zeros"] = try container.zeroPoints(of: tensor)
    }
  }
  let quantized = container.tensors.filter { $0.scheme != nil }
  let packed = try container.packedCodes(of: quantized, checksMapped: true, threadCount: 2)
  for (tensor, codes) in zip(quantized, packed) { result["tensor \(tensor.name) packed"] = Array(codes.bytes) }
  for name in container.attachmentNames { result["file \(name)"] = try container.attachment(name) }
  return result
}
