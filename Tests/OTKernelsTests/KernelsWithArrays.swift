import OTKernels
import OTTensor
import _OTTestSupport

// The kernels on arrays, so that tests read as formulas.
extension Kernels {
  /// The oracle; every machine has it.
  static let scalar: Kernels = Kernels(.scalar)!

  func convert(_ bytes: [UInt8], from type: ElementType) -> [Float] {
    var result = [Float](repeating: 7, count: bytes.count * 8 / type.bitWidth)
    bytes.withUnsafeBytes { source in
      result.withUnsafeMutableBufferPointer { convert(source, from: type, to: $0) }
    }
    return result
  }

  func convert(_ values: [Float], to type: ElementType) -> [UInt8] {
    var result = [UInt8](repeating: 7, count: values.count * type.bitWidth / 8)
    values.withUnsafeBufferPointer { source in
      result.withUnsafeMutableBytes { convert(source, to: type, into: $0) }
    }
    return result
  }

  func transform(_ row: [Float], columnScale: [Float]?, rowScale: Float?) -> [Float] {
    var result = row
    result.withUnsafeMutableBufferPointer { target in
      if let columnScale {
        columnScale.withUnsafeBufferPointer {
          transform(target, columnScale: $0, rowScale: rowScale)
        }
      } else {
        transform(target, columnScale: nil, rowScale: rowScale)
      }
    }
    return result
  }

  func dot(_ x: [Float], _ y: [Float]) -> Float {
    x.withUnsafeBufferPointer { x in y.withUnsafeBufferPointer { dot(x, $0) } }
  }

  func range(_ row: [Float]) -> RowRange { row.withUnsafeBufferPointer { range($0) } }

  func quantize(
    _ row: [Float], scale: Float, zeroPoint: Int, codes: ClosedRange<Int>
  ) -> (codes: [UInt8], error: RowError) {
    var result = [UInt8](repeating: 7, count: row.count)
    let error = row.withUnsafeBufferPointer { row in
      result.withUnsafeMutableBufferPointer {
        quantize(row, scale: scale, zeroPoint: zeroPoint, codes: codes, into: $0)
      }
    }
    return (result, error)
  }

  func dequantize(_ codes: [UInt8], scale: Float, zeroPoint: Int) -> [Float] {
    var result = [Float](repeating: 7, count: codes.count)
    codes.withUnsafeBufferPointer { codes in
      result.withUnsafeMutableBufferPointer {
        dequantize(codes, scale: scale, zeroPoint: zeroPoint, into: $0)
      }
    }
    return result
  }

  func sum(_ codes: [Int8]) -> Int32 { codes.withUnsafeBufferPointer { sum($0) } }

  /// Runs a kernel that turns bytes into `count` other bytes.
  private func bytes(
    _ source: [UInt8], count: Int,
    _ body: (UnsafeBufferPointer<UInt8>, UnsafeMutableBufferPointer<UInt8>) -> Void
  ) -> [UInt8] {
    var result = [UInt8](repeating: 7, count: count)
    source.withUnsafeBufferPointer { source in
      result.withUnsafeMutableBufferPointer { body(source, $0) }
    }
    return result
  }

  func interleave(_ rows: [UInt8]) -> [UInt8] {
    bytes(rows, count: rows.count) { interleave($0, into: $1) }
  }

  func deinterleave(_ tile: [UInt8]) -> [UInt8] {
    bytes(tile, count: tile.count) { deinterleave($0, into: $1) }
  }

  func pack(_ codes: [UInt8], bits: Int) -> [UInt8] {
    let width = TileLayout.packedBitWidth(bits: bits)
    return bytes(codes, count: codes.count / 8 * width) { pack($0, bits: bits, into: $1) }
  }

  func unpack(_ packed: [UInt8], bits: Int) -> [UInt8] {
    let width = TileLayout.packedBitWidth(bits: bits)
    return bytes(packed, count: packed.count / width * 8) { unpack($0, bits: bits, into: $1) }
  }

  func firstCode(in codes: [UInt8], outside range: ClosedRange<UInt8>) -> Int? {
    codes.withUnsafeBufferPointer { firstCode(in: $0, outside: range) }
  }

  func multiply(
    _ packed: [UInt8], layout: TileLayout, bits: Int, rowTiles: Range<Int>, columns: Range<Int>,
    activations: [Int8], rowCount: Int, resultStride: Int? = nil
  ) -> [Int32] {
    let stride = resultStride ?? rowTiles.count * 16
    var result = [Int32](repeating: 7, count: rowCount * stride)
    var scratch = [UInt8](repeating: 0xA5, count: Kernels.productScratchByteCount)
    packed.withUnsafeBufferPointer { packed in
      activations.withUnsafeBufferPointer { activations in
        result.withUnsafeMutableBufferPointer { result in
          scratch.withUnsafeMutableBufferPointer { scratch in
            multiply(
              packed, layout: layout, bits: bits, rowTiles: rowTiles, columns: columns,
              activations: activations, rowCount: rowCount, into: result,
              resultStride: stride, scratch: scratch)
          }
        }
      }
    }
    return result
  }

  /// The product of groups; results lie as far apart as they are wide.
  func multiply(
    _ packed: [UInt8], layout: TileLayout, bits: Int, rowTiles: Range<Int>, columns: Range<Int>,
    activations: [Int8], groupSize: Int, groups: [CodeRow], zeroPoints: [Int32],
    offsets: (zeros: [Int32], weightSums: [Int32])? = nil, rowCount: Int
  ) -> [Float] {
    var result = [Float](repeating: 7, count: rowCount * rowTiles.count * 16)
    var scratch = [UInt8](repeating: 0xA5, count: Kernels.productScratchByteCount)
    packed.withUnsafeBufferPointer { packed in
      activations.withUnsafeBufferPointer { activations in
        groups.withUnsafeBufferPointer { groups in
          zeroPoints.withUnsafeBufferPointer { zeroPoints in
            result.withUnsafeMutableBufferPointer { result in
              scratch.withUnsafeMutableBufferPointer { scratch in
                (offsets?.zeros ?? []).withUnsafeBufferPointer { zeros in
                  (offsets?.weightSums ?? []).withUnsafeBufferPointer { weightSums in
                    var groups = ActivationGroups(size: groupSize, rows: groups, zeroPoints: zeroPoints)
                    if offsets != nil { groups.offsets = (zeros, weightSums) }
                    multiply(
                      packed, layout: layout, bits: bits, rowTiles: rowTiles, columns: columns,
                      activations: activations, groups: groups, rowCount: rowCount, into: result,
                      resultStride: rowTiles.count * 16, scratch: scratch)
                  }
                }
              }
            }
          }
        }
      }
    }
    return result
  }

  /// The groups of a row, its codes, and nothing beyond them.
  func quantizeGroups(_ row: [Float], bits: Int, groupSize: Int, paddedTo count: Int) -> (codes: [Int8], [CodeRow]) {
    var codes = [Int8](repeating: 99, count: count)
    var groups = [CodeRow](repeating: CodeRow(scale: 99, codeSum: 99), count: (row.count + groupSize - 1) / groupSize)
    row.withUnsafeBufferPointer { row in
      codes.withUnsafeMutableBufferPointer { codes in
        groups.withUnsafeMutableBufferPointer { groups in
          quantizeGroups(row, bits: bits, groupSize: groupSize, into: codes, groups: groups)
        }
      }
    }
    return (codes, groups)
  }
}

extension Kernels {
  /// The groups of a row with codes of 0, its codes, and nothing beyond them.
  func quantizeGroupsAsymmetrically(
    _ row: [Float], bits: Int, groupSize: Int, paddedTo count: Int
  ) -> (codes: [Int8], groups: [CodeRow], zeros: [Int32]) {
    let groupCount = (row.count + groupSize - 1) / groupSize
    var codes = [Int8](repeating: 99, count: count)
    var groups = [CodeRow](repeating: CodeRow(scale: 99, codeSum: 99), count: groupCount)
    var zeros = [Int32](repeating: 99, count: groupCount)
    row.withUnsafeBufferPointer { row in
      codes.withUnsafeMutableBufferPointer { codes in
        groups.withUnsafeMutableBufferPointer { groups in
          zeros.withUnsafeMutableBufferPointer { zeros in
            quantizeGroupsAsymmetrically(
              row, bits: bits, groupSize: groupSize, into: codes, groups: groups, zeros: zeros)
          }
        }
      }
    }
    return (codes, groups, zeros)
  }
}

extension CodeRow {
  /// A row or group of which the codes are elsewhere.
  init(scale: Float, codeSum: Int32) {
    self = Kernels.scalar.quantizeDynamically([0], bits: 8, paddedTo: 1).row
    (self.scale, sum) = (scale, codeSum)
  }
}

/// Rows that are hard on rounding.
enum HardRows {
  /// Halves of `scale`, subnormals, zeros of both signs, extremes and random
  /// values; with `nonFinite` also NaN and infinities.
  static func row(
    count: Int, scale: Float, nonFinite: Bool = false, using generator: inout SeededGenerator
  ) -> [Float] {
    (0..<count).map { _ in
      switch Int.random(in: 0..<(nonFinite ? 9 : 7), using: &generator) {
      case 0: (Float(Int.random(in: -140...140, using: &generator)) + 0.5) * scale
      case 1: Float(bitPattern: UInt32.random(in: 0...0x7F_FFFF, using: &generator))
      case 2: Bool.random(using: &generator) ? -0.0 : 0.0
      case 3:
        Float(
          sign: .minus, exponent: Int.random(in: -140...60, using: &generator), significand: 1.25)
      case 4:
        Float(sign: .plus, exponent: Int.random(in: -24...24, using: &generator), significand: 1.75)
      case 5, 6: Float.random(in: -150...150, using: &generator) * scale
      case 7: Bool.random(using: &generator) ? .infinity : -.infinity
      // A signalling NaN now and then, whose bits must come out alike.
      default: Float(bitPattern: 0x7F80_0001 | UInt32.random(in: 0...0x3FFFFF, using: &generator))
      }
    }
  }
}

extension [Float] {
  var bitPatterns: [UInt32] { map(\.bitPattern) }
}
