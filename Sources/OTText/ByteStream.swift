import CZstd
import OTFoundation

/// The bytes of a file, decompressed if need be, a block at a time: memory
/// does not grow with the file.
struct ByteStream {
  private static let blockByteCount = 1 << 20

  let file: MappedFile
  let isCompressed: Bool

  /// Calls `body` with block after block until it returns false.
  ///
  /// - Throws: `Refusal` with rule `text-zst-damaged` or `text-zst-truncated`,
  ///   as reading the file throws, or whatever `body` throws.
  func forEachBlock(_ body: (UnsafeRawBufferPointer) throws -> Bool) throws {
    if isCompressed {
      try forEachDecodedBlock(body)
    } else {
      try forEachStoredBlock { try body($0) }
    }
  }

  private func forEachStoredBlock(_ body: (UnsafeRawBufferPointer) throws -> Bool) throws {
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.blockByteCount, alignment: 64)
    defer { block.deallocate() }
    var offset = 0
    while offset < file.byteCount {
      let part = UnsafeMutableRawBufferPointer(rebasing: block[..<min(block.count, file.byteCount - offset)])
      try file.read(at: offset, into: part)
      guard try body(UnsafeRawBufferPointer(part)) else { return }
      offset += part.count
    }
  }

  /// Frames follow one another, as `zstd` and parallel compressors write them.
  private func forEachDecodedBlock(_ body: (UnsafeRawBufferPointer) throws -> Bool) throws {
    guard let context = ZSTD_createDCtx() else { throw Refusal("zstd-failed", "no memory for zstd") }
    defer { ZSTD_freeDCtx(context) }
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: ZSTD_DStreamOutSize(), alignment: 64)
    defer { block.deallocate() }
    var offset = 0
    // What the library expects to come: 0 at the end of a frame.
    var expected = 0
    var goesOn = true
    try forEachStoredBlock { stored in
      var input = ZSTD_inBuffer(src: stored.baseAddress, size: stored.count, pos: 0)
      var isFull = false
      while goesOn, input.pos < input.size || isFull {
        var output = ZSTD_outBuffer(dst: block.baseAddress, size: block.count, pos: 0)
        expected = ZSTD_decompressStream(context, &output, &input)
        guard ZSTD_isError(expected) == 0 else {
          throw Refusal(
            "text-zst-damaged", "cannot be decompressed: \(String(cString: ZSTD_getErrorName(expected)))",
            file: file.path, byteOffset: offset + input.pos)
        }
        // A full buffer may leave decoded bytes inside the library.
        isFull = output.pos == output.size && expected != 0
        if output.pos > 0 {
          goesOn = try body(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(block)[..<output.pos]))
        }
      }
      offset += stored.count
      return goesOn
    }
    guard expected == 0 || !goesOn else {
      throw Refusal(
        "text-zst-truncated", "ends in the middle of a zstd frame", file: file.path, byteOffset: file.byteCount,
        remedy: "download the file again")
    }
  }
}
