import Foundation
import OTCheckpoint
import OTFoundation
import OTTensor
import Testing
import _OTCSupport
import _OTTestSupport

typealias Bytes = [UInt8]

func little(_ value: Int, _ byteCount: Int) -> Bytes {
  (0..<byteCount).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
}

/// Parts of a pickle, as bytes to be strung together.
enum Pickle {
  static func text(_ text: String) -> Bytes {
    [0x58] + little(text.utf8.count, 4) + Bytes(text.utf8)
  }
  static func int(_ value: Int) -> Bytes { [0x8A, 8] + little(value, 8) }
  static func global(_ module: String, _ name: String) -> Bytes {
    Bytes("c\(module)\n\(name)\n".utf8)
  }
  static func tuple(_ parts: [Bytes]) -> Bytes { [0x28] + parts.joined() + [0x74] }
  static func list(_ parts: [Bytes]) -> Bytes { [0x5D, 0x28] + parts.joined() + [0x65] }
  static func dictionary(_ items: [(String, Bytes)]) -> Bytes {
    [0x7D, 0x28] + items.flatMap { text($0.0) + $0.1 } + [0x75]
  }
  static let none: Bytes = [0x4E]
  static let yes: Bytes = [0x88]
  static let no: Bytes = [0x89]
  static let reduce: Bytes = [0x52]
  static let ordered = global("collections", "OrderedDict") + [0x29] + reduce

  static func whole(_ parts: Bytes..., proto: UInt8 = 2) -> Bytes {
    [0x80, proto] + parts.joined() + [0x2E]
  }

  static func storage(
    _ type: String = "FloatStorage", key: String = "0", location: String = "cpu", count: Int = 4,
    module: String = "torch", view: Bytes? = nil
  ) -> Bytes {
    tuple(
      [text("storage"), global(module, type), text(key), text(location), int(count)]
        + (view.map { [$0] } ?? []))
      + [0x51]
  }

  /// A tensor; by default four float32 in one dimension.
  static func tensor(
    _ storage: Bytes = storage(), offset: Int = 0, size: [Int] = [4], strides: [Int] = [1],
    metadata: Bytes? = nil
  ) -> Bytes {
    tensor(
      storage, offset: int(offset), size: tuple(size.map(int)), strides: tuple(strides.map(int)),
      metadata: metadata)
  }

  static func tensor(
    _ storage: Bytes, offset: Bytes, size: Bytes, strides: Bytes, metadata: Bytes? = nil
  ) -> Bytes {
    let arguments = [storage, offset, size, strides, no, ordered] + (metadata.map { [$0] } ?? [])
    return global("torch._utils", "_rebuild_tensor_v2") + tuple(arguments) + reduce
  }

  /// A tensor whose element type stands beside it, over an untyped storage.
  static func tensor3(_ type: String, byteCount: Int, size: [Int], strides: [Int]) -> Bytes {
    global("torch._utils", "_rebuild_tensor_v3")
      + tuple([
        storage("UntypedStorage", count: byteCount, module: "torch.storage"), int(0),
        tuple(size.map(int)), tuple(strides.map(int)), no, ordered, global("torch", type),
      ]) + reduce
  }
}

/// A ZIP file, every field of which can be made wrong.
struct Zip {
  struct Entry {
    var name: String
    var content: Bytes
    var flags = 0
    var method = 0
    var checksum: UInt32? = nil
    var localName: String? = nil
    var byteCount: Int? = nil
    var compressedByteCount: Int? = nil
    var headerOffset: Int? = nil
    var hasZip64Sizes = false
    var hasZip64Extra: Bool { hasZip64Sizes && !lacksZip64Extra }
    var lacksZip64Extra = false
  }

  var entries: [Entry]
  var hasZip64End = false
  var entryCount: Int? = nil
  var directoryOffset: Int? = nil
  var zip64LocatorOffset: Int? = nil
  var comment: Bytes = []
  /// The number of this disk of a split archive.
  var disk = 0

  init(_ entries: [Entry]) { self.entries = entries }

  /// The file that torch.save would write around this pickle and these storages.
  init(
    pickle: Bytes, storages: [Bytes] = [Bytes(repeating: 0, count: 16)],
    byteOrder: String? = "little"
  ) {
    entries = [Entry(name: "archive/data.pkl", content: pickle)]
    if let byteOrder {
      entries.append(Entry(name: "archive/byteorder", content: Bytes(byteOrder.utf8)))
    }
    for (index, bytes) in storages.enumerated() {
      entries.append(Entry(name: "archive/data/\(index)", content: bytes))
    }
    entries.append(Entry(name: "archive/version", content: Bytes("3\n".utf8)))
  }

  func with(_ change: (inout Zip) -> Void) -> Bytes {
    var copy = self
    change(&copy)
    return copy.bytes
  }

  var bytes: Bytes {
    var file: Bytes = []
    var directory: Bytes = []
    for entry in entries {
      let offset = file.count
      let checksum = Int(entry.checksum ?? crc32(entry.content))
      let size = entry.byteCount ?? entry.content.count
      let local = Bytes((entry.localName ?? entry.name).utf8)
      let follows = entry.flags & 8 != 0
      file +=
        little(0x0403_4B50, 4) + little(20, 2) + little(entry.flags, 2) + little(entry.method, 2)
      file += little(0, 4) + little(follows ? 0 : checksum, 4)
      file +=
        little(follows ? 0 : entry.compressedByteCount ?? size, 4) + little(follows ? 0 : size, 4)
      file += little(local.count, 2) + little(0, 2) + local + entry.content
      if follows {
        file += little(0x0807_4B50, 4) + little(checksum, 4) + little(size, 4) + little(size, 4)
      }
      let name = Bytes(entry.name.utf8)
      let wide =
        little(1, 2) + little(16, 2) + little(size, 8)
        + little(entry.compressedByteCount ?? size, 8)
      let extra = entry.hasZip64Extra ? wide : []
      directory += little(0x0201_4B50, 4) + little(20, 2) + little(20, 2) + little(entry.flags, 2)
      directory += little(entry.method, 2) + little(0, 4) + little(checksum, 4)
      directory += little(entry.hasZip64Sizes ? -1 : entry.compressedByteCount ?? size, 4)
      directory += little(entry.hasZip64Sizes ? -1 : size, 4)
      directory += little(name.count, 2) + little(extra.count, 2) + little(0, 10)
      directory += little(entry.headerOffset ?? offset, 4) + name + extra
    }
    let start = directoryOffset ?? file.count
    let count = entryCount ?? entries.count
    file += directory
    if hasZip64End {
      let end = zip64LocatorOffset ?? file.count
      file += little(0x0606_4B50, 4) + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8)
      file += little(count, 8) + little(count, 8) + little(directory.count, 8) + little(start, 8)
      file += little(0x0706_4B50, 4) + little(0, 4) + little(end, 8) + little(1, 4)
    }
    let isWide = hasZip64End || zip64LocatorOffset != nil
    file += little(0x0605_4B50, 4) + little(disk, 2) + little(0, 2)
    file += little(isWide ? -1 : count, 2) + little(isWide ? -1 : count, 2)
    file += little(isWide ? -1 : directory.count, 4) + little(isWide ? -1 : start, 4)
    return file + little(comment.count, 2) + comment
  }
}

/// CRC-32 bit by bit, another way than the code under test takes.
func crc32(_ bytes: Bytes) -> UInt32 {
  var value = UInt32.max
  for byte in bytes {
    value ^= UInt32(byte)
    for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
  }
  return ~value
}

/// The legacy container around a pickle of the object.
struct Legacy {
  var magic: Bytes = [0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]
  var version = 1001
  var isLittleEndian = true
  var system: Bytes? = nil
  var object: Bytes
  var keys = ["0"]
  var payload: Bytes = little(4, 8) + Bytes(repeating: 0, count: 16)

  init(_ object: Bytes) { self.object = object }

  static func tensor(view: Bytes = Pickle.none, size: [Int] = [4]) -> Bytes {
    Pickle.tensor(Pickle.storage(view: view), size: size)
  }

  var bytes: Bytes {
    let system = Pickle.dictionary([
      ("protocol_version", Pickle.int(version)),
      ("little_endian", isLittleEndian ? Pickle.yes : Pickle.no),
    ])
    return Pickle.whole(magic) + Pickle.whole(Pickle.int(version)) + Pickle.whole(self.system ?? system)
      + object + Pickle.whole(Pickle.list(keys.map(Pickle.text))) + payload
  }

  func with(_ change: (inout Legacy) -> Void) -> Bytes {
    var copy = self
    change(&copy)
    return copy.bytes
  }
}

/// Bytes that break one rule, and the rule.
struct Malformed: CustomTestStringConvertible, Sendable {
  let rule: String
  let what: String
  let bytes: Bytes

  init(_ rule: String, _ what: String, _ bytes: Bytes) {
    self.rule = rule
    self.what = what
    self.bytes = bytes
  }

  var testDescription: String { "\(rule): \(what)" }

  /// The rule that opening the bytes breaks; nil when they are read.
  func observedRule() throws -> String? {
    try withTemporaryPath("file.pt") { path in
      try write(bytes, path)
      #expect(CInterface.rule(refusing: path) == rule)
    }
    return try withPyTorchFile(bytes) { result in
      switch result {
      case .success: return nil
      case .failure(let refusal):
        precondition(refusal.file != nil && !refusal.description.contains("\n"))
        return refusal.rule
      }
    }
  }
}

func withPyTorchFile<Value>(
  _ bytes: Bytes, _ body: (Result<PyTorchFile, Refusal>) throws -> Value
) throws -> Value {
  try withTemporaryFolder { folder in
    let path = folder + "/file.pt"
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    let mapping = try MappedFile(path: path)
    do {
      return try body(.success(PyTorchFile(mapping: mapping)))
    } catch let refusal as Refusal {
      return try body(.failure(refusal))
    }
  }
}

/// The tensors of a file that must be read.
func openTensors(_ bytes: Bytes) throws -> [TensorView] {
  // The mapping outlives its file's name.
  try withPyTorchFile(bytes) { try $0.get().tensors }
}

extension TensorView {
  /// All elements in row-major order, little-endian.
  var allBytes: Bytes { withRowBytes(0..<shape.rowCount) { Bytes($0) } }
}
