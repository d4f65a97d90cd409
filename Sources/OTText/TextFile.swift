import OTFoundation
import OTJSON
import OTPlatform

/// A text: a file, or what a pipe gives, `-` being standard input.
///
/// It is lines of JSON, an object a line whose field `text`, or another that is named, is a document, or plain text, which is one
/// document. `.jsonl`, `.ndjson` and `.txt` say so; under any other name, what begins with `{` is lines. Either may
/// be compressed with zstd or gzip.
///
/// Text is UTF-8; anything else is refused, since silently replaced characters
/// would spoil whatever is measured on it. A byte-order mark is passed over.
/// Lines of JSON are parsed strictly; blank lines and documents without text
/// are passed over.
package struct TextFile: Sendable {
  /// The layout of documents in a file.
  enum Layout: Sendable {
    case plain, lines
  }

  /// The field of lines of JSON that has the text, unless told otherwise.
  package static let standardField = "text"

  /// The longest line of a `.jsonl`, in bytes.
  package static let maximumLineByteCount = 1 << 26

  /// The file.
  package let file: MappedFile
  let layout: Layout
  private let field: String
  let compression: ByteStream.Compression

  var stream: ByteStream { ByteStream(file: file, compression: compression) }

  /// Opens a file, or reads a pipe to its end; one that was read is not read again.
  ///
  /// - Parameter field: the field of lines of JSON that has the text.
  /// - Throws: `Refusal` with a rule `text-is-…` for what is no text, `text-zst-…` or `text-gz-…` for one that
  ///   cannot be decompressed, `text-field` where a field is asked for that plain text does not have, or a rule `file-…`.
  package init(path: String, field: String = TextFile.standardField) throws {
    try self.init(TextStreams.isStream(path) ? TextStreams.content(of: path) : MappedFile(path: path), field: field)
  }

  /// Opens a text that is mapped; its path is its name.
  ///
  /// - Throws: as `init(path:field:)`.
  package init(_ file: MappedFile, field: String = TextFile.standardField) throws {
    self.field = field
    self.file = file
    let path = file.path
    let content = FileContent(file.bytes)
    switch content {
    case .json, .html, .zstd, .gzip, .unknown, .empty: break
    default: throw content.refusal(reader: "text", wanted: "text", file: path)
    }
    var name = path
    if content == .zstd || path.hasSuffix(".zst") {
      compression = .zstd
    } else if content == .gzip || path.hasSuffix(".gz") {
      compression = .gzip
    } else {
      compression = .none
    }
    for suffix in [".zst", ".gz"] where name.hasSuffix(suffix) { name.removeLast(suffix.count) }
    if name.hasSuffix(".txt") {
      layout = .plain
    } else if name.hasSuffix(".jsonl") || name.hasSuffix(".ndjson") {
      layout = .lines
    } else {
      layout = try TextFile.beginsWithObject(ByteStream(file: file, compression: compression)) ? .lines : .plain
    }
    guard layout == .lines || field == TextFile.standardField else {
      throw Refusal(
        "text-field", "is plain text, not lines of JSON with a field '\(Refusal.printable(field))'", file: file.path)
    }
  }

  /// The name of a file in records of what was read: its own, and the field that was asked for.
  package static func recordName(_ path: String, field: String) -> String {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    return field == standardField ? name : "\(name), field '\(field)'"
  }

  /// True when the first thing of a text is an object of JSON.
  private static func beginsWithObject(_ stream: ByteStream) throws -> Bool {
    var result = false
    try stream.forEachBlock { block in
      let start = block.starts(with: byteOrderMark) ? byteOrderMark.count : 0
      guard let first = block[start...].first(where: { $0 != 0x20 && !(0x09...0x0D).contains($0) }) else { return true }
      result = first == UInt8(ascii: "{")
      return false
    }
    return result
  }

  /// Calls `body` with document after document until it returns false.
  ///
  /// Memory grows with the longest document, not with the file.
  /// - Throws: `Refusal` with rule `text-utf8`, `text-line-length`, `text-field`,
  ///   `text-zst-damaged`, `text-zst-truncated` or `json-…`; whatever `body` throws.
  package func forEachDocument(_ body: (String) throws -> Bool) throws {
    switch layout {
    case .plain:
      var bytes: [UInt8] = []
      try stream.forEachBlock { block in
        bytes += block
        return true
      }
      let text = try text(bytes, byteOffset: 0)
      if !text.isEmpty { _ = try body(text) }
    case .lines:
      try forEachLine { line in
        guard let text = try document(line), !text.isEmpty else { return true }
        return try body(text)
      }
    }
  }

  /// A line of a `.jsonl`, without its end.
  package struct Line {
    /// The bytes, whatever they are.
    package var bytes: [UInt8]
    /// Counted from 1.
    package var number: Int
    /// Its offset in the (decompressed) text.
    package var byteOffset: Int
  }

  /// Calls `body` with line after line until it returns false.
  ///
  /// - Throws: `Refusal` with rule `text-line-length`, `text-zst-…` or `text-gz-…`; whatever `body` throws.
  package func forEachLine(_ body: (Line) throws -> Bool) throws {
    var line = Line(bytes: [], number: 1, byteOffset: 0)
    var goesOn = true
    func append(_ bytes: UnsafeRawBufferPointer) throws {
      guard line.bytes.count + bytes.count <= TextFile.maximumLineByteCount else {
        throw Refusal(
          "text-line-length", "line \(line.number) is longer than \(TextFile.maximumLineByteCount) bytes",
          file: file.path, byteOffset: line.byteOffset, remedy: "is it a .txt file?")
      }
      line.bytes.append(contentsOf: bytes)
    }
    try stream.forEachBlock { block in
      var rest = block
      while goesOn, let start = rest.baseAddress, let end = memchr(start, Int32(UInt8(ascii: "\n")), rest.count) {
        let count = UnsafeRawPointer(end) - start
        try append(UnsafeRawBufferPointer(rebasing: rest[..<count]))
        goesOn = try body(line)
        line.number += 1
        line.byteOffset += line.bytes.count + 1
        line.bytes.removeAll(keepingCapacity: true)
        rest = UnsafeRawBufferPointer(rebasing: rest[(count + 1)...])
      }
      if goesOn { try append(rest) }
      return goesOn
    }
    if goesOn, !line.bytes.isEmpty { _ = try body(line) }
  }

  /// The text of a line: of lines of JSON the document; nil for a blank one.
  ///
  /// - Throws: `Refusal` with rule `text-utf8`, `text-field` or `json-…`.
  package func text(of line: Line) throws -> String? {
    if layout == .lines { return try document(line) }
    let isCRLF = line.bytes.last == UInt8(ascii: "\r")
    return try text(isCRLF ? line.bytes.dropLast() : line.bytes, byteOffset: line.byteOffset)
  }

  /// The document of a line; nil for a blank one.
  func document(_ line: Line) throws -> String? {
    let skipped = line.number == 1 && line.bytes.starts(with: TextFile.byteOrderMark) ? 3 : 0
    let bytes = line.bytes[skipped...]
    guard bytes.contains(where: { $0 != 0x20 && $0 != 0x09 && $0 != 0x0D }) else { return nil }
    let value: JSONValue
    do {
      value = try bytes.withUnsafeBytes {
        try JSONValue.parse(
          $0, limits: JSONLimits(byteCount: TextFile.maximumLineByteCount, readsLargeIntegersAsDoubles: true),
          file: file.path, baseOffset: line.byteOffset + skipped)
      }
    } catch let refusal as Refusal {
      throw Refusal(
        refusal.rule, "line \(line.number) \(refusal.message)", file: refusal.file, byteOffset: refusal.byteOffset,
        remedy: refusal.remedy)
    }
    guard let text = value[field]?.string else {
      let others = (value.object?.members ?? []).filter { $0.1.string != nil }.map(\.0)
      throw Refusal(
        "text-field", "line \(line.number) is not an object with a text under '\(field)'", file: file.path,
        byteOffset: line.byteOffset,
        remedy: others.isEmpty
          ? nil : "name the field that has it with --text-field: \(others.prefix(8).joined(separator: ", "))")
    }
    return text
  }

  private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

  /// The text that `bytes` are, which begin at `byteOffset`.
  ///
  /// - Throws: `Refusal` with rule `text-utf8`.
  func text(_ bytes: [UInt8], byteOffset: Int) throws -> String {
    let skipped = byteOffset == 0 && bytes.starts(with: TextFile.byteOrderMark) ? 3 : 0
    let bytes = bytes[skipped...]
    guard let text = String(validating: bytes, as: UTF8.self) else {
      var parser = UTF8.ForwardParser()
      var iterator = bytes.makeIterator()
      var validByteCount = 0
      while case .valid(let scalar) = parser.parseScalar(from: &iterator) { validByteCount += scalar.count }
      throw Refusal(
        "text-utf8", "is not UTF-8", file: file.path, byteOffset: byteOffset + skipped + validByteCount,
        remedy: "convert it to UTF-8, for example with 'iconv -f LATIN1 -t UTF-8'")
    }
    return text
  }
}

extension TextFile {
  /// A part of a document as it is stored, cut behind white space if possible.
  struct Piece {
    var bytes: [UInt8]
    var byteOffset: Int
  }

  /// Cuts a plain text into pieces of at most `byteCount` bytes.
  func forEachPiece(byteCount: Int, _ body: (Piece) throws -> Bool) throws {
    var pending: [UInt8] = []
    var byteOffset = 0
    var goesOn = true
    try stream.forEachBlock { block in
      pending += block
      var start = 0
      while goesOn, pending.count - start > byteCount {
        let end = TextFile.cut(pending[start..<start + byteCount])
        goesOn = try body(Piece(bytes: Array(pending[start..<end]), byteOffset: byteOffset))
        byteOffset += end - start
        start = end
      }
      pending.removeFirst(start)
      return goesOn
    }
    if goesOn, !pending.isEmpty { _ = try body(Piece(bytes: pending, byteOffset: byteOffset)) }
  }

  /// The end of a piece that may not be longer than `bytes`: behind the last
  /// line, else in front of the last space (which tokenizers join to the word
  /// after it), else between characters.
  private static func cut(_ bytes: ArraySlice<UInt8>) -> Int {
    if let line = bytes.lastIndex(of: UInt8(ascii: "\n")) { return line + 1 }
    if let space = bytes.lastIndex(of: UInt8(ascii: " ")), space > bytes.startIndex { return space }
    // In front of the byte that begins the last character, which may not be whole.
    let character = bytes.lastIndex { $0 & 0xC0 != 0x80 } ?? bytes.startIndex
    return character > bytes.startIndex ? character : bytes.endIndex
  }
}
