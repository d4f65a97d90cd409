import CZlib

/// Checksums of bytes that are kept.
package enum Checksum {
  /// CRC-32 (ISO-HDLC, zlib's): finds every burst of errors of up to 32 bits.
  ///
  /// - Parameter sum: that of the bytes before these.
  package static func crc32(_ bytes: UnsafeRawBufferPointer, after sum: UInt32 = 0) -> UInt32 {
    guard let base = bytes.baseAddress else { return sum }
    return UInt32(truncatingIfNeeded: crc32_z(uLong(sum), base.assumingMemoryBound(to: Bytef.self), bytes.count))
  }
}
