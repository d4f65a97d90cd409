// Names and documentation of the functions are those of otq.h.
// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation

import COTQ
import OTFoundation
import OTPlatform
import OTQ

/// A text that ends with a zero byte, for callers in C to look at as long as this lives.
final class CText: @unchecked Sendable {
  /// Its first byte.
  let address: UnsafePointer<CChar>
  /// Its bytes, the zero byte left out.
  let byteCount: Int

  init(_ text: String) {
    let bytes = Array(text.utf8)
    let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
    for (index, byte) in bytes.enumerated() { copy[index] = CChar(bitPattern: byte) }
    copy[bytes.count] = 0
    address = UnsafePointer(copy)
    byteCount = bytes.count
  }

  deinit { address.deallocate() }
}

/// Memory that a caller gives to `otq_free`.
enum CallersMemory {
  /// A copy of a text, with a zero byte behind it.
  static func copy(_ text: String) throws -> UnsafeMutablePointer<CChar> {
    var text = text
    return try text.withUTF8 { bytes in
      let memory = try allocate(bytes.count + 1)
      if let start = bytes.baseAddress { memory.copyMemory(from: start, byteCount: bytes.count) }
      memory.storeBytes(of: 0, toByteOffset: bytes.count, as: CChar.self)
      return memory.bindMemory(to: CChar.self, capacity: bytes.count + 1)
    }
  }

  /// A copy of numbers; nil where there are none.
  static func copy(_ numbers: [Int]) throws -> UnsafeMutablePointer<Int64>? {
    guard !numbers.isEmpty else { return nil }
    let memory = try allocate(numbers.count * 8).bindMemory(to: Int64.self, capacity: numbers.count)
    for (index, number) in numbers.enumerated() { memory[index] = Int64(number) }
    return memory
  }

  private static func allocate(_ byteCount: Int) throws -> UnsafeMutableRawPointer {
    guard let memory = malloc(byteCount) else { throw Refusal("run-memory", "no memory for \(byteCount) bytes") }
    return memory
  }
}

@c @implementation
public func otq_free(_ memory: UnsafeMutableRawPointer?) { free(memory) }
