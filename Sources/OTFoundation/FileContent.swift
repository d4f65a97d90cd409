/// The kind of a file, told from its first bytes and never from its name.
///
/// The one table of what first bytes mean, for every file that is opened; raw values end rules
/// such as `json-is-html`.
package enum FileContent: String, Sendable, Hashable, CaseIterable {
  case safetensors, zip, pickle, json, gguf, otq
  case gitLFSPointer = "git-lfs-pointer"
  case html, tar, gzip, zstd, xz, bzip2, parquet, arrow, pdf, hdf5, numpy
  case sevenZip = "7z"
  case mobile = "pytorch-mobile"
  case utf16 = "utf-16"
  case empty, unknown

  /// Beginnings that are of one kind alone.
  private static let beginnings: [(FileContent, [UInt8])] = [
    (.zip, Array("PK\u{3}\u{4}".utf8)), (.zip, Array("PK\u{5}\u{6}".utf8)),
    (.gguf, Array("GGUF".utf8)), (.otq, [0x89] + Array("OTQ\r\n".utf8)),
    (.gitLFSPointer, Array("version https://git-lfs".utf8)), (.gitLFSPointer, Array("version https://hawser".utf8)),
    (.gzip, [0x1F, 0x8B]), (.zstd, [0x28, 0xB5, 0x2F, 0xFD]), (.xz, [0xFD, 0x37, 0x7A, 0x58, 0x5A]),
    (.bzip2, Array("BZh".utf8)), (.sevenZip, [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]),
    // A stream of Arrow begins with a mark of 32 ones before the length of its first message.
    (.arrow, Array("ARROW1".utf8)), (.arrow, Array("FEA1".utf8)), (.arrow, [0xFF, 0xFF, 0xFF, 0xFF]),
    (.pdf, Array("%PDF-".utf8)), (.parquet, Array("PAR1".utf8)), (.hdf5, [0x89] + Array("HDF\r\n".utf8)),
    (.numpy, [0x93] + Array("NUMPY".utf8)),
    (.mobile, Array("PYTORCH1".utf8)), (.utf16, [0xFF, 0xFE]), (.utf16, [0xFE, 0xFF]),
  ]

  /// The longest header of a safetensors file, in bytes.
  package static let safetensorsHeaderByteCount = 100_000_000
  /// Place of the magic of a tar archive.
  private static let tarMagicOffset = 257

  /// The kind of a file that begins with these bytes.
  package init(_ bytes: UnsafeRawBufferPointer) {
    func starts(_ prefix: [UInt8], at offset: Int = 0) -> Bool {
      bytes.count >= offset + prefix.count && bytes[offset...].starts(with: prefix)
    }
    if bytes.isEmpty {
      self = .empty
    } else if FileContent.beginsSafetensors(bytes) {
      // Safetensors first: its length field may spell the start of anything else,
      // but nothing else has a small length there and then an object.
      self = .safetensors
    } else if bytes.count >= 2, bytes[0] == 0x80, (2...5).contains(bytes[1]) {
      self = .pickle
    } else if let known = FileContent.beginnings.first(where: { starts($0.1) }) {
      self = known.0
    } else if starts(Array("ustar".utf8), at: FileContent.tarMagicOffset) {
      self = .tar
    } else {
      self = FileContent.text(bytes)
    }
  }

  private static func beginsSafetensors(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard bytes.count > 8 else { return false }
    guard bytes.loadUnaligned(as: UInt64.self).littleEndian <= UInt64(safetensorsHeaderByteCount) else { return false }
    return bytes[8] == UInt8(ascii: "{") || isWhiteSpace(bytes[8])
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

  // MARK: Words

  /// The kind in words, as an object of "is": `a web page`.
  package var name: String {
    switch self {
    case .safetensors: "a safetensors file"
    case .zip: "a ZIP archive"
    case .pickle: "a Python pickle"
    case .json: "JSON text"
    case .gguf: "a GGUF file"
    case .otq: "a packed .otq file already"
    case .gitLFSPointer: "a Git LFS pointer"
    case .html: "a web page"
    case .tar: "a tar archive"
    case .gzip: "compressed with gzip"
    case .zstd: "compressed with zstd"
    case .xz: "compressed with xz"
    case .bzip2: "compressed with bzip2"
    case .parquet: "a Parquet file"
    case .arrow: "an Arrow file"
    case .pdf: "a PDF document"
    case .hdf5: "an HDF5 file"
    case .numpy: "a NumPy file"
    case .sevenZip: "a 7z archive"
    case .mobile: "an early PyTorch mobile file"
    case .utf16: "text in UTF-16"
    case .empty: "empty"
    case .unknown: "of an unknown kind"
    }
  }

  /// The way from such a file to what was wanted.
  package var remedy: String {
    switch self {
    case .gitLFSPointer: "run 'git lfs pull' in its repository"
    case .html: "download the file itself, not its page"
    case .tar, .sevenZip, .zip: "unpack it, and give what is in it"
    case .gzip: "decompress it with gunzip"
    case .zstd: "decompress it with 'zstd -d'"
    case .xz: "decompress it with unxz"
    case .bzip2: "decompress it with bunzip2"
    case .otq: "'otconvert unpack' writes safetensors"
    case .parquet, .arrow: "write its column of text to a .jsonl, an object {\"text\": …} a line"
    case .pdf: "take the text out of it, with pdftotext"
    case .utf16: "convert it to UTF-8, with 'iconv -f UTF-16 -t UTF-8'"
    case .empty: "download the file again"
    case .hdf5, .numpy, .mobile: "load it in the program that wrote it, and save it as safetensors"
    case .safetensors, .pickle, .gguf, .json, .unknown: "give the file that belongs here"
    }
  }

  /// The refusal of a file of this kind where another one is read.
  ///
  /// - Parameters:
  ///   - reader: the beginning of the rule: `json` for `json-is-html`.
  ///   - wanted: what the file should be, in words: `JSON`.
  package func refusal(reader: String, wanted: String, file: String) -> Refusal {
    Refusal(
      "\(reader)-is-\(rawValue)", "is \(name), not \(wanted)", file: file, byteOffset: self == .empty ? nil : 0,
      remedy: remedy)
  }
}
