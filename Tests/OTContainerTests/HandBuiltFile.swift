import Foundation
import OTContainer
import OTTensor

/// An `.otq` file put together byte by byte from the specification, so that
/// reader and writer are checked against it and not against each other.
struct HandBuiltFile {
  struct Extent {
    var bytes: [UInt8]
    var decodedByteCount: Int
    var codec: UInt32 = 0
    /// What the table says, where it is to lie.
    var declaredOffset: Int?
    var declaredByteCount: Int?
    var checksum: UInt32?

    init(_ bytes: [UInt8], decodedByteCount: Int? = nil, codec: UInt32 = 0) {
      self.bytes = bytes
      self.decodedByteCount = decodedByteCount ?? bytes.count
      self.codec = codec
    }
  }

  var extents: [Extent] = []
  var metadata = "{\"tensors\":[]}"
  var major: UInt16 = 1
  var requiredFeatures: UInt64 = 0
  var optionalFeatures: UInt64 = 0
  var padding: UInt8 = 0
  var headerReserved: UInt8 = 0
  var fileByteCountLie = 0

  var bytes: [UInt8] {
    var file = [UInt8](repeating: 0, count: 128)
    func pad() {
      var isFirst = true
      while file.count % 64 != 0 {
        file.append(isFirst ? padding : 0)
        isFirst = false
      }
    }
    var table: [UInt8] = []
    for extent in extents {
      pad()
      table += little(UInt64(extent.declaredOffset ?? file.count))
      table += little(UInt64(extent.declaredByteCount ?? extent.bytes.count))
      table += little(UInt64(extent.decodedByteCount)) + little(extent.codec)
      table += little(extent.checksum ?? crc32(extent.bytes))
      file += extent.bytes
    }
    pad()
    let metadataOffset = file.count
    file += Array(metadata.utf8)
    pad()
    let tableOffset = file.count
    file += table
    var header: [UInt8] = [0x89, 0x4F, 0x54, 0x51, 0x0D, 0x0A, 0x1A, 0x0A]
    header += little(major) + little(UInt16(0)) + little(UInt32(128))
    header += little(requiredFeatures) + little(optionalFeatures) + little(UInt64(file.count + fileByteCountLie))
    header += little(UInt64(metadataOffset)) + little(UInt64(metadata.utf8.count))
    header += little(UInt64(metadata.utf8.count)) + little(UInt32(0)) + little(crc32(Array(metadata.utf8)))
    header += little(UInt64(tableOffset)) + little(UInt64(table.count)) + little(crc32(table))
    header += [UInt8](repeating: headerReserved, count: 32)
    header += little(crc32(header))
    file.replaceSubrange(0..<128, with: header)
    return file
  }
}

func little(_ value: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

/// CRC-32 by its definition, bit by bit.
func crc32(_ bytes: [UInt8]) -> UInt32 {
  var remainder: UInt32 = 0xFFFF_FFFF
  for byte in bytes {
    remainder ^= UInt32(byte)
    for _ in 0..<8 { remainder = remainder & 1 == 1 ? remainder >> 1 ^ 0xEDB8_8320 : remainder >> 1 }
  }
  return ~remainder
}

/// Opens bytes as a container; the file is gone when `body` returns.
func withContainer<Result>(_ bytes: [UInt8], _ body: (Container) throws -> Result) throws -> Result {
  let path = NSTemporaryDirectory() + "/otq-container-\(UUID().uuidString).otq"
  try Data(bytes).write(to: URL(fileURLWithPath: path))
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try body(try Container(path: path))
}

/// A 2 × 3 weight of 8 bits, asymmetric, per channel: its three extents.
enum TinyWeight {
  static let codes: [[UInt8]] = [[0, 128, 255], [7, 8, 9]]
  static let scales: [Float] = [0.5, 2]
  static let zeroPoints: [UInt8] = [128, 8]
  static let values: [Float] = [-64, 0, 63.5, -2, 0, 2]

  /// One row tile of 64 columns: code (r, k) at k / 4 · 64 + r · 4 + k mod 4.
  static var tile: [UInt8] {
    var tile = [UInt8](repeating: 0, count: 1024)
    for row in 0..<2 { for column in 0..<3 { tile[row * 4 + column] = codes[row][column] } }
    return tile
  }

  static let entry =
    "{\"name\":\"w\",\"shape\":[2,3],\"bits\":8,\"symmetric\":false,\"granularity\":\"channel\","
    + "\"form\":\"packed\",\"rowTilesPerChunk\":1,"
    + "\"planes\":{\"codes\":[0,1],\"scales\":[1,1],\"zeroPoints\":[2,1]}}"

  static var file: HandBuiltFile {
    var file = HandBuiltFile()
    file.extents = [.init(tile), .init(scales.flatMap { little($0.bitPattern) }), .init(zeroPoints)]
    file.metadata = "{\"tensors\":[\(entry)]}"
    return file
  }
}
