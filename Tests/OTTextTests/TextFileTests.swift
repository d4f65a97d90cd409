import CZlib
import CZstd
import Foundation
import OTFoundation
import OTText
import Testing
import _OTTestSupport

/// A frame of zstd, made by the library itself.
func zstd(_ bytes: [UInt8]) -> [UInt8] {
  [UInt8](unsafeUninitializedCapacity: ZSTD_compressBound(bytes.count)) { buffer, count in
    count = bytes.withUnsafeBytes { ZSTD_compress(buffer.baseAddress, buffer.count, $0.baseAddress, $0.count, 3) }
  }
}

/// A member of gzip, made by zlib.
func gzip(_ bytes: [UInt8]) -> [UInt8] {
  var stream = z_stream()
  var input = bytes
  var output = [UInt8](repeating: 0, count: bytes.count + 1024)
  return withUnsafeMutablePointer(to: &stream) { stream in
    // Wrapped as gzip wraps it.
    deflateInit2_(
      stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    defer { deflateEnd(stream) }
    return input.withUnsafeMutableBufferPointer { input in
      output.withUnsafeMutableBufferPointer { output in
        (stream.pointee.next_in, stream.pointee.avail_in) = (input.baseAddress, UInt32(input.count))
        (stream.pointee.next_out, stream.pointee.avail_out) = (output.baseAddress, UInt32(output.count))
        deflate(stream, Z_FINISH)
        return Array(output[..<(output.count - Int(stream.pointee.avail_out))])
      }
    }
  }
}

func write(_ bytes: some Sequence<UInt8>, to path: String) throws {
  try Data(bytes).write(to: URL(fileURLWithPath: path))
}

/// Writes into what is there, a pipe for example.
private func write(_ bytes: [UInt8], through path: String) throws {
  let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
  try handle.write(contentsOf: bytes)
  try handle.close()
}

@Suite struct TextFileTests {
  private static func documents(_ bytes: [UInt8], _ name: String) throws -> [String] {
    try withTemporaryFolder { folder in
      try write(bytes, to: folder + "/" + name)
      var documents: [String] = []
      try TextFile(path: folder + "/" + name).forEachDocument {
        documents.append($0)
        return true
      }
      return documents
    }
  }

  @Test func aPlainTextIsOneDocument() throws {
    let text = "One\r\n\ntwo, é 😀\0\n"
    #expect(try Self.documents(Array(text.utf8), "a.txt") == [text])
    #expect(try Self.documents([0xEF, 0xBB, 0xBF] + Array(text.utf8), "a.txt") == [text])
    #expect(try Self.documents(zstd(Array(text.utf8)), "a.txt.zst") == [text])
    #expect(try Self.documents([], "a.txt").isEmpty)
  }

  @Test func aLineIsADocument() throws {
    let lines = #"""
      {"text": "a\u00e9\n\ud83d\ude00", "meta": {"n": 1e3, "big": 123456789012345678901234567890}}

      {"meta": null, "text": ""}
      {"text": "b"}
      """#
    let expected = ["aé\n😀", "b"]
    #expect(try Self.documents(Array(lines.utf8), "a.jsonl") == expected)
    let carriageReturns = lines.replacingOccurrences(of: "\n", with: "\r\n") + "\r\n"
    #expect(try Self.documents(Array(carriageReturns.utf8), "a.jsonl") == expected)
    // Two frames, cut anywhere.
    let bytes = Array(lines.utf8)
    for cut in [0, 1, 40, bytes.count] {
      #expect(try Self.documents(zstd(Array(bytes[..<cut])) + zstd(Array(bytes[cut...])), "a.jsonl.zst") == expected)
    }
  }

  /// Named by what they are, whatever they are called.
  @Test(
    arguments: ["a.txt", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.arrow"],
    [
      ("text-is-parquet", Array("PAR1".utf8)), ("text-is-bzip2", Array("BZh9".utf8)),
      ("text-is-arrow", Array("ARROW1".utf8)), ("text-is-arrow", [0xFF, 0xFF, 0xFF, 0xFF, 0x10, 1, 0, 0]),
      ("text-is-pdf", Array("%PDF-1.7".utf8) + [0xE2, 0xE3]), ("text-is-xz", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0]),
      ("text-is-git-lfs-pointer", Array("version https://git-lfs.github.com/spec/v1\n".utf8)),
      ("text-is-utf-16", [0xFF, 0xFE, 0x41, 0]), ("text-is-zip", [0x50, 0x4B, 3, 4]),
    ] as [(String, [UInt8])])
  func filesOfOtherKinds(_ name: String, _ kind: (String, [UInt8])) throws {
    let error = #expect(throws: Refusal.self) { try Self.documents(kind.1, name) }
    #expect(error?.rule == kind.0 && error?.remedy != nil)
  }

  /// Compressed or not is told by the bytes.
  @Test func compressionIsToldByContent() throws {
    #expect(try Self.documents(zstd(Array("a b".utf8)), "a.txt") == ["a b"])
    #expect(try Self.documents(gzip(Array("a b".utf8)), "a.txt") == ["a b"])
  }

  /// Under names that say nothing, what begins with an object is lines of them.
  @Test(arguments: ["a", "a.md", "a.gz", "a.zst", "a.text.gz"]) func layoutIsToldByContent(_ name: String) throws {
    func packed(_ text: String) -> [UInt8] {
      let bytes = Array(text.utf8)
      return name.hasSuffix(".gz") ? gzip(bytes) : name.hasSuffix(".zst") ? zstd(bytes) : bytes
    }
    #expect(try Self.documents(packed("\u{FEFF} \n{\"text\": \"a\"}\n{\"text\": \"b\"}"), name) == ["a", "b"])
    #expect(try Self.documents(packed("a {\n"), name) == ["a {\n"])
    #expect(try Self.documents(packed(""), name).isEmpty)
  }

  /// Members of gzip one after another; cut off, and changed.
  @Test func gzipIsReadToItsEnd() throws {
    let text = Array(String(repeating: "some text, é\n", count: 300_000).utf8)
    let wanted = [String(decoding: text, as: UTF8.self)]
    #expect(try Self.documents(gzip(text), "a.txt.gz") == wanted)
    for cut in [0, 1, 100_001, text.count] {
      #expect(try Self.documents(gzip(Array(text[..<cut])) + gzip(Array(text[cut...])), "a.txt.gz") == wanted)
    }
    func rule(_ bytes: [UInt8]) -> String? {
      #expect(throws: Refusal.self) { try Self.documents(bytes, "a.txt.gz") }?.rule
    }
    let member = gzip(Array("a text".utf8))
    for count in 2..<member.count { #expect(rule(Array(member.prefix(count))) == "text-gz-truncated", "\(count)") }
    var changed = member
    changed[member.count - 8] ^= 1
    #expect(rule(changed) == "text-gz-damaged")
    #expect(rule(member + [1, 2, 3]) == "text-gz-damaged")
    #expect(rule(Array("plain".utf8)) == "text-gz-damaged")
  }

  /// Another field than `text`; without one, a refusal names those that a line has.
  @Test func fieldsAreNamed() throws {
    try withTemporaryFolder { folder in
      let (lines, plain) = (folder + "/a.jsonl", folder + "/a.txt")
      try write(Array(#"{"id": 3, "content": "one", "title": "two"}"#.utf8), to: lines)
      try write(Array("plain".utf8), to: plain)
      func documents(_ path: String, _ field: String) throws -> [String] {
        var documents: [String] = []
        try TextFile(path: path, field: field).forEachDocument {
          documents.append($0)
          return true
        }
        return documents
      }
      #expect(try documents(lines, "content") == ["one"] && documents(lines, "title") == ["two"])
      for (path, field) in [(lines, "text"), (lines, "id"), (plain, "content")] {
        let refusal = try #require(#expect(throws: Refusal.self) { try documents(path, field) })
        #expect(refusal.rule == "text-field")
        if path == lines { #expect(refusal.remedy?.hasSuffix("--text-field: content, title") ?? false) }
      }
    }
  }

  /// A pipe gives its text once, and it can be read again.
  @Test func pipesAreRead() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/pipe"
      #expect(mkfifo(path, 0o600) == 0)
      let writer = Thread { try? write(Array("{\"text\": \"from a pipe\"}\n".utf8), through: path) }
      writer.start()
      for _ in 0..<2 {
        var documents: [String] = []
        try TextFile(path: path).forEachDocument {
          documents.append($0)
          return true
        }
        #expect(documents == ["from a pipe"])
      }
    }
  }

  /// Several blocks of input and of output, whose borders fall anywhere.
  @Test func longFiles() throws {
    var random = SeededGenerator()
    let expected = (0..<3000).map { index in
      "\(index) " + String(repeating: "x\(index % 7)é", count: Int.random(in: 0..<600, using: &random))
    }
    let lines = Array(expected.map { "{\"text\":\"\($0)\"}\n" }.joined().utf8)
    #expect(lines.count > 2 << 20)
    #expect(try Self.documents(lines, "a.jsonl") == expected, "seed \(random.seed)")
    #expect(try Self.documents(zstd(lines), "a.jsonl.zst") == expected, "seed \(random.seed)")
  }

  @Test func readingStopsWhenTold() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/a.jsonl"
      try write("{\"text\":\"1\"}\n{\"text\":\"2\"}\nnot JSON".utf8, to: path)
      var found: [String] = []
      try TextFile(path: path).forEachDocument {
        found.append($0)
        return found.count < 2
      }
      #expect(found == ["1", "2"])
    }
  }

  /// Lines of every length, blank ones among them, over the ends of what is read at once, against a split of the whole.
  @Test(arguments: ["a.txt", "a.txt.zst", "a.txt.gz"])
  func linesAreThoseOfTheWholeText(name: String) throws {
    var random = SeededGenerator()
    var content: [UInt8] = []
    while content.count < 5 << 20 {
      let count =
        [0, 1, Int.random(in: 0...200, using: &random), Int.random(in: 0...400_000, using: &random)]
        .randomElement(using: &random) ?? 0
      content += repeatElement(UInt8.random(in: 0x61...0x7A, using: &random), count: count) + [0x0A]
    }
    if Bool.random(using: &random) { content.append(0x62) }
    var expected: [(bytes: ArraySlice<UInt8>, offset: Int)] = []
    var offset = 0
    for line in content.split(separator: 0x0A, omittingEmptySubsequences: false) {
      expected.append((line, offset))
      offset += line.count + 1
    }
    if expected.last?.bytes.isEmpty == true { expected.removeLast() }
    try withTemporaryFolder { folder in
      let path = folder + "/" + name
      try write(name.hasSuffix("zst") ? zstd(content) : name.hasSuffix("gz") ? gzip(content) : content, to: path)
      for wanted in [expected.count, Int.random(in: 1...expected.count, using: &random)] {
        var found: [TextFile.Line] = []
        try TextFile(path: path).forEachLine { line in
          found.append(line)
          return found.count < wanted
        }
        #expect(found.count == wanted, "seed \(random.seed)")
        #expect(
          zip(found, expected).allSatisfy { $0.bytes[...] == $1.bytes && $0.byteOffset == $1.offset },
          "seed \(random.seed)")
        #expect(found.enumerated().allSatisfy { $1.number == $0 + 1 }, "seed \(random.seed)")
      }
    }
  }

  struct Fault: Sendable, CustomStringConvertible {
    let description: String
    let name: String
    let bytes: [UInt8]
    var byteOffset: Int?
  }

  private static let frame = zstd(Array(String(repeating: "{\"text\":\"abc\"}\n", count: 50).utf8))
  static let faults = [
    Fault(description: "text-zst-damaged", name: "a.zst", bytes: [1]),
    Fault(description: "text-utf8", name: "a.txt", bytes: Array("aé".utf8) + [0xFF, 0x61], byteOffset: 3),
    Fault(description: "text-utf8", name: "a.txt", bytes: [0xEF, 0xBB, 0xBF, 0x61, 0xC3], byteOffset: 4),
    Fault(description: "text-is-utf-16", name: "a.txt", bytes: [0xFF, 0xFE, 0x61, 0], byteOffset: 0),
    Fault(description: "text-field", name: "a.jsonl", bytes: Array("{\"text\":\"a\"}\n{\"t\":1}".utf8), byteOffset: 13),
    Fault(description: "text-field", name: "a.jsonl", bytes: Array("{\"text\":1}".utf8)),
    Fault(description: "text-field", name: "a.jsonl", bytes: Array("[\"text\"]".utf8)),
    Fault(description: "json-", name: "a.jsonl", bytes: Array("{\"text\":\"a\"}\n{\"text\":\"a".utf8)),
    Fault(description: "json-", name: "a.jsonl", bytes: Array("{\"text\":\"a\",\"text\":\"b\"}".utf8)),
    Fault(description: "json-", name: "a.jsonl", bytes: Array("{\"text\":\"".utf8) + [0xFF] + Array("\"}".utf8)),
    Fault(description: "text-zst-truncated", name: "a.jsonl.zst", bytes: Array(frame.dropLast(1))),
    Fault(description: "text-zst-truncated", name: "a.jsonl.zst", bytes: Array(frame.prefix(3))),
    Fault(description: "text-zst-truncated", name: "a.jsonl.zst", bytes: frame + frame.prefix(9)),
    Fault(description: "text-zst-damaged", name: "a.jsonl.zst", bytes: frame + [1, 2, 3, 4, 5, 6, 7, 8]),
    Fault(description: "text-zst-damaged", name: "a.txt.zst", bytes: Array("plain text".utf8)),
  ]

  @Test(arguments: faults) func badTextIsRefused(_ fault: Fault) throws {
    let refusal = try #require(throws: Refusal.self) { try Self.documents(fault.bytes, fault.name) }
    #expect(refusal.rule.hasPrefix(fault.description), "\(refusal)")
    #expect(refusal.file?.hasSuffix(fault.name) == true)
    if let offset = fault.byteOffset { #expect(refusal.byteOffset == offset) }
  }

  /// At every length: a prefix of a frame is never taken for the whole.
  @Test func everyTruncationIsNoticed() throws {
    for length in 1..<Self.frame.count {
      let refusal = try #require(throws: Refusal.self) {
        try Self.documents(Array(Self.frame.prefix(length)), "a.jsonl.zst")
      }
      #expect(refusal.rule == "text-zst-truncated", "\(length): \(refusal)")
    }
  }
}
