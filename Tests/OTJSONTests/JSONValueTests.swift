import Foundation
import OTFoundation
import OTJSON
import Testing
import _OTTestSupport

@Suite struct JSONValueTests {
  static let strict = JSONLimits(byteCount: 1000, depth: 4)

  func parse(_ bytes: [UInt8], limits: JSONLimits = strict) throws -> JSONValue {
    try bytes.withUnsafeBytes { try JSONValue.parse($0, limits: limits, file: "f.json") }
  }

  @Test(arguments: [
    ("json-truncated", ""), ("json-truncated", "{"), ("json-truncated", "[1,"), ("json-truncated", "\"a"),
    ("json-truncated", "tru"), ("json-truncated", "-"), ("json-truncated", "{\"a\""), ("json-truncated", "\"\\u00"),
    ("json-trailing", "{} x"), ("json-trailing", "1 2"), ("json-trailing", "{}\0"),
    ("json-syntax", "{'a':1}"), ("json-syntax", "NaN"), ("json-syntax", "Infinity"), ("json-syntax", "-Infinity"),
    ("json-syntax", "[1,]"), ("json-syntax", "{\"a\":1,}"), ("json-syntax", "01"), ("json-syntax", "1.x"),
    ("json-syntax", "\"\t\""), ("json-syntax", "\"\\x\""), ("json-syntax", "{1:2}"), ("json-syntax", "[1}"),
    ("json-syntax", "/* c */ 1"), ("json-syntax", "nul!"), ("json-syntax", "[1 2]"), ("json-syntax", "+1"),
    ("json-duplicate-key", "{\"a\":1,\"a\":2}"), ("json-duplicate-key", "{\"a\":1,\"\\u0061\":2}"),
    ("json-nul-key", "{\"a\\u0000b\":1}"),
    ("json-lone-surrogate", "\"\\ud800\""), ("json-lone-surrogate", "\"\\udc00\""),
    ("json-lone-surrogate", "\"\\ud800\\u0041\""),
    ("json-integer-range", "18446744073709551616"), ("json-integer-range", "-9223372036854775809"),
    ("json-depth", "[[[[[1]]]]]"), ("json-number-range", "1e999"),
  ])
  func refuses(rule: String, text: String) {
    let error = #expect(throws: Refusal.self) { try parse(Array(text.utf8)) }
    #expect(error?.rule == rule, "\(text)")
    #expect(error?.file == "f.json")
  }

  /// What Python writes and JSON has not is named, with what to do.
  @Test(arguments: ["NaN", "Infinity", "-Infinity", "None", "True", "False"])
  func namesWhatPythonWrites(word: String) {
    let error = #expect(throws: Refusal.self) { try parse(Array("{\"a\": \(word)}".utf8)) }
    #expect(error?.rule == "json-syntax" && error?.message.contains("'\(word)'") == true && error?.remedy != nil)
  }

  /// Files that are no JSON at all are named by what they are.
  @Test(arguments: [
    ("json-is-git-lfs-pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
    ("json-is-html", "<!DOCTYPE html><html>Not found</html>"), ("json-is-empty", ""),
    ("json-is-gguf", "GGUF\u{3}\0\0\0"), ("json-truncated", "{"), (nil, "[1]"), (nil, " 1"),
  ])
  func filesOfOtherKinds(rule: String?, text: String) throws {
    try withTemporaryFolder { folder in
      let path = folder + "/config.json"
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      let file = try MappedFile(path: path)
      for read in [{ _ = try JSONValue.parse(contentsOf: file) }, { try JSONValue.check(contentsOf: file) }] {
        do {
          try read()
          #expect(rule == nil)
        } catch let refusal as Refusal {
          #expect(refusal.rule == rule && refusal.file == path)
        }
      }
    }
  }

  @Test(arguments: [
    ("json-bom", [0xEF, 0xBB, 0xBF, 0x31]), ("json-not-utf8", [0x22, 0xFF, 0x22]),
    ("json-not-utf8", [0x22, 0xC0, 0x80, 0x22]), ("json-not-utf8", [0x22, 0xED, 0xA0, 0x80, 0x22]),
    ("json-not-utf8", [0x22, 0xF4, 0x90, 0x80, 0x80, 0x22]), ("json-not-utf8", [0x22, 0xE2, 0x82]),
    ("json-too-large", [UInt8](repeating: 0x20, count: 1001)),
  ])
  func refusesBytes(rule: String, bytes: [UInt8]) {
    let error = #expect(throws: Refusal.self) { try parse(bytes) }
    #expect(error?.rule == rule)
  }

  @Test func readsEveryKindOfValue() throws {
    let value = try parse(
      Array(" {\"b\":[true,false,null],\"a\":-12,\"x\":1.5e2,\"s\":\"\\u00e9\\ud83d\\ude00\\n/\\u0000\"} ".utf8))
    #expect(value.object?.keys == ["b", "a", "x", "s"])
    #expect(value["b"]?.array == [.bool(true), .bool(false), .null])
    #expect(value["a"]?.integer == -12)
    #expect(value["x"]?.double == 150)
    #expect(value["s"]?.string == "é😀\n/\0")
  }

  @Test(arguments: ["0", "-7", "9223372036854775807", "-9223372036854775808"])
  func readsNumbersAtTheTopLevel(text: String) throws {
    #expect(try parse(Array(text.utf8)).integer == Int(text))
  }

  @Test func readsLargeIntegersAsDoublesWhereAllowed() throws {
    var limits = Self.strict
    limits.readsLargeIntegersAsDoubles = true
    let value = try parse(Array("[1000000000000000019884624838656,1,18446744073709551616]".utf8), limits: limits)
    #expect(value.array == [.number(1e30), .integer(1), .number(18446744073709551616)])
  }

  @Test func nestingBombIsRefusedWithoutRecursion() {
    let bomb = [UInt8](repeating: UInt8(ascii: "["), count: 5_000_000)
    let error = #expect(throws: Refusal.self) { try parse(bomb, limits: JSONLimits(byteCount: 1 << 24)) }
    #expect(error?.rule == "json-depth")
  }

  @Test func writesWhatItReads() throws {
    let text = "{\"z\":[1,2.5,1e-05,\"a\\\"\\n\\u0001é\"],\"a\":{},\"n\":null,\"t\":true}"
    let value = try parse(Array(text.utf8))
    #expect(value.text() == text)
    #expect(try parse(Array(value.text(pretty: true).utf8)) == value)
  }

  @Test func keysKeepTheirOrderWhenOneIsReplaced() {
    var object: JSONObject = ["b": .integer(1), "a": .integer(2)]
    object["b"] = .integer(3)
    #expect(JSONValue.object(object).text() == "{\"b\":3,\"a\":2}")
    object["b"] = nil
    #expect(JSONValue.object(object).text() == "{\"a\":2}")
  }

  @Test func keysThatLookAlikeAreTwo() throws {
    let value = try parse(Array(#"{"\u00e9":1,"e\u0301":2,"\u03a9":3,"\u2126":4}"#.utf8))
    #expect(value.object?.count == 4)
    #expect(value["\u{E9}"] == .integer(1) && value["e\u{301}"] == .integer(2))
    #expect(value["\u{3A9}"] == .integer(3) && value["\u{2126}"] == .integer(4))
  }

  /// Against a plain list of pairs, over sizes at which look-up changes from searching to hashing.
  @Test(arguments: [UInt64(1), 2, 3])
  func objectsAreListsOfPairs(seed: UInt64) {
    var state = seed
    func draw(_ count: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % count
    }
    var (object, pairs): (JSONObject, [(String, Int)]) = (JSONObject(), [])
    for step in 0..<2000 {
      let key = ["\u{E9}", "e\u{301}", "k", "\u{3A9}", "\u{2126}"][draw(5)] + "\(draw(30))"
      let place = pairs.firstIndex { Array($0.0.utf8) == Array(key.utf8) }
      if draw(3) > step / 700 {
        object[key] = .integer(step)
        if let place { pairs[place].1 = step } else { pairs.append((key, step)) }
      } else {
        object[key] = nil
        if let place { pairs.remove(at: place) }
      }
      #expect(object.count == pairs.count, "seed \(seed), step \(step)")
      #expect(object.members.map(\.value) == pairs.map { .integer($0.1) }, "seed \(seed), step \(step)")
      #expect(pairs.allSatisfy { object[$0.0] == .integer($0.1) }, "seed \(seed), step \(step)")
      // Equal objects are equal however they came about.
      var other = JSONObject()
      for (key, value) in pairs { other[key] = .integer(value) }
      #expect(object == other && object.hashValue == other.hashValue, "seed \(seed), step \(step)")
    }
  }

  @Test func keysMayBeWrittenWithEscapes() throws {
    let value = try parse(Array(#"{"\ud83d\ude00\n":"\ud836\udccd","\ud836\udccd":1}"#.utf8))
    #expect(value.object?.keys == ["😀\n", "\u{1D8CD}"])
    #expect(value["😀\n"]?.string == "\u{1D8CD}")
  }

  /// json-c by itself reads U+FFFD for a sixteenth of them.
  @Test func everySurrogatePairIsRead() throws {
    for plane in UInt32(1)...16 {
      let scalars = (0..<0x10000).compactMap { Unicode.Scalar(plane << 16 | $0) }
      let escapes = scalars.map { scalar in
        Array(String(scalar).utf16).map { "\\u" + String($0, radix: 16) }.joined()
      }
      let value = try parse(Array("\"\(escapes.joined())\"".utf8), limits: JSONLimits(byteCount: 1 << 20))
      #expect(value.string?.unicodeScalars.elementsEqual(scalars) == true, "plane \(plane)")
    }
  }
}
