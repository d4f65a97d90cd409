import Foundation
import OTContainer
import OTTensor
import Testing
import _OTTestSupport

/// Frames of zstd that the format does not allow (RFC 8878), built by hand: a
/// frame header, then one raw block.
@Suite struct FrameTests {
  static let content = [UInt8](repeating: 9, count: 300)

  /// A frame of `content`; a raw block's header is last | type << 1 | size << 3.
  static func frame(
    descriptor: UInt8, window: [UInt8] = [], dictionary: [UInt8] = [], size: [UInt8], checksum: [UInt8] = []
  ) -> [UInt8] {
    let block = UInt32(1 | content.count << 3)
    return little(UInt32(0xFD2F_B528)) + [descriptor] + window + dictionary + size + little(block).prefix(3) + content
      + checksum
  }

  /// A file with one tensor of bytes, in one extent.
  static func file(_ frame: [UInt8], decodedByteCount: Int = 300) -> [UInt8] {
    var file = HandBuiltFile()
    file.extents = [.init(frame, decodedByteCount: decodedByteCount, codec: 1)]
    file.metadata =
      "{\"tensors\":[{\"name\":\"p\",\"shape\":[\(decodedByteCount)],\"dtype\":\"U8\",\"planes\":{\"values\":[0,1]}}]}"
    return file.bytes
  }

  static func rule(_ bytes: [UInt8]) -> String? {
    do {
      return try withContainer(bytes) { container in
        _ = try container.values(of: try #require(container["p"]))
        return nil
      }
    } catch { return (error as? Refusal)?.rule }
  }

  struct Frame: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let bytes: [UInt8]
  }

  static let size: [UInt8] = [44, 0]
  static let checksum: [UInt8] = [0, 0, 0, 0]
  static let skippable: [UInt8] = little(UInt32(0x184D_2A50)) + little(UInt64(8)) + little(UInt32(0))

  // Descriptor bits: 7-6 content size, 5 single segment, 3 reserved, 2 checksum, 1-0 dictionary.
  static let frames: [Frame] = [
    Frame(testDescription: "reserved bit", bytes: frame(descriptor: 0x6C, size: size, checksum: checksum)),
    Frame(testDescription: "no checksum", bytes: frame(descriptor: 0x60, size: size)),
    Frame(
      testDescription: "dictionary",
      bytes: frame(descriptor: 0x65, dictionary: [1], size: size, checksum: checksum)),
    Frame(
      testDescription: "no content size",
      bytes: frame(descriptor: 0x04, window: [0x38], size: [], checksum: checksum)),
    Frame(
      testDescription: "window of 16 MiB",
      bytes: frame(descriptor: 0x44, window: [0x70], size: size, checksum: checksum)),
    Frame(
      testDescription: "another content size", bytes: frame(descriptor: 0x64, size: [45, 0], checksum: checksum)),
    Frame(
      testDescription: "bytes after the frame",
      bytes: frame(descriptor: 0x64, size: size, checksum: checksum) + [0]),
    Frame(testDescription: "skippable frame", bytes: skippable),
    Frame(testDescription: "no frame", bytes: [UInt8](repeating: 1, count: 40)),
    Frame(testDescription: "nothing", bytes: []),
  ]

  @Test(arguments: frames)
  func refusesHeader(_ frame: Frame) {
    #expect(Self.rule(Self.file(frame.bytes)) == "otq-frame")
  }

  @Test func refusesWrongContentChecksum() {
    let frame = Self.frame(descriptor: 0x64, size: [44, 0], checksum: [1, 2, 3, 4])
    #expect(Self.rule(Self.file(frame)) == "otq-frame-data")
  }

  @Test func aLieAboutTheSizeAllocatesNothing() {
    let frame = Self.frame(descriptor: 0x64, size: [44, 0], checksum: [0, 0, 0, 0])
    #expect(Self.rule(Self.file(frame, decodedByteCount: 1 << 30)) == "otq-frame")
  }
}
