/// Numbers of the `.otq` format; `formats/otq.md` is the authority.
package enum ContainerFormat {
  /// First bytes of every file, in the manner of PNG: a byte that is no text,
  /// the name, and line ends that a text transfer would damage.
  package static let magic: [UInt8] = [0x89, 0x4F, 0x54, 0x51, 0x0D, 0x0A, 0x1A, 0x0A]
  /// Readers refuse files of another major version.
  package static let majorVersion: UInt16 = 1
  /// Readers accept any minor version of their major version.
  package static let minorVersion: UInt16 = 0
  /// Bytes of the header.
  package static let headerByteCount = 128
  /// Every extent starts at a multiple of this many bytes.
  package static let alignment = 64
  /// Required features this reader knows: none.
  package static let knownRequiredFeatures: UInt64 = 0
  /// Bytes of an entry of the extent table.
  static let extentEntryByteCount = 32
  /// The most extents of a file.
  static let maximumExtentCount = 1 << 26
  /// The longest metadata, decoded.
  static let maximumMetadataByteCount = 1 << 28
  /// The most bytes that one extent may decode to: a row tile of 4 million columns.
  static let maximumDecodedByteCount = 1 << 26
  /// The most bytes that one byte of zstd can stand for: a block of 4 bytes
  /// decodes to 128 KiB. A frame that claims more is refused before memory is taken.
  static let maximumExpansion = 1 << 15
  /// Decoded bytes a chunk aims at.
  static let chunkByteCount = 1 << 18
  /// The largest window a frame may ask for.
  static let maximumWindowByteCount = 1 << 23
}
