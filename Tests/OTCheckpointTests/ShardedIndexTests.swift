import Foundation
import OTCheckpoint
import OTFoundation
import Testing
import _OTTestSupport

/// An index, the tensors of each shard, and the rule that together they break.
struct IndexFault: Sendable, CustomTestStringConvertible {
  /// The number in `formats/accepted-safetensors.md`.
  let number: Int
  let rule: String
  let index: String
  var shards: [String: [String]] = ["s1.safetensors": ["a"], "s2.safetensors": ["b"]]
  var tensor: String?

  var testDescription: String { "\(number) \(rule)" }

  /// Of a weight map, in JSON.
  static func map(_ members: String) -> String { "{\"weight_map\":{\(members)}}" }

  /// A weight map of tensors 'a' and 'b' in these shards.
  static func pair(_ a: String, _ b: String) -> String {
    map("\"a\":\"\(a).safetensors\",\"b\":\"\(b).safetensors\"")
  }

  static let all: [IndexFault] =
    [
      "/tmp/s1.safetensors", "../s1.safetensors", "x/s1.safetensors", "x\\\\s1", "..", ".", "",
      "s\\u0000",
    ]
    .map { .init(number: 30, rule: "index-shard-name", index: map("\"a\":\"\($0)\""), tensor: "a") }
    + [
      .init(
        number: 31, rule: "index-shard-missing",
        index: map("\"a\":\"s1.safetensors\",\"b\":\"s3.safetensors\"")),
      .init(
        number: 32, rule: "index-tensor-absent",
        index: map("\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\",\"c\":\"s2.safetensors\""),
        tensor: "c"),
      .init(
        number: 32, rule: "index-tensor-absent",
        index: map("\"a\":\"s2.safetensors\",\"b\":\"s1.safetensors\"")),
      .init(
        number: 33, rule: "index-tensor-unlisted", index: map("\"a\":\"s1.safetensors\""),
        shards: ["s1.safetensors": ["a", "extra"]], tensor: "extra"),
      .init(
        number: 34, rule: "index-tensor-twice",
        index: map("\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\""),
        shards: ["s1.safetensors": ["a", "b"], "s2.safetensors": ["b"]], tensor: "b"),
      .init(
        number: 35, rule: "json-duplicate-key",
        index: map("\"a\":\"s1.safetensors\",\"a\":\"s2.safetensors\"")),
      .init(
        number: 35, rule: "index-tensor-twice",
        index: map("\"\\u00e9\":\"s1.safetensors\",\"e\\u0301\":\"s2.safetensors\""), tensor: "e\u{301}"),
      .init(
        number: 33, rule: "index-tensor-unlisted", index: map("\"\\u00e9\":\"s1.safetensors\""),
        shards: ["s1.safetensors": ["e\u{301}"]], tensor: "e\u{301}"),
      .init(
        number: 30, rule: "index-shard-name",
        index: map("\"a\":\"\\u00e9.safetensors\",\"b\":\"e\\u0301.safetensors\""), tensor: "b"),
      .init(number: 36, rule: "index-shard-not-string", index: map("\"a\":1"), tensor: "a"),
      .init(number: 36, rule: "index-no-weight-map", index: "{\"metadata\":{}}"),
      .init(number: 36, rule: "index-no-weight-map", index: "{\"weight_map\":[]}"),
      .init(number: 36, rule: "index-no-weight-map", index: map("")),
      .init(
        number: 37, rule: "json-depth",
        index: "{\"a\":" + String(repeating: "[", count: 100_000)),
      .init(
        number: 39, rule: "index-mixed-sets",
        index: pair("m-00001-of-00002", "m-00002-of-00003")),
      .init(
        number: 39, rule: "index-mixed-sets",
        index: pair("m-00001-of-00002", "n-00002-of-00002")),
      .init(
        number: 39, rule: "index-incomplete-set",
        index: pair("m-00001-of-00003", "m-00002-of-00003")),
      .init(
        number: 39, rule: "index-incomplete-set",
        index: pair("m-00001-of-00002", "m-00003-of-00002")),
    ]
}

@Suite struct ShardedIndexTests {
  private static let index = IndexFault.map(
    "\"b\":\"s2.safetensors\",\"a\":\"s1.safetensors\"")

  /// Calls `body` with the path of an index beside two good shards.
  private func withShards(
    _ index: String = index,
    shards: [String: [String]] = ["s1.safetensors": ["a"], "s2.safetensors": ["b"]],
    _ body: (String) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      for (name, tensors) in shards {
        try write(safetensorsBytes(names: tensors), "\(folder)/\(name)")
      }
      try write(index, "\(folder)/model.safetensors.index.json")
      try body("\(folder)/model.safetensors.index.json")
    }
  }

  @Test(arguments: IndexFault.all)
  func refuses(_ fault: IndexFault) throws {
    try withShards(fault.index, shards: fault.shards) { path in
      let refused = try refusal { _ = try Checkpoint.open(path) }
      let thrown = try #require(refused)
      #expect(thrown.rule == fault.rule, "\(thrown)")
      #expect(thrown.file == path)
      if let tensor = fault.tensor { #expect(thrown.tensor == tensor) }
    }
  }

  @Test func readsShardsInOrderOfTheirNames() throws {
    try withShards { path in
      let checkpoint = try Checkpoint.open(path)
      #expect(checkpoint.format == .safetensors)
      #expect(checkpoint.tensors.map(\.name) == ["a", "b"])
      #expect(
        checkpoint.files.map(\.name)
          == ["model.safetensors.index.json", "s1.safetensors", "s2.safetensors"])
      #expect(checkpoint.warnings.isEmpty)
      #expect(checkpoint["b"]?.file.path.hasSuffix("/s2.safetensors") == true)
      #expect(checkpoint["c"] == nil)
    }
  }

  @Test(arguments: [("4", 0), ("4.0", 0), ("5", 1), ("1e300", 1), ("36893488147419103232", 1)])
  func warnsOfAStaleTotal(_ total: String, _ warningCount: Int) throws {
    let index =
      "{\"metadata\":{\"total_size\":\(total)},\"weight_map\":"
      + "{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}}"
    try withShards(index) { path in
      let warnings = try Checkpoint.open(path).warnings
      #expect(warnings.count == warningCount)
    }
  }

  @Test func followsSymbolicLinksOfShards() throws {
    try withTemporaryFolder { cache in
      try write(safetensorsBytes(names: ["a"]), "\(cache)/blob")
      try withShards(shards: ["s2.safetensors": ["b"]]) { path in
        let link = path.replacingOccurrences(
          of: "model.safetensors.index.json", with: "s1.safetensors")
        try FileManager.default.createSymbolicLink(
          atPath: link, withDestinationPath: "\(cache)/blob")
        #expect(try Checkpoint.open(path).tensors.count == 2)
      }
    }
  }

  /// A shard that is a folder, pipe or device (file-not-regular).
  @Test(arguments: ["fifo", "directory", "device"])
  func refusesShardsThatAreNoFiles(_ kind: String) throws {
    try withShards(shards: ["s2.safetensors": ["b"]]) { path in
      let shard = path.replacingOccurrences(
        of: "model.safetensors.index.json", with: "s1.safetensors")
      switch kind {
      case "fifo": try #require(mkfifo(shard, 0o600) == 0)
      case "device":
        try FileManager.default.createSymbolicLink(atPath: shard, withDestinationPath: "/dev/zero")
      default:
        try FileManager.default.createDirectory(atPath: shard, withIntermediateDirectories: false)
      }
      let refused = try refusal { _ = try Checkpoint.open(path) }
      #expect(refused?.rule == "file-not-regular")
      #expect(refused?.file == shard)
    }
  }

  /// An index beyond the limit is refused by its size, before any of it is read (index-too-large).
  @Test func refusesAnIndexBeyondItsLimit() throws {
    try withTemporaryPath("model.safetensors.index.json") { path in
      try write("{", path)
      try #require(truncate(path, off_t(64 << 20) + 1) == 0)
      #expect(try refusal { _ = try Checkpoint.open(path) }?.rule == "index-too-large")
    }
  }
}
