import CZstd
import OTContainer
import OTFoundation
import Testing

/// Frames and data (otq-frame, otq-checksum, otq-code, …).
struct DataRefusalTests {
  /// A frame of `bytes` with parameters of the test's choice.
  static func frame(_ bytes: [UInt8], checksum: Int32 = 1, contentSize: Int32 = 1, window: Int32? = nil) -> [UInt8] {
    let context = ZSTD_createCCtx()
    defer { ZSTD_freeCCtx(context) }
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum)
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, contentSize)
    if let window { ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window) }
    var frame = [UInt8](repeating: 0, count: ZSTD_compressBound(bytes.count))
    // Streaming, so that the library does not know that the content is short.
    let count = frame.withUnsafeMutableBytes { target in
      bytes.withUnsafeBytes { source in
        if window == nil {
          return ZSTD_compress2(context, target.baseAddress, target.count, source.baseAddress, source.count)
        }
        var input = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
        var output = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
        ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue)
        ZSTD_compressStream2(context, &output, &input, ZSTD_e_end)
        return output.pos
      }
    }
    return Array(frame[..<count])
  }

  static let tile = HandmadeFile.smallTile

  /// The small file with a frame for its codes.
  static func coded(_ frame: [UInt8], decodedByteCount: Int = 1024) -> [UInt8] {
    var file = HandmadeFile.small
    file.extents[1] = .init(frame: frame, of: decodedByteCount)
    return file.bytes
  }

  /// A case whose frame is a good one, changed.
  private static func framed(
    _ name: String, _ rule: String, _ change: @escaping @Sendable (inout [UInt8]) -> Void
  ) -> RefusalCase {
    .init(name, rule) {
      var frame = DataRefusalTests.frame(tile)
      change(&frame)
      return coded(frame)
    }
  }

  static let frames: [RefusalCase] = [
    framed("no frame", "otq-frame") { $0[0] = 0 },
    framed("skippable frame", "otq-frame") { $0 = [0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4] + $0 },
    framed("reserved bit", "otq-frame") { $0[4] |= 8 },
    framed("dictionary", "otq-frame") { $0[4] |= 1 },
    framed("bytes behind the frame", "otq-frame") { $0.append(0) },
    framed("second frame", "otq-frame") { $0 += $0 },
    framed("truncated frame", "otq-frame") { $0.removeLast() },
    framed("only a header", "otq-frame") { $0 = Array($0[..<8]) },
    framed("wrong checksum", "otq-frame-data") { $0[$0.count - 1] ^= 1 },
    framed("reserved block type", "otq-frame") { $0[7] |= 6 },
    .init("no checksum", "otq-frame") { coded(frame(tile, checksum: 0)) },
    .init("no content size", "otq-frame") { coded(frame(tile, contentSize: 0)) },
    .init("window of 16 MiB", "otq-frame") { coded(frame(tile, contentSize: 0, window: 24)) },
    .init("content longer than the table says", "otq-frame") { coded(frame(tile + [0])) },
    .init("content shorter than the table says", "otq-frame") { coded(frame(Array(tile[..<1023]))) },
    .init("content size that lies", "otq-frame-data") {
      // The field for 1024 is two bytes, 256 less than the size.
      var frame = DataRefusalTests.frame(tile + [UInt8](repeating: 0, count: 1024))
      frame.put(UInt16(1024 - 256), at: 5)
      return coded(frame)
    },
  ]

  @Test(arguments: frames) func frameIsRefused(_ file: RefusalCase) throws { try file.expectAtReading() }

  @Test func goodFramesAreRead() throws {
    let container = try open(DataRefusalTests.coded(DataRefusalTests.frame(DataRefusalTests.tile)))
    try container.verify(threadCount: 1)
    #expect(try container.codes(of: container.tensors[0], rowTiles: 0..<1) == DataRefusalTests.tile)
    // The descriptor's unused bit is to be ignored.
    var frame = DataRefusalTests.frame(DataRefusalTests.tile)
    frame[4] |= 0x10
    try open(DataRefusalTests.coded(frame)).verify(threadCount: 1)
  }

  @Test func damagedChunkIsRefused() throws {
    for extent in 0..<4 {
      var bytes = HandmadeFile.small.bytes
      bytes[bytes.count(at: bytes.count(at: 72) + extent * 32)] ^= 1
      let container = try open(bytes)
      let refusal = #expect(throws: Refusal.self) { try container.verify(threadCount: 2) }
      #expect(refusal?.rule == "otq-checksum", "extent \(extent)")
    }
  }

  /// The small file with other scales or codes.
  private static func changed(_ extent: Int, _ offset: Int, _ value: [UInt8]) -> [UInt8] {
    var file = HandmadeFile.small
    file.extents[extent].stored.replaceSubrange(offset..<offset + value.count, with: value)
    return file.bytes
  }

  static let values: [RefusalCase] = [
    .init("code 64 of 6 bits", "otq-code") { changed(1, 1, [64]) },
    .init("code 255 of 6 bits", "otq-code") { changed(1, 6, [255]) },
    .init("code 0 of a symmetric tensor", "otq-code") { changed(1, 0, [0]) },
    .init("padding column", "otq-code") { changed(1, 3, [1]) },
    .init("padding row", "otq-code") { changed(1, 8, [1]) },
    .init("last padding", "otq-code") { changed(1, 1023, [1]) },
    .init("scale 0", "otq-scale") { changed(2, 0, [0, 0, 0, 0]) },
    .init("scale −0", "otq-scale") { changed(2, 4, [0, 0, 0, 0x80]) },
    .init("negative scale", "otq-scale") { changed(2, 4, [0, 0, 0x80, 0xBF]) },
    .init("infinite scale", "otq-scale") { changed(2, 4, [0, 0, 0x80, 0x7F]) },
    .init("NaN scale", "otq-scale") { changed(2, 4, [1, 0, 0x80, 0x7F]) },
    .init("zero point beyond the codes", "otq-zero-point") {
      var file = HandmadeFile.small("\"symmetric\":true", "\"symmetric\":false")
      file.metadata = Array(
        String(decoding: file.metadata, as: UTF8.self)
          .replacing("\"scales\":[2,1]", with: "\"scales\":[2,1],\"zeroPoints\":[4,1]").utf8)
      file.extents.append(.init([63, 64]))
      return file.bytes
    },
  ]

  @Test(arguments: values) func valueIsRefused(_ file: RefusalCase) throws { try file.expectAtReading() }

  @Test func packedCodesAreChecked() throws {
    // 5 bits lie in fields of 6: 32 fits the field, but not the scheme.
    for (code, isRefused) in [(UInt8(31), false), (32, true)] {
      var packed = [UInt8](repeating: 0, count: 768)
      packed[0] = code
      let metadata = """
        {"attachments":[],"tensors":[{"name":"w","shape":[1,1],"bits":5,"symmetric":false,"granularity":"tensor",\
        "form":"packed","rowTilesPerChunk":1,"planes":{"codes":[0,1],"scales":[1,1],"zeroPoints":[2,1]}}]}
        """
      let file = HandmadeFile([.init(packed), .init([0, 0, 0x80, 0x3F]), .init([0])], metadata)
      let container = try open(file.bytes)
      if isRefused {
        let refusal = #expect(throws: Refusal.self) { try container.verify(threadCount: 1) }
        #expect(refusal?.rule == "otq-code")
      } else {
        try container.verify(threadCount: 1)
      }
    }
  }

  @Test func packedCodesInFramesAreRefused() throws {
    let metadata = """
      {"attachments":[],"tensors":[{"name":"w","shape":[1,1],"bits":6,"symmetric":false,"granularity":"tensor",\
      "form":"packed","rowTilesPerChunk":1,"planes":{"codes":[0,1],"scales":[1,1],"zeroPoints":[2,1]}}]}
      """
    let frame = DataRefusalTests.frame([UInt8](repeating: 0, count: 768))
    let file = HandmadeFile([.init(frame: frame, of: 768), .init([0, 0, 0x80, 0x3F]), .init([0])], metadata)
    let refusal = #expect(throws: Refusal.self) { try open(file.bytes) }
    #expect(refusal?.rule == "otq-plane")
  }
}
