import CZlib

/// CRC-32 (ISO-HDLC, zlib's): finds every burst of errors of up to 32 bits.
func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
  guard let base = bytes.baseAddress else { return 0 }
  return UInt32(truncatingIfNeeded: crc32_z(0, base.assumingMemoryBound(to: Bytef.self), bytes.count))
}
