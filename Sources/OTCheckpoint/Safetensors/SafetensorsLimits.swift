import OTFoundation

/// The bounds of a safetensors file: see `formats/accepted-safetensors.md`.
enum SafetensorsLimits {
  /// Bytes of the header's length, which begins the file.
  static let lengthByteCount = 8
  static let headerByteCount = FileContent.safetensorsHeaderByteCount
  static let tensorCount = 1_000_000
  /// The longest description of one tensor, behind its name.
  static let entryByteCount = 16_384
  /// The most texts under `__metadata__`.
  static let metadataCount = 65_536
  static let metadataKey = "__metadata__"
  /// The data begin at a multiple of this in files that we write.
  static let alignment = 8
}
