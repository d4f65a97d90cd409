import Foundation
import OTContainer
import OTFoundation
import OTTensor
import Testing
import _OTTestSupport

/// Small files damaged in every possible single way.
struct DamageTests {
  /// A file with raw and with zstd extents, and what it holds.
  static func file() throws -> (bytes: [UInt8], contents: [String: [UInt8]]) {
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let writer = try ContainerWriter(path: path)
      let scheme = try #require(QuantizationScheme(bits: 6, isSymmetric: false, granularity: .perTensor))
      let shape = try #require(Shape([16, 64]))
      let codes = (0..<1024).map { UInt8($0 * $0 % 7 * 9) }
      try writer.append(writer.encoder.encode(codes: codes, bits: 6))
      try writer.addQuantized(
        name: "w", shape: shape, scheme: scheme, codes: 0..<1, scales: [0.25], zeroPoints: [17], source: nil,
        error: nil)
      try Array("{}".utf8).withUnsafeBytes { try writer.addAttachment(name: "a", $0) }
      try writer.commit(metadata: [:])
      let container = try Container(path: path)
      // Otherwise no frame would be damaged.
      #expect(container.storedByteCount(of: container.tensors[0]) < 1024)
      return (Array(try Data(contentsOf: URL(fileURLWithPath: path))), try OTContainerTests.contents(container))
    }
  }

  /// Writes a file; gives what replaces a byte of it in place.
  private static func editing(_ bytes: [UInt8], at path: String) throws -> (_ byte: UInt8, _ offset: Int) throws -> Void
  {
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
    return { byte, offset in
      try handle.seek(toOffset: UInt64(offset))
      try handle.write(contentsOf: [byte])
    }
  }

  /// Nothing goes unnoticed: every bit is under a checksum or must be zero.
  @Test func everyFlippedBitIsRefused() throws {
    let (bytes, expected) = try DamageTests.file()
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let write = try DamageTests.editing(bytes, at: path)
      for offset in bytes.indices {
        for bit in 0..<8 {
          try write(bytes[offset] ^ 1 << bit, offset)
          #expect(throws: Refusal.self, "bit \(bit) of byte \(offset)") {
            try Container(path: path).verify(threadCount: 1)
          }
        }
        try write(bytes[offset], offset)
      }
      #expect(try OTContainerTests.contents(Container(path: path)) == expected)
    }
  }

  /// Checking the extent of a byte notices what checking all data does, and tells which bytes are no data.
  @Test func damageIsFoundInTheExtentThatHasIt() throws {
    let (bytes, _) = try DamageTests.file()
    try withTemporaryFolder { folder in
      let path = "\(folder)/model.otq"
      let write = try DamageTests.editing(bytes, at: path)
      // The mapping shows what is written to the file.
      let container = try Container(path: path)
      var dataByteCount = 0
      for offset in bytes.indices {
        try write(bytes[offset] ^ 1, offset)
        if (try? container.verify(threadCount: 1)) == nil {
          #expect(throws: Refusal.self, "byte \(offset)") { try container.verify(byteAt: offset) }
          dataByteCount += 1
        } else {
          #expect(try !container.verify(byteAt: offset), "byte \(offset)")
        }
        try write(bytes[offset], offset)
      }
      #expect(dataByteCount > 0 && dataByteCount < bytes.count - 128)
    }
  }

  @Test func everyTruncationIsRefused() throws {
    let (bytes, _) = try DamageTests.file()
    for count in 0..<bytes.count {
      #expect(throws: Refusal.self, "\(count) bytes") { try open(Array(bytes[..<count])) }
    }
    #expect(throws: Refusal.self) { try open(bytes + [0]) }
  }

  /// With checksums that fit the damage, so that it reaches the rules behind them.
  @Test func randomDamageNeverTraps() throws {
    var generator = SeededGenerator()
    let small = HandmadeFile.small.bytes
    let metadata = small.count(at: 40)..<small.count(at: 72)
    for round in 0..<400 {
      var bytes = small
      let places = round % 2 == 0 ? 8..<128 : metadata.lowerBound..<bytes.count
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let offset = Int.random(in: places, using: &generator)
        let isDigit = (0x30...0x39).contains(bytes[offset])
        let choices = isDigit ? Array("0123456789-e".utf8) : [0, 1, 0x7F, 0x80, 0xFF, bytes[offset] &+ 1]
        bytes[offset] = choices.randomElement(using: &generator) ?? 0
      }
      HandmadeFile.seal(&bytes, [.metadata, .table, .header])
      do {
        let container = try open(bytes)
        try container.verify(threadCount: 1)
        _ = try contents(container)
      } catch {
        #expect(error is Refusal, "seed \(generator.seed): \(error)")
      }
    }
  }
}
