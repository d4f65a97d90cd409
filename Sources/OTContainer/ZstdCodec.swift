import CZstd
import OTFoundation
import OTPlatform

/// Frames of zstd with content size and checksum, one frame to a chunk.
///
/// Contexts are kept in a pool and used by one thread at a time, since making
/// one costs more than compressing a chunk.
final class ZstdCodec: @unchecked Sendable {
  /// libzstd before 1.5.5 corrupts data in rare cases at levels from 13 on
  /// (facebook/zstd#3517); the block splitter is not used up to 12.
  static var maximumLevel: Int { ZSTD_versionNumber() < 10505 ? 12 : 19 }

  private let level: Int32
  private let compressors = Pool<OpaquePointer>(free: { ZSTD_freeCCtx($0) })
  private static let decompressors = Pool<OpaquePointer>(free: { ZSTD_freeDCtx($0) })

  init(level: Int) { self.level = Int32(min(max(level, 1), ZstdCodec.maximumLevel)) }

  /// A frame of `bytes`; nil when it would not be smaller.
  ///
  /// The frame is decoded again and compared: a fault of the library must not
  /// reach a file.
  /// - Throws: `Refusal` with rule `zstd-failed`.
  func encode(_ bytes: UnsafeRawBufferPointer) throws -> [UInt8]? {
    guard bytes.count > 64 else { return nil }
    guard let context = compressors.take() ?? ZSTD_createCCtx() else {
      throw Refusal("zstd-failed", "no memory for zstd")
    }
    defer { compressors.give(context) }
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 1)
    var failure: String?
    let frame = [UInt8](unsafeUninitializedCapacity: ZSTD_compressBound(bytes.count)) { buffer, count in
      let size = ZSTD_compress2(context, buffer.baseAddress, buffer.count, bytes.baseAddress, bytes.count)
      if ZSTD_isError(size) != 0 { failure = String(cString: ZSTD_getErrorName(size)) } else { count = size }
    }
    if let failure { throw Refusal("zstd-failed", "zstd cannot compress: \(failure)") }
    guard frame.count < bytes.count else { return nil }
    let check = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
    defer { check.deallocate() }
    try frame.withUnsafeBytes { try ZstdCodec.decode($0, into: check) }
    guard let source = bytes.baseAddress, let copy = check.baseAddress, memcmp(source, copy, bytes.count) == 0
    else {
      throw Refusal("zstd-failed", "zstd does not give back what it compressed")
    }
    return frame
  }

  /// Decodes one frame, whose header has been checked, that must fill `target` exactly.
  ///
  /// - Throws: `Refusal` without a file, with rule `otq-frame-data` when decoding fails.
  static func decode(_ frame: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) throws {
    guard let context = decompressors.take() ?? ZSTD_createDCtx() else {
      throw Refusal("zstd-failed", "no memory for zstd")
    }
    defer { decompressors.give(context) }
    let size = ZSTD_decompressDCtx(context, target.baseAddress, target.count, frame.baseAddress, frame.count)
    guard ZSTD_isError(size) == 0 else {
      throw Refusal("otq-frame-data", "a zstd frame is damaged: \(String(cString: ZSTD_getErrorName(size)))")
    }
    guard size == target.count else {
      throw Refusal("otq-frame-data", "a zstd frame holds \(size) bytes instead of \(target.count)")
    }
  }

  /// Checks a frame before memory is taken for what it holds: RFC 8878,
  /// 3.1.1.1: magic number, descriptor, window, dictionary, content size.
  ///
  /// - Throws: `Refusal` without a file, with rule `otq-frame`.
  static func checkHeader(_ frame: UnsafeRawBufferPointer, decodedByteCount: Int) throws {
    func refuse(_ message: String) -> Refusal { Refusal("otq-frame", message) }
    guard frame.count >= 9, frame.littleEndian(at: 0, as: UInt32.self) == 0xFD2F_B528 else {
      throw refuse("is not a zstd frame")
    }
    let descriptor = frame[4]
    guard descriptor & 0x08 == 0 else { throw refuse("a reserved bit of a zstd frame is set") }
    guard descriptor & 0x03 == 0 else { throw refuse("a zstd frame needs a dictionary") }
    guard descriptor & 0x04 != 0 else { throw refuse("a zstd frame has no checksum") }
    // A frame of a single segment has its content for a window.
    let hasWindow = descriptor & 0x20 == 0
    let unit = 1 << (10 + Int(frame[5] >> 3))
    let window = hasWindow ? unit + unit / 8 * Int(frame[5] & 7) : decodedByteCount
    guard window <= ContainerFormat.maximumWindowByteCount else {
      throw refuse("a zstd frame asks for a window of \(window) bytes")
    }
    let size = ZSTD_getFrameContentSize(frame.baseAddress, frame.count)
    guard size == UInt64(decodedByteCount) else {
      throw refuse("a zstd frame does not declare the \(decodedByteCount) bytes that the table does")
    }
    // Bytes after the frame would be a second frame.
    guard ZSTD_findFrameCompressedSize(frame.baseAddress, frame.count) == frame.count else {
      throw refuse("bytes follow a zstd frame")
    }
  }
}
