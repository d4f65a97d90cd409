import Foundation
import OTCheckpoint
import OTFoundation
import OTTensor

/// The bytes of a safetensors file with `header` as it is.
func safetensorsBytes(_ header: [UInt8], data: [UInt8] = []) -> [UInt8] {
  var length = UInt64(header.count)
  var bytes: [UInt8] = []
  for _ in 0..<8 {
    bytes.append(UInt8(length & 0xFF))
    length >>= 8
  }
  return bytes + header + data
}

func safetensorsBytes(_ header: String, data: [UInt8] = []) -> [UInt8] {
  safetensorsBytes(Array(header.utf8), data: data)
}

/// A file of U8 tensors, two bytes each.
func safetensorsBytes(names: [String], fill: UInt8 = 7) -> [UInt8] {
  let members = names.enumerated().map { index, name in
    "\"\(name)\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[\(index * 2),\(index * 2 + 2)]}"
  }
  return safetensorsBytes(
    "{\(members.joined(separator: ","))}", data: [UInt8](repeating: fill, count: names.count * 2))
}

func write(_ bytes: [UInt8], _ path: String) throws {
  try Data(bytes).write(to: URL(fileURLWithPath: path))
}

func write(_ text: String, _ path: String) throws { try write(Array(text.utf8), path) }

/// The refusal that `body` throws, or nil when it throws nothing.
func refusal(_ body: () throws -> Void) throws -> Refusal? {
  do {
    try body()
    return nil
  } catch let refusal as Refusal {
    return refusal
  }
}

/// All bytes of a tensor.
func bytes(of view: TensorView) -> [UInt8] {
  view.withRowBytes(0..<view.shape.rowCount) { Array($0) }
}

/// Opens `bytes` as a safetensors file under a temporary name.
func withSafetensors<Result>(
  _ bytes: [UInt8], _ body: (SafetensorsFile) throws -> Result
) throws -> Result {
  try withTemporaryPath("model.safetensors") { path in
    try write(bytes, path)
    return try body(SafetensorsFile(mapping: MappedFile(path: path)))
  }
}
