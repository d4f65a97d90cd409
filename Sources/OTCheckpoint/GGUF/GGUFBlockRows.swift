import OTFoundation
import OTTensor

/// Rows of ggml's blocks as float32: the arithmetic of ggml's `dequantize_row_…`, rounded as there.
struct GGUFBlockRows: RowDecoder {
  let file: MappedFile
  let byteOffset: Int
  let type: GGUFType
  let shape: Shape

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    guard !rows.isEmpty, let base = target.bindMemory(to: Float.self).baseAddress else { return }
    let bytes = file.bytes(in: range(of: rows))
    guard let source = bytes.baseAddress else { return }
    let (size, count) = (type.blockByteCount, type.blockElementCount)
    // Which type it is, is asked once a block.
    for block in 0..<bytes.count / size {
      GGUFBlock(bytes: source + block * size).decode(type, to: base + block * count)
    }
  }

  func release(_ rows: Range<Int>) { file.release(range(of: rows)) }

  func storedByteCount(of rows: Range<Int>) -> Int { range(of: rows).count }

  /// A matrix of a stack, whose rows are whole blocks.
  func within(row: Int) -> (any RowDecoder)? {
    guard shape.rank > 2, let part = Shape(Array(shape.dimensions.dropFirst())) else { return nil }
    return GGUFBlockRows(file: file, byteOffset: range(of: row..<row + 1).lowerBound, type: type, shape: part)
  }

  private func range(of rows: Range<Int>) -> Range<Int> {
    let rowByteCount = shape.rowElementCount / type.blockElementCount * type.blockByteCount
    return byteOffset + rows.lowerBound * rowByteCount..<byteOffset + rows.upperBound * rowByteCount
  }
}

/// One block of ggml's quantized types.
private struct GGUFBlock {
  let bytes: UnsafeRawPointer

  @inline(__always)
  private func byte(_ offset: Int) -> Int { Int(bytes.load(fromByteOffset: offset, as: UInt8.self)) }
  @inline(__always)
  private func signed(_ offset: Int) -> Int { Int(bytes.load(fromByteOffset: offset, as: Int8.self)) }
  @inline(__always)
  private func half(_ offset: Int) -> Float {
    GGUFBlock.float16(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
  }

  /// The value of a float16, which the standard library does not have on every processor.
  private static func float16(_ bits: UInt16) -> Float {
    let (exponent, mantissa) = (Int(bits >> 10 & 31), UInt32(bits & 0x3FF))
    let sign = UInt32(bits & 0x8000) << 16
    if exponent == 0 {
      let magnitude = Float(mantissa) * 0x1p-24
      return sign == 0 ? magnitude : -magnitude
    }
    let high = exponent == 31 ? UInt32(255) : UInt32(exponent + 112)
    return Float(bitPattern: sign | high << 23 | mantissa << 13)
  }

  func decode(_ type: GGUFType, to out: UnsafeMutablePointer<Float>) {
    switch type {
    case .q4v0: nibbles(half(0), at: 2, to: out) { Float($0 - 8) }
    case .q4v1:
      let minimum = half(2)
      let scale = half(0)
      for index in 0..<16 {
        out[index] = Float(byte(4 + index) & 15) * scale + minimum
        out[index + 16] = Float(byte(4 + index) >> 4) * scale + minimum
      }
    case .q5v0: fiveBits(at: 2) { out[$0] = Float($1 - 16) * half(0) }
    case .q5v1: fiveBits(at: 4) { out[$0] = Float($1) * half(0) + half(2) }
    case .q8v0:
      let scale = half(0)
      for index in 0..<32 { out[index] = Float(signed(2 + index)) * scale }
    case .q2K: q2K(out)
    case .q3K: q3K(out)
    case .q4K: q45K(out, isFive: false)
    case .q5K: q45K(out, isFive: true)
    case .q6K: q6K(out)
    case .iq4NL:
      GGUFBlock.nonLinear.withUnsafeBufferPointer { table in
        nibbles(half(0), at: 2, to: out) { table[$0] }
      }
    case .iq4XS: iq4XS(out)
    case .mxfp4:
      let exponent = UInt32(byte(0))
      // Half of 2^(byte − 127); 255 is a number, too.
      let scale = Float(bitPattern: exponent < 2 ? 0x20_0000 << exponent : (exponent - 1) << 23)
      GGUFBlock.doubledE2M1.withUnsafeBufferPointer { table in
        nibbles(scale, at: 1, to: out) { table[$0] }
      }
    case .tq1v0: tq1(out)
    case .tq2v0:
      let scale = half(64)
      for index in 0..<256 {
        let (part, within) = (index / 128, index % 128)
        out[index] = Float((byte(32 * part + within % 32) >> (within / 32 * 2) & 3) - 1) * scale
      }
    case .nvfp4:
      GGUFBlock.doubledE2M1.withUnsafeBufferPointer { table in
        for index in 0..<64 {
          let (sub, within) = (index / 16, index % 16)
          let pair = byte(4 + sub * 8 + within % 8)
          out[index] = table[within < 8 ? pair & 15 : pair >> 4] * GGUFBlock.halfE4M3[byte(sub)]
        }
      }
    case .f32, .f16, .bf16, .f64, .i8, .i16, .i32, .i64: preconditionFailure("is no block")
    }
  }

  /// 32 elements in 16 bytes: the low halves first, then the high ones.
  @inline(__always)
  private func nibbles(
    _ scale: Float, at offset: Int, to out: UnsafeMutablePointer<Float>, _ value: (Int) -> Float
  ) {
    for index in 0..<16 {
      out[index] = value(byte(offset + index) & 15) * scale
      out[index + 16] = value(byte(offset + index) >> 4) * scale
    }
  }

  /// 32 elements, their fifth bits in a word before the halves.
  @inline(__always)
  private func fiveBits(at offset: Int, _ put: (_ index: Int, _ code: Int) -> Void) {
    let high = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    for index in 0..<16 {
      let pair = byte(offset + 4 + index)
      put(index, pair & 15 | Int(high >> UInt32(index) & 1) << 4)
      put(index + 16, pair >> 4 | Int(high >> UInt32(index + 16) & 1) << 4)
    }
  }

  // MARK: Blocks of 256

  private func q2K(_ out: UnsafeMutablePointer<Float>) {
    let (scale, minimum) = (half(80), half(82))
    for index in 0..<256 {
      let (part, within) = (index / 128, index % 128)
      let code = byte(16 + 32 * part + within % 32) >> (within / 32 * 2) & 3
      let pair = byte(index / 16)
      out[index] = scale * Float(pair & 15) * Float(code) - minimum * Float(pair >> 4)
    }
  }

  private func q3K(_ out: UnsafeMutablePointer<Float>) {
    let scale = half(108)
    for index in 0..<256 {
      let (part, within, sub) = (index / 128, index % 128, index / 16)
      let low = byte(32 + 32 * part + within % 32) >> (within / 32 * 2) & 3
      let high = byte(index % 32) >> (index / 32) & 1
      let nibble = sub < 8 ? byte(96 + sub) & 15 : byte(96 + sub - 8) >> 4
      let top = byte(104 + sub % 4) >> (sub / 4 * 2) & 3
      out[index] = scale * Float((nibble | top << 4) - 32) * Float(low - (high == 1 ? 0 : 4))
    }
  }

  /// Scale and minimum of one of eight groups of 32, of 6 bits each.
  @inline(__always)
  private func scaleAndMinimum(_ group: Int) -> (Int, Int) {
    if group < 4 { return (byte(4 + group) & 63, byte(8 + group) & 63) }
    return (
      byte(8 + group) & 15 | (byte(group) >> 6) << 4, byte(8 + group) >> 4 | (byte(4 + group) >> 6) << 4
    )
  }

  private func q45K(_ out: UnsafeMutablePointer<Float>, isFive: Bool) {
    let (scale, minimum) = (half(0), half(2))
    let codes = isFive ? 48 : 16
    for group in 0..<8 {
      let (factor, offset) = scaleAndMinimum(group)
      let (d, m) = (scale * Float(factor), minimum * Float(offset))
      for index in 0..<32 {
        var code = byte(codes + group / 2 * 32 + index) >> (group % 2 * 4) & 15
        if isFive { code |= (byte(16 + index) >> group & 1) << 4 }
        out[group * 32 + index] = d * Float(code) - m
      }
    }
  }

  private func q6K(_ out: UnsafeMutablePointer<Float>) {
    let scale = half(208)
    for index in 0..<256 {
      let (part, within) = (index / 128, index % 128)
      let (strip, place) = (within / 32, within % 32)
      let low = byte(64 * part + strip % 2 * 32 + place) >> (strip / 2 * 4) & 15
      let high = byte(128 + 32 * part + place) >> (2 * strip) & 3
      out[index] = scale * Float(signed(192 + index / 16)) * Float((low | high << 4) - 32)
    }
  }

  private func iq4XS(_ out: UnsafeMutablePointer<Float>) {
    let scale = half(0)
    let high = Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self)))
    GGUFBlock.nonLinear.withUnsafeBufferPointer { table in
      for group in 0..<8 {
        let low = byte(4 + group / 2) >> (group % 2 * 4) & 15
        let factor = scale * Float((low | (high >> (2 * group) & 3) << 4) - 32)
        for index in 0..<16 {
          let pair = byte(8 + group * 16 + index)
          out[group * 32 + index] = factor * table[pair & 15]
          out[group * 32 + index + 16] = factor * table[pair >> 4]
        }
      }
    }
  }

  /// Digits of base 3, five to a byte and the last sixteen elements four to a byte; a byte is a fraction of 256.
  private func tq1(_ out: UnsafeMutablePointer<Float>) {
    let scale = half(52)
    let powers = (1, 3, 9, 27, 81)
    func digit(_ offset: Int, _ power: Int) -> Float { Float((((byte(offset) * power) & 255) * 3) >> 8 - 1) * scale }
    withUnsafeBytes(of: powers) { powers in
      let powers = powers.bindMemory(to: Int.self)
      for index in 0..<160 { out[index] = digit(index % 32, powers[index / 32]) }
      for index in 0..<80 { out[160 + index] = digit(32 + index % 16, powers[index / 16]) }
      for index in 0..<16 { out[240 + index] = digit(48 + index % 4, powers[index / 4]) }
    }
  }

  /// Twice the values of E2M1; zero has no sign, as in ggml.
  private static let doubledE2M1: [Float] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

  /// Half of the values of E4M3 without a sign. ggml has no NaN: 0x7F is 0, and 0xFF the number that it would spell.
  private static let halfE4M3: [Float] = (0..<256).map { byte in
    switch byte {
    case 0x7F: 0
    case 0xFF: 240
    default: NarrowFloat.e4m3[byte & 0x7F] / 2
    }
  }

  /// The values of IQ4_NL and IQ4_XS.
  private static let nonLinear: [Float] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
  ]
}
