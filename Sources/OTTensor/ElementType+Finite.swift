extension ElementType {
  /// The index of the first element that is NaN or infinite: all bits of its exponent are set.
  ///
  /// Nil where there is none, and for types that are no convertible floats.
  ///
  /// - Parameter bytes: little-endian elements of this type.
  package func firstNonFinite(in bytes: UnsafeRawBufferPointer) -> Int? {
    switch self {
    case .f16: ElementType.first(in: bytes, withAll: 0x7C00 as UInt16)
    case .bf16: ElementType.first(in: bytes, withAll: 0x7F80 as UInt16)
    case .f32: ElementType.first(in: bytes, withAll: 0x7F80_0000 as UInt32)
    case .f64: ElementType.first(in: bytes, withAll: 0x7FF0_0000_0000_0000 as UInt64)
    default: nil
    }
  }

  private static func first<Bits: FixedWidthInteger>(in bytes: UnsafeRawBufferPointer, withAll mask: Bits) -> Int? {
    let size = MemoryLayout<Bits>.size
    let count = bytes.count / size
    func isHit(_ index: Int) -> Bool {
      Bits(littleEndian: bytes.loadUnaligned(fromByteOffset: index * size, as: Bits.self)) & mask == mask
    }
    // Counted block by block: a loop that ends early is not vectorized.
    for start in stride(from: 0, to: count, by: 4096) {
      let block = start..<min(start + 4096, count)
      var hits = 0
      for index in block { hits &+= isHit(index) ? 1 : 0 }
      if hits > 0 { return block.first(where: isHit) }
    }
    return nil
  }
}
