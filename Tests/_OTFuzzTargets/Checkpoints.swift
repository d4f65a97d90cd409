import CZlib
import OTCheckpoint
import OTFoundation
import OTModel
import OTTensor

extension FuzzTarget {
  /// Readers of checkpoints.
  static let checkpoints = [
    FuzzTarget("safetensors", file: "\(folder)/a.safetensors", maximumByteCount: 2048) { file in
      readAll(try SafetensorsFile(mapping: file).tensors)
    },
    FuzzTarget("index", file: "\(shards)/a.index.json", maximumByteCount: 1024) { file in
      readAll(try Checkpoint.open(file).tensors)
    },
    FuzzTarget("zip", file: "\(folder)/a.pt", maximumByteCount: 4096, readPyTorch),
    FuzzTarget("pickle", maximumByteCount: 2048) { bytes in
      try readPyTorch(MappedFile(madeOf: archive(pickle: bytes), path: "\(folder)/a.pt"))
    },
    FuzzTarget("legacy", file: "\(folder)/a.bin", maximumByteCount: 2048, readPyTorch),
    FuzzTarget("gguf", file: "\(folder)/a.gguf", maximumByteCount: 6144) { file in
      let checkpoint = try Checkpoint.open(file)
      readAll(checkpoint.tensors)
      let source = try SourceModel(checkpoint, path: file.path)
      try readText(with: Model.source(source).tokenizer())
      _ = try source.graph()
    },
  ]

  /// The folder of the two shards that indexes may name.
  private static let shards =
    #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" } + "/fixtures/fuzz/shards"

  @Sendable private static func readPyTorch(_ file: MappedFile) throws {
    readAll(try PyTorchFile(mapping: file, threadCount: 1).tensors)
  }

  /// Reads the elements of tensors, of large ones the first and the last row that are not too long.
  static func readAll(_ tensors: [TensorView]) {
    for tensor in tensors {
      let rows = tensor.shape.rowCount
      guard rows > 0, tensor.shape.rowElementCount <= 1 << 14 else { continue }
      let count = min(rows, max(1, (1 << 14) / max(1, tensor.shape.rowElementCount)))
      for part in [0..<count, rows - 1..<rows] {
        let sum = tensor.withRowBytes(part) { bytes in bytes.reduce(0) { $0 &+ $1 } }
        sink(sum)
      }
    }
  }

  /// Keeps the compiler from leaving out what made `value`.
  @inline(never) private static func sink(_ value: UInt8) {}

  /// An archive of torch.save with this pickle and two storages, of 64 and 256 bytes, without checksums.
  private static func archive(pickle: [UInt8]) -> [UInt8] {
    let first = record("a/data.pkl", byteCount: pickle.count)
    let offsets = [0] + others.offsets.map { 4 + first.count + pickle.count + $0 }
    var file: [UInt8] = [0x50, 0x4B, 3, 4] + first + pickle + others.bytes
    let start = file.count
    for (header, offset) in zip([first] + others.headers, offsets) {
      // The fixed part of a header has 26 bytes; behind it are comment, disk and attributes, and the place.
      file += [0x50, 0x4B, 1, 2, 20, 0] + header[..<26] + emptyFields
      file.append(fixed: UInt32(offset))
      file += header[26...]
    }
    let directoryByteCount = file.count - start
    file += [0x50, 0x4B, 5, 6, 0, 0, 0, 0, 4, 0, 4, 0]
    file.append(fixed: UInt32(directoryByteCount))
    file.append(fixed: UInt32(start))
    return file + [0, 0]
  }

  private static let emptyFields = [UInt8](repeating: 0, count: 10)

  /// A header behind its signature, without a checksum: version, flags, method, time, date, sizes, the name.
  private static func record(_ name: String, byteCount: Int) -> [UInt8] {
    var header: [UInt8] = [20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    for _ in 0..<2 { header.append(fixed: UInt32(byteCount)) }
    header.append(fixed: UInt16(name.utf8.count))
    return header + [0, 0] + name.utf8
  }

  /// The records behind the pickle.
  private static let others: (bytes: [UInt8], headers: [[UInt8]], offsets: [Int]) = {
    var (bytes, headers, offsets): ([UInt8], [[UInt8]], [Int]) = ([], [], [])
    let contents: [(String, [UInt8])] = [
      ("a/version", [0x33]), ("a/data/0", [UInt8](repeating: 1, count: 64)),
      ("a/data/1", [UInt8](repeating: 2, count: 256)),
    ]
    for (name, content) in contents {
      offsets.append(bytes.count)
      headers.append(record(name, byteCount: content.count))
      bytes += [0x50, 0x4B, 3, 4] + headers[headers.count - 1] + content
    }
    return (bytes, headers, offsets)
  }()
}

extension [UInt8] {
  /// Appends an integer, least significant byte first.
  mutating func append(fixed value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: value >> shift)) }
  }

  /// Puts an integer at `offset`, least significant byte first.
  mutating func put(_ value: some FixedWidthInteger, at offset: Int) {
    for index in 0..<value.bitWidth / 8 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index)) }
  }

  /// CRC-32 of a part.
  func checksum(_ range: Range<Int>) -> UInt32 {
    withUnsafeBufferPointer {
      UInt32(truncatingIfNeeded: crc32_z(0, $0.baseAddress.map { $0 + range.lowerBound }, range.count))
    }
  }
}
