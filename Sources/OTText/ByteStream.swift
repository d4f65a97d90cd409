import CZlib
import CZstd
import OTFoundation

/// The bytes of a file, decompressed if need be, a block at a time: memory
/// does not grow with the file.
struct ByteStream {
  private static let blockByteCount = 1 << 20

  /// How the bytes of a file are compressed.
  enum Compression: Sendable {
    case none, zstd, gzip
  }

  let file: MappedFile
  let compression: Compression

  /// Calls `body` with block after block until it returns false.
  ///
  /// - Throws: `Refusal` with rule `text-zst-damaged`, `text-zst-truncated`, `text-gz-damaged` or
  ///   `text-gz-truncated`, as reading the file throws, or whatever `body` throws.
  func forEachBlock(_ body: (UnsafeRawBufferPointer) throws -> Bool) throws {
    switch compression {
    case .none: try forEachStoredBlock { try body($0) }
    case .zstd: try forEachDecodedBlock(body)
    case .gzip: try forEachInflatedBlock(body)
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

  /// Members follow one another, as `gzip` and parallel compressors write them.
  private func forEachInflatedBlock(_ body: (UnsafeRawBufferPointer) throws -> Bool) throws {
    // zlib wants it at one address.
    let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    stream.initialize(to: z_stream())
    defer { stream.deallocate() }
    // A window of 2^15 bytes, in gzip's wrapping.
    guard inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw Refusal("zlib-failed", "no memory for zlib")
    }
    defer { inflateEnd(stream) }
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.blockByteCount, alignment: 64)
    defer { block.deallocate() }
    var offset = 0
    var isEnd = false
    var goesOn = true
    try forEachStoredBlock { stored in
      stream.pointee.next_in = UnsafeMutablePointer(mutating: stored.bindMemory(to: UInt8.self).baseAddress)
      stream.pointee.avail_in = UInt32(stored.count)
      var isFull = false
      while goesOn, stream.pointee.avail_in > 0 || isFull {
        if isEnd { inflateReset(stream) }
        stream.pointee.next_out = block.bindMemory(to: UInt8.self).baseAddress
        stream.pointee.avail_out = UInt32(block.count)
        let status = inflate(stream, Z_NO_FLUSH)
        guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR else {
          throw Refusal(
            "text-gz-damaged", "cannot be decompressed: it is no gzip, or was changed", file: file.path,
            byteOffset: offset + stored.count - Int(stream.pointee.avail_in))
        }
        isEnd = status == Z_STREAM_END
        // A full buffer may leave decoded bytes inside the library.
        isFull = stream.pointee.avail_out == 0 && !isEnd
        let count = block.count - Int(stream.pointee.avail_out)
        if count > 0 { goesOn = try body(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(block)[..<count])) }
      }
      offset += stored.count
      return goesOn
    }
    guard isEnd || !goesOn else {
      throw Refusal(
        "text-gz-truncated", "ends in the middle of what gzip compressed", file: file.path, byteOffset: file.byteCount,
        remedy: "download the file again")
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
