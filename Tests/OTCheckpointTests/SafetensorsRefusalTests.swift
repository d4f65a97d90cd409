import OTCheckpoint
import OTFoundation
import Testing
import _OTCSupport
import _OTTestSupport

/// One file that must be refused, and the rule it breaks.
struct SafetensorsFault: Sendable, CustomTestStringConvertible {
  /// The number in `formats/accepted-safetensors.md`.
  let number: Int
  let rule: String
  let bytes: [UInt8]
  var tensor: String?
  var byteOffset: Int?

  var testDescription: String { "\(number) \(rule)" }

  init(
    _ number: Int, _ rule: String, _ bytes: [UInt8], tensor: String? = nil, at offset: Int? = nil
  ) {
    (self.number, self.rule, self.bytes) = (number, rule, bytes)
    (self.tensor, byteOffset) = (tensor, offset)
  }

  /// A file whose only tensor 'w' has these fields, and `data` bytes.
  init(
    _ number: Int, _ rule: String, dtype: String = "\"F32\"", shape: String = "[2]",
    offsets: String = "[0,8]", data: Int = 8, at offset: Int? = 9
  ) {
    let header =
      "{\"w\":{\"dtype\":\(dtype),\"shape\":\(shape),\"data_offsets\":\(offsets)}}"
    self.init(
      number, rule, safetensorsBytes(header, data: [UInt8](repeating: 0, count: data)),
      tensor: "w", at: offset)
  }

  private static func tensor(_ name: String, _ begin: Int, _ end: Int) -> String {
    "\"\(name)\":{\"dtype\":\"U8\",\"shape\":[\(end - begin)],\"data_offsets\":[\(begin),\(end)]}"
  }

  private static func texts(_ count: Int) -> String {
    (0..<count).map { "\"\($0)\":\"\"" }.joined(separator: ",")
  }

  private static let good = "{\(tensor("a", 0, 2)),\(tensor("b", 2, 4))}"
  private static let four: [UInt8] = [1, 2, 3, 4]
  private static let long = String(repeating: "n", count: 4097)

  static let all: [SafetensorsFault] = [
    .init(1, "safetensors-too-short", []),
    .init(1, "safetensors-too-short", [2, 0, 0, 0, 0, 0, 0]),
    .init(2, "safetensors-header-too-large", [0x01, 0xE1, 0xF5, 0x05, 0, 0, 0, 0, 0x7B, 0x7D]),
    .init(2, "safetensors-header-too-large", [UInt8](repeating: 0xFF, count: 16)),
    .init(
      2, "json-too-large",
      safetensorsBytes("{\"a\":{\"x\":[" + String(repeating: "[],", count: 6000) + "[]]}}")),
    .init(2, "json-too-many", safetensorsBytes("{\"__metadata__\":{\(texts(65_537))}}")),
    .init(3, "safetensors-header-past-end", [3, 0, 0, 0, 0, 0, 0, 0, 0x7B, 0x7D]),
    .init(3, "safetensors-header-past-end", [2, 0, 0, 0, 0, 0, 0, 0]),
    .init(4, "safetensors-header-empty", [UInt8](repeating: 0, count: 8)),
    .init(4, "safetensors-header-not-object", safetensorsBytes("[]")),
    .init(4, "safetensors-header-not-object", safetensorsBytes("null")),
    .init(4, "json-truncated", safetensorsBytes("   ")),
    .init(5, "json-not-utf8", safetensorsBytes(Array("{\"".utf8) + [0xFF] + Array("\":1}".utf8))),
    .init(5, "json-bom", safetensorsBytes([0xEF, 0xBB, 0xBF, 0x7B, 0x7D])),
    .init(6, "json-truncated", safetensorsBytes("{\"a\":{\"dtype\":\"U8\"")),
    .init(7, "json-trailing", safetensorsBytes(Array(good.utf8) + [0, 0], data: four)),
    .init(7, "json-trailing", safetensorsBytes(good + "{}", data: four)),
    .init(
      8, "json-duplicate-key",
      safetensorsBytes(
        "{\(tensor("a", 0, 2)),\(tensor("a", 2, 4))}", data: four)),
    .init(
      9, "json-duplicate-key",
      safetensorsBytes(
        "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        data: four)),
    .init(
      9, "json-duplicate-key",
      safetensorsBytes(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"shape\":[4],\"data_offsets\":[0,4]}}", data: four)
    ),
    .init(
      9, "json-duplicate-key",
      safetensorsBytes(
        "{\"__metadata__\":{},\(tensor("a", 0, 4)),\"__metadata__\":{}}", data: four)),
    .init(
      10, "json-duplicate-key",
      safetensorsBytes(
        "{\(tensor("a", 0, 2)),\(tensor("\\u0061", 2, 4))}", data: four)),
    .init(
      10, "safetensors-name",
      safetensorsBytes("{\(tensor("\\u00e9", 0, 2)),\(tensor("e\\u0301", 2, 4))}", data: four), tensor: "e\u{301}"),
    .init(11, "json-lone-surrogate", safetensorsBytes("{\(tensor("\\ud800", 0, 4))}", data: four)),
    .init(12, "safetensors-metadata", safetensorsBytes("{\"__metadata__\":{\"a\":1}}"), at: 9),
    .init(12, "safetensors-metadata", safetensorsBytes("{\"__metadata__\":null}"), at: 9),
    .init(
      13, "safetensors-missing-field",
      safetensorsBytes(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", data: four), tensor: "a"),
    .init(
      13, "safetensors-missing-field",
      safetensorsBytes(
        "{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", data: four), tensor: "a"),
    .init(13, "safetensors-entry-not-object", safetensorsBytes("{\"a\":[]}"), tensor: "a"),
    .init(14, "safetensors-dtype", dtype: "\"f32\""),
    .init(14, "safetensors-dtype", dtype: "\"F33\""),
    .init(14, "safetensors-dtype", dtype: "7"),
    .init(15, "safetensors-integer", shape: "[-2]"),
    .init(15, "safetensors-integer", shape: "[2.0]"),
    .init(15, "safetensors-integer", shape: "[2e0]"),
    .init(15, "safetensors-integer", shape: "[\"2\"]"),
    .init(15, "safetensors-integer", offsets: "[-8,0]"),
    .init(15, "json-integer-range", safetensorsBytes("{\"a\":{\"shape\":[9223372036854775808]}}")),
    .init(15, "json-integer-range", safetensorsBytes("{\"a\":{\"shape\":[18446744073709551618]}}")),
    .init(15, "safetensors-field-not-list", shape: "2"),
    .init(15, "safetensors-offset-count", offsets: "[0]"),
    .init(15, "safetensors-offset-count", offsets: "[0,4,8]"),
    .init(16, "safetensors-offsets-reversed", offsets: "[8,0]"),
    .init(
      17, "safetensors-hole", safetensorsBytes("{\(tensor("a", 1, 4))}", data: four), tensor: "a"),
    .init(
      17, "safetensors-hole",
      safetensorsBytes(
        "{\(tensor("b", 3, 4)),\(tensor("a", 0, 2))}", data: four), tensor: "b"),
    .init(
      18, "safetensors-overlap",
      safetensorsBytes(
        "{\(tensor("a", 0, 3)),\(tensor("b", 2, 4))}", data: four), tensor: "b"),
    .init(
      18, "safetensors-overlap",
      safetensorsBytes(
        "{\(tensor("a", 0, 4)),\(tensor("b", 0, 4))}", data: four), tensor: "b"),
    .init(
      18, "safetensors-overlap",
      safetensorsBytes(
        "{\(tensor("a", 0, 4)),\(tensor("b", 2, 2))}", data: four), tensor: "b"),
    .init(19, "safetensors-data-past-end", data: 7, at: nil),
    .init(19, "safetensors-data-past-end", offsets: "[0,9223372036854775807]", at: nil),
    .init(
      20, "safetensors-trailing-bytes", safetensorsBytes(good, data: four + [0]),
      at: 8 + good.utf8.count + 4),
    .init(20, "safetensors-trailing-bytes", safetensorsBytes("{}", data: [0]), at: 10),
    .init(21, "safetensors-size-mismatch", shape: "[3]"),
    .init(21, "safetensors-size-mismatch", dtype: "\"F64\""),
    .init(21, "safetensors-size-mismatch", shape: "[]"),
    .init(21, "safetensors-size-mismatch", shape: "[0]"),
    .init(22, "safetensors-shape-overflow", shape: "[4294967296,4294967296]"),
    .init(
      22, "safetensors-shape-overflow", shape: "[0,4294967296,4294967296]", offsets: "[0,0]",
      data: 0),
    .init(22, "safetensors-shape-overflow", shape: "[9223372036854775807,9223372036854775807,0]"),
    .init(22, "safetensors-shape-overflow", shape: "[2305843009213693952]"),
    .init(23, "safetensors-sub-byte", dtype: "\"F4\"", shape: "[3]", offsets: "[0,2]", data: 2),
    .init(
      23, "safetensors-sub-byte", dtype: "\"F6_E2M3\"", shape: "[5]", offsets: "[0,4]", data: 4),
    .init(25, "safetensors-rank", shape: "[1,1,1,1,1,1,1,1,2]"),
    .init(
      26, "safetensors-name", safetensorsBytes("{\(tensor("", 0, 4))}", data: four), tensor: ""),
    .init(26, "safetensors-name", safetensorsBytes("{\(tensor("a\\nb", 0, 4))}", data: four)),
    .init(26, "safetensors-name", safetensorsBytes("{\(tensor("a\\u009b", 0, 4))}", data: four)),
    .init(26, "json-nul-key", safetensorsBytes("{\(tensor("a\\u0000", 0, 4))}", data: four)),
    .init(26, "safetensors-name", safetensorsBytes("{\(tensor(long, 0, 4))}", data: four)),
    .init(
      27, "json-depth",
      safetensorsBytes(
        "{\"a\":" + String(repeating: "[", count: 100_000))),
    .init(
      28, "safetensors-is-git-lfs-pointer",
      Array(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".utf8)),
    .init(29, "safetensors-is-html", Array("\n<!DOCTYPE html><html>Not found</html>".utf8)),
    .init(29, "safetensors-is-html", Array("<html><body>".utf8)),
    .init(29, "safetensors-is-zip", Array("PK\u{3}\u{4}".utf8) + [UInt8](repeating: 0, count: 30)),
    .init(29, "safetensors-is-otq", [0x89] + Array("OTQ\r\n".utf8) + [0x1A, 0x0A, 1, 0, 0, 0]),
    .init(29, "safetensors-is-gguf", Array("GGUF".utf8) + [3, 0, 0, 0, 0, 0, 0, 0]),
    .init(29, "safetensors-is-pickle", [0x80, 2, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20]),
    .init(29, "safetensors-is-pickle", [0x80, 4, 0x95, 5, 0, 0, 0, 0, 0, 0, 0, 0x7D, 0x94, 0x2E]),
    .init(29, "safetensors-is-json", Array("{\"weight_map\":{}}".utf8)),
  ]
}

@Suite struct SafetensorsRefusalTests {
  @Test func refusesMoreTensorsThanTheLimit() throws {
    try withTemporaryPath("model.safetensors") { path in
      try write(safetensorsBytes(names: ["a", "b", "c"]), path)
      let file = try MappedFile(path: path)
      _ = try SafetensorsFile(mapping: file, maximumTensorCount: 3)
      let refused = try refusal { _ = try SafetensorsFile(mapping: file, maximumTensorCount: 2) }
      #expect(refused?.rule == "safetensors-tensor-count")
      #expect(refused?.byteOffset != nil)
    }
  }

  @Test(arguments: SafetensorsFault.all)
  func refuses(_ fault: SafetensorsFault) throws {
    try withTemporaryPath("bad.safetensors") { path in
      try write(fault.bytes, path)
      let refused = try refusal { _ = try SafetensorsFile(mapping: MappedFile(path: path)) }
      let thrown = try #require(refused)
      #expect(thrown.rule == fault.rule, "\(thrown)")
      #expect(thrown.file == path)
      if let tensor = fault.tensor { #expect(thrown.tensor == tensor) }
      if let offset = fault.byteOffset { #expect(thrown.byteOffset == offset) }
      #expect(thrown.byteOffset != nil)
      #expect(CInterface.rule(refusing: path) == fault.rule)
    }
  }

  @Test func everyRuleHasATest() {
    // Number 24 of accepted-safetensors.md is the converter's (tensor-type): F8, F4 and C64 can be opened.
    #expect(Set(SafetensorsFault.all.map(\.number)) == Set(1...29).subtracting([24]))
  }

  /// Every shorter file is refused: nothing that is missing goes unnoticed.
  @Test func refusesEveryTruncation() throws {
    let whole = safetensorsBytes(names: ["first", "second"])
    try withTemporaryPath("cut.safetensors") { path in
      for count in 0..<whole.count {
        try write(Array(whole[..<count]), path)
        let refused = try refusal { _ = try SafetensorsFile(mapping: MappedFile(path: path)) }
        #expect(refused != nil, "\(count) bytes")
      }
    }
  }

  /// A flipped bit in the header is refused, or leads to tensors that lie in the file.
  @Test func survivesEveryFlippedBit() throws {
    let whole = safetensorsBytes(names: ["first", "second"])
    try withTemporaryPath("flipped.safetensors") { path in
      for bit in 0..<(whole.count - 4) * 8 {
        var bytes = whole
        bytes[bit / 8] ^= 1 << (bit % 8)
        try write(bytes, path)
        guard let file = try? SafetensorsFile(mapping: MappedFile(path: path)) else { continue }
        #expect(file.tensors.reduce(0) { $0 + $1.byteCount } == 4, "bit \(bit)")
        for tensor in file.tensors {
          #expect(tensor.byteOffset + tensor.byteCount <= bytes.count, "bit \(bit)")
        }
      }
    }
  }
}
