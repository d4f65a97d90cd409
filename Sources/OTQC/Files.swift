// Names and documentation of the functions are those of otq.h.
// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation

import COTQ
import OTFoundation
import OTJSON
import OTQ
import OTTensor

/// A file that a caller in C has opened, its tensors by their names.
final class FileBox: Sendable {
  let file: ModelFile
  let tensors: [ModelTensor]
  private let positions: [String: Int]

  init(_ file: ModelFile) {
    self.file = file
    tensors = file.tensors
    positions = Dictionary(
      tensors.enumerated().map { ($0.element.name, $0.offset) }, uniquingKeysWith: { first, _ in first })
  }

  /// - Throws: `Refusal` with rule `tensor-missing`.
  func tensor(_ name: UnsafePointer<CChar>?) throws(Refusal) -> ModelTensor {
    let name = try Argument.text(name, "name")
    guard let tensor = positions[name].map({ tensors[$0] }) else {
      throw Refusal("tensor-missing", "has no tensor of this name", file: file.path, tensor: name)
    }
    return tensor
  }

  static func find(_ handle: OpaquePointer?) throws(Refusal) -> FileBox {
    try Argument.object(handle, "file", as: FileBox.self)
  }
}

@c @implementation
public func otq_open(
  _ path: UnsafePointer<CChar>?, _ file: UnsafeMutablePointer<OpaquePointer?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(file, "file", empty: nil, error) {
    Handles.shared.add(FileBox(try ModelFile(path: Argument.text(path, "path"))))
  }
}

@c @implementation
public func otq_close(_ file: OpaquePointer?) { Handles.shared.remove(file, as: FileBox.self) }

@c @implementation
public func otq_metadata(
  _ file: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(json, "json", empty: nil, error) {
    let file = try FileBox.find(file).file
    let metadata = try file.metadata()
    let members: JSONObject = [
      "path": .string(file.path), "name": .string(metadata.name), "isPacked": .bool(file.isPacked),
      "family": .text(metadata.family), "weightBits": .array(metadata.weightBits.map { .integer($0) }),
      "method": .text(metadata.method), "byteCount": .integer(metadata.byteCount),
      "parameterCount": .integer(metadata.parameterCount), "tensorCount": .integer(file.tensors.count),
      "vocabularySize": .count(metadata.vocabularySize), "contextLength": .count(metadata.contextLength),
      "producer": .text(metadata.producer),
      "sources": .array(metadata.sources.map(\.json)),
      "warnings": .array(file.warnings.map { .string($0) }),
    ]
    return try CallersMemory.copy(JSONValue.object(members).text(pretty: true))
  }
}

@c @implementation
public func otq_tensor_count(
  _ file: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(count, "count", empty: 0, error) { try FileBox.find(file).tensors.count }
}

@c @implementation
public func otq_tensors(
  _ file: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(json, "json", empty: nil, error) {
    let tensors = try FileBox.find(file).tensors
    return try CallersMemory.copy(JSONValue.array(tensors.map { .object($0.members) }).text())
  }
}

extension ModelTensor {
  fileprivate var members: JSONObject {
    var members: JSONObject = ["name": .string(name), "shape": .array(shape.map { .integer($0) })]
    switch storage {
    case .plain(let type):
      members["storage"] = .string("plain")
      members["type"] = .string(type)
    case .quantized(let scheme):
      members["storage"] = .string("quantized")
      members["bits"] = .integer(scheme.bits)
      members["isSymmetric"] = .bool(scheme.isSymmetric)
      var groupSize: Int?
      switch scheme.granularity {
      case .perTensor: members["granularity"] = .string("tensor")
      case .perChannel: members["granularity"] = .string("channel")
      case .perGroup(let size):
        members["granularity"] = .string("group")
        groupSize = size
      }
      members["groupSize"] = .count(groupSize)
      members["scaleCount"] = .count(source.scaleCount)
    case .alias(let other):
      members["storage"] = .string("alias")
      members["of"] = .string(other)
    }
    members["byteCount"] = .integer(byteCount)
    members["sqnrDecibels"] = .finite(sqnrDecibels)
    return members
  }
}

extension JSONValue {
  /// A text, or null.
  static func text(_ text: String?) -> JSONValue { text.map { .string($0) } ?? .null }

  /// A whole number, or null.
  static func count(_ count: Int?) -> JSONValue { count.map { .integer($0) } ?? .null }
}

// MARK: Elements

private func part(_ part: otq_part) throws(Refusal) -> ModelTensorSource.Part {
  switch Int(part) {
  case Int(OTQ_PART_VALUES): return .values
  case Int(OTQ_PART_SCALES): return .scales
  case Int(OTQ_PART_ZERO_POINTS): return .zeroPoints
  default: throw Refusal("argument-part", "there is no part \(part)")
  }
}

@c @implementation
public func otq_tensor_byte_count(
  _ file: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ part: otq_part,
  _ byte_count: UnsafeMutablePointer<Int>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(byte_count, "byte_count", empty: 0, error) {
    let tensor = try FileBox.find(file).tensor(name)
    return try tensor.source.byteCount(of: OTQC.part(part))
  }
}

@c @implementation
public func otq_tensor_read(
  _ file: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ part: otq_part, _ buffer: UnsafeMutableRawPointer?,
  _ byte_count: Int, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(error) {
    let source = try FileBox.find(file).tensor(name).source
    let part = try OTQC.part(part)
    let target = try Argument.buffer(
      buffer?.assumingMemoryBound(to: UInt8.self), byte_count, wanted: source.byteCount(of: part), "buffer")
    var place = 0
    try source.forEachBlock(of: part) { bytes in
      // Never more than was promised.
      let bytes = UnsafeRawBufferPointer(rebasing: bytes.prefix(target.count - place))
      UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(target)[place...]).copyMemory(from: bytes)
      place += bytes.count
    }
  }
}

@c @implementation
public func otq_tensor_rows(
  _ file: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ first_row: Int, _ row_count: Int,
  _ values: UnsafeMutablePointer<Float>?, _ value_count: Int, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(error) {
    let source = try FileBox.find(file).tensor(name).source
    guard first_row >= 0, row_count >= 0, let end = first_row.addingChecked(row_count) else {
      throw Refusal("argument-length", "there cannot be so many rows")
    }
    try source.checkRows(first_row..<end)
    let target = try Argument.buffer(
      values, value_count, wanted: row_count.multipliedChecked(by: source.rowElementCount), "values")
    var place = 0
    try source.forEachBlock(of: first_row..<end) { block in
      for value in block.prefix(target.count - place) {
        target[place] = value
        place += 1
      }
    }
  }
}
