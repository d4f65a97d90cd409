/// The bounds of a GGUF file: see `formats/accepted-gguf.md`.
enum GGUFLimits {
  static let tensorCount = 1_000_000
  static let keyCount = 65_536
  /// Elements of all lists of a file together.
  static let elementCount = 1 << 24
  /// Bytes of a name.
  static let nameByteCount = 4_096
  /// Bytes of a string.
  static let stringByteCount = 1 << 24
  static let rank = 4
  static let alignment = 32
  static let splitCount = 65_535
}
