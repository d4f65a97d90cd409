import OTFoundation

/// The bounds of a safetensors file: see `formats/accepted-safetensors.md`.
enum SafetensorsLimits {
  /// Bytes of the header's length, which begins the file.
  static let lengthByteCount = 8
  static let headerByteCount = 100_000_000
  static let tensorCount = 1_000_000
  static let nameByteCount = 4096
  /// The longest description of one tensor, behind its name.
  static let entryByteCount = 16_384
  /// The most texts under `__metadata__`.
  static let metadataCount = 65_536
  static let metadataKey = "__metadata__"
  /// The data begin at a multiple of this in files that we write.
  static let alignment = 8

  /// The fault of a tensor's name, or nil.
  static func fault(inName name: String) -> String? {
    if name.isEmpty { return "a tensor has an empty name" }
    if name.utf8.count > nameByteCount {
      return "a tensor's name has \(name.utf8.count) bytes, more than \(nameByteCount)"
    }
    let hasControls = name.unicodeScalars.contains {
      $0.value < 0x20 || (0x7F...0x9F).contains($0.value)
    }
    return hasControls ? "a tensor's name contains a control character" : nil
  }
}
