import CZlib
import Foundation
import OTContainer
import OTJSON
import Testing

/// A packed file whose metadata a test changes; its checksums fit again.
struct CraftedFile {
  private let bytes: [UInt8]
  var metadata: JSONObject

  init(_ path: String) throws {
    bytes = Array(try contents(path))
    metadata = try #require(Container(path: path).metadata.object)
  }

  // MARK: Changes

  mutating func changeGraph(_ change: (inout JSONObject) throws -> Void) throws {
    var graph = try #require(metadata["graph"]?.object)
    try change(&graph)
    metadata["graph"] = .object(graph)
  }

  /// Changes the nodes of an operation, or the one of that name.
  mutating func changeNodes(_ key: String, _ value: String, _ change: (inout JSONObject) -> Void) throws {
    try changeGraph { graph in
      graph["nodes"] = .array(try Self.changed(graph["nodes"], key, value, change))
    }
  }

  mutating func addNode(_ node: JSONObject) throws {
    try changeGraph { $0["nodes"] = .array(($0["nodes"]?.array ?? []) + [.object(node)]) }
  }

  mutating func changeTensor(_ name: String, _ change: (inout JSONObject) -> Void) throws {
    metadata["tensors"] = .array(try Self.changed(metadata["tensors"], "name", name, change))
  }

  /// Makes a tensor an alias; what it held becomes an attachment.
  mutating func makeAlias(_ name: String, of target: String) throws {
    var planes: [JSONValue] = []
    try changeTensor(name) { tensor in
      planes = tensor["planes"]?.object?.members.map(\.value) ?? []
      for key in ["planes", "dtype"] { tensor[key] = nil }
      tensor["alias"] = .string(target)
    }
    let attached = try planes.enumerated().map { index, run in
      let run = try #require(run.array).compactMap(\.integer)
      let byteCount = (run[0]..<run[0] + run[1]).reduce(0) { $0 + Int(uint64(at: Int(uint64(at: 72)) + 32 * $1 + 16)) }
      return JSONValue.object([
        "name": .string("rest\(index)"), "byteCount": .integer(byteCount), "extents": .array(run.map { .integer($0) }),
      ])
    }
    metadata["attachments"] = .array((metadata["attachments"]?.array ?? []) + attached)
  }

  private static func changed(
    _ list: JSONValue?, _ key: String, _ value: String, _ change: (inout JSONObject) -> Void
  ) throws -> [JSONValue] {
    var count = 0
    let result = try #require(list?.array).map { entry -> JSONValue in
      guard var object = entry.object, object[key]?.string == value else { return entry }
      change(&object)
      count += 1
      return .object(object)
    }
    try #require(count > 0, "nothing has \(key) \(value)")
    return result
  }

  // MARK: Writing

  func write(to path: String) throws {
    let text = Array(JSONValue.object(metadata).text().utf8)
    let (metadataOffset, tableOffset) = (Int(uint64(at: 40)), Int(uint64(at: 72)))
    var result = Array(bytes[..<metadataOffset]) + text
    result += [UInt8](repeating: 0, count: (64 - result.count % 64) % 64)
    let newTableOffset = result.count
    result += bytes[tableOffset...]
    func put(_ value: Int, at offset: Int, byteCount: Int) {
      for byte in 0..<byteCount { result[offset + byte] = UInt8(truncatingIfNeeded: value >> (8 * byte)) }
    }
    for (value, offset) in [(result.count, 32), (text.count, 48), (text.count, 56), (newTableOffset, 72)] {
      put(value, at: offset, byteCount: 8)
    }
    put(0, at: 64, byteCount: 4)
    put(Int(crc32(0, text, UInt32(text.count))), at: 68, byteCount: 4)
    put(Int(crc32(0, result, 124)), at: 124, byteCount: 4)
    try Data(result).write(to: URL(fileURLWithPath: path))
  }

  private func uint64(at offset: Int) -> UInt64 {
    (0..<8).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
  }
}
