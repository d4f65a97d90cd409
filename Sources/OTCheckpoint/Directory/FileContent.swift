import OTFoundation

/// The kind of a file, told from its first bytes and never from its name.
package enum FileContent: Sendable, Hashable {
  case safetensors
  case zip
  case pickle
  case json
  case gguf
  case otq
  case gitLFSPointer
  case html
  case unknown

  /// The kind of a file that begins with these bytes.
  package init(_ bytes: UnsafeRawBufferPointer) {
    // Safetensors first: its length field may spell the start of anything else,
    // but nothing else has a small length there and then an object.
    if FileContent.beginsSafetensors(bytes) {
      self = .safetensors
    } else if bytes.starts(with: "PK\u{3}\u{4}".utf8) || bytes.starts(with: "PK\u{5}\u{6}".utf8) {
      self = .zip
    } else if bytes.count >= 2, bytes[0] == 0x80, (2...5).contains(bytes[1]) {
      self = .pickle
    } else if bytes.starts(with: "GGUF".utf8) {
      self = .gguf
    } else if bytes.starts(with: [0x89]) && bytes.dropFirst().starts(with: "OTQ\r\n".utf8) {
      self = .otq
    } else if bytes.starts(with: "version https://git-lfs".utf8) {
      self = .gitLFSPointer
    } else {
      self = FileContent.text(bytes)
    }
  }

  private static func beginsSafetensors(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard bytes.count > SafetensorsLimits.lengthByteCount else { return false }
    let length = bytes.loadUnaligned(as: UInt64.self).littleEndian
    guard length <= UInt64(SafetensorsLimits.headerByteCount) else { return false }
    return bytes[SafetensorsLimits.lengthByteCount] == UInt8(ascii: "{")
      || isWhiteSpace(bytes[SafetensorsLimits.lengthByteCount])
  }

  private static func text(_ bytes: UnsafeRawBufferPointer) -> FileContent {
    var start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    // A page of white space is more than any text begins with.
    while start < min(bytes.count, 4096), isWhiteSpace(bytes[start]) { start += 1 }
    guard start < bytes.count else { return .unknown }
    if bytes[start] == UInt8(ascii: "{") { return .json }
    let beginning = String(decoding: bytes[start...].prefix(16), as: UTF8.self).lowercased()
    let marks = ["<!doctype", "<html", "<head", "<?xml"]
    return marks.contains(where: beginning.hasPrefix) ? .html : .unknown
  }

  private static func isWhiteSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D
  }
}
