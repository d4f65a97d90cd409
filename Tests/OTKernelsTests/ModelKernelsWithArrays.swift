import OTFoundation
import OTKernels
import _OTTestSupport

// The kernels of a model's values on arrays, so that tests read as formulas.
extension Kernels {
  /// Runs a kernel from floats to as many floats.
  func mapped(
    _ x: [Float],
    _ body: (UnsafeBufferPointer<Float>, UnsafeMutableBufferPointer<Float>) -> Void
  ) -> [Float] {
    var result = [Float](repeating: 7, count: x.count)
    x.withUnsafeBufferPointer { x in result.withUnsafeMutableBufferPointer { body(x, $0) } }
    return result
  }

  func activate(_ activation: Activation, _ x: [Float]) -> [Float] {
    mapped(x) { activate(activation, $0, into: $1) }
  }

  func add(_ x: [Float], _ y: [Float]) -> [Float] {
    y.withUnsafeBufferPointer { y in mapped(x) { add($0, y, into: $1) } }
  }

  func multiply(_ x: [Float], _ y: [Float]) -> [Float] {
    y.withUnsafeBufferPointer { y in mapped(x) { multiply($0, y, into: $1) } }
  }

  func transform(_ x: [Float], shift: [Float]?, scale: [Float]?) -> [Float] {
    withBuffers(shift, scale) { shift, scale in
      mapped(x) { transform($0, shift: shift, scale: scale, into: $1) }
    }
  }

  func layerNormalize(_ x: [Float], epsilon: Float, gamma: [Float]?, beta: [Float]?) -> [Float] {
    withBuffers(gamma, beta) { gamma, beta in
      mapped(x) { layerNormalize($0, epsilon: epsilon, gamma: gamma, beta: beta, into: $1) }
    }
  }

  func rmsNormalize(_ x: [Float], epsilon: Float, gamma: [Float]?, beta: [Float]?) -> [Float] {
    withBuffers(gamma, beta) { gamma, beta in
      mapped(x) { rmsNormalize($0, epsilon: epsilon, gamma: gamma, beta: beta, into: $1) }
    }
  }

  private func withBuffers<Result>(
    _ x: [Float]?, _ y: [Float]?,
    _ body: (UnsafeBufferPointer<Float>?, UnsafeBufferPointer<Float>?) -> Result
  ) -> Result {
    (x ?? []).withUnsafeBufferPointer { a in
      (y ?? []).withUnsafeBufferPointer { b in body(x == nil ? nil : a, y == nil ? nil : b) }
    }
  }

  func quantizeStatically(
    _ row: [Float], bits: Int, paddedTo count: Int
  ) -> (codes: [Int8], row: CodeRow) {
    var codes = [Int8](repeating: 7, count: count)
    let result = row.withUnsafeBufferPointer { row in
      codes.withUnsafeMutableBufferPointer { quantizeStatically(row, bits: bits, into: $0) }
    }
    return (codes, result)
  }

  func quantizeDynamically(
    _ row: [Float], bits: Int, paddedTo count: Int
  ) -> (codes: [Int8], row: CodeRow) {
    var codes = [Int8](repeating: 7, count: count)
    let result = row.withUnsafeBufferPointer { row in
      codes.withUnsafeMutableBufferPointer { quantizeDynamically(row, bits: bits, into: $0) }
    }
    return (codes, result)
  }

  func quantizeAsymmetrically(
    _ row: [Float], bits: Int, paddedTo count: Int
  ) -> (codes: [Int8], row: OffsetCodeRow) {
    var codes = [Int8](repeating: 7, count: count)
    let result = row.withUnsafeBufferPointer { row in
      codes.withUnsafeMutableBufferPointer { quantizeAsymmetrically(row, bits: bits, into: $0) }
    }
    return (codes, result)
  }

  func splitDigits(
    _ row: [Float], stride: Int
  ) -> (digits: [Int8], sums: [Int32], scale: Float) {
    var digits = [Int8](repeating: 7, count: 3 * stride)
    var sums: [Int32] = [7, 7, 7]
    let scale = row.withUnsafeBufferPointer { row in
      digits.withUnsafeMutableBufferPointer { digits in
        sums.withUnsafeMutableBufferPointer {
          splitDigits(row, into: digits, stride: stride, sums: $0)
        }
      }
    }
    return (digits, sums, scale)
  }

  func rotate(_ row: [Float], headSize: Int, cosines: [Float], sines: [Float]) -> [Float] {
    var result = row
    result.withUnsafeMutableBufferPointer { result in
      cosines.withUnsafeBufferPointer { cosines in
        sines.withUnsafeBufferPointer {
          rotate(result, headSize: headSize, cosines: cosines, sines: $0)
        }
      }
    }
    return result
  }
}

/// An epilogue and all that it reads.
struct EpilogueCase {
  var products: [Int32]
  var productStride: Int
  var codeSums: [Int32]
  var scales: [Float]
  var zeroPoints: [Int32]
  var tokenScales: [Float]?
  var tokenZeros: [Int32]?
  var weightSums: [Int32]
  var bias: [Float]?
  var rowCount: Int
  var hasDigits: Bool
  var accumulates: Bool
  var isLast: Bool
  var target: [Float]
  var targetStride: Int

  init(rowCount: Int, channelCount: Int, hasDigits: Bool, using generator: inout SeededGenerator) {
    let productRowCount = rowCount * (hasDigits ? 3 : 1)
    productStride = channelCount + Int.random(in: 0...5, using: &generator)
    targetStride = channelCount + Int.random(in: 0...5, using: &generator)
    func integers(_ count: Int, _ bound: Int32) -> [Int32] {
      (0..<count).map { _ in Int32.random(in: -bound...bound, using: &generator) }
    }
    func floats(_ count: Int) -> [Float] {
      (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
    }
    products = integers(productRowCount * productStride, 1 << 30)
    codeSums = integers(productRowCount, 1 << 20)
    scales = floats(channelCount)
    zeroPoints = integers(channelCount, 255).map(abs)
    tokenScales = Bool.random(using: &generator) ? floats(rowCount) : nil
    tokenZeros = !hasDigits && Bool.random(using: &generator) ? integers(rowCount, 128) : nil
    weightSums = integers(channelCount, 1 << 24)
    bias = Bool.random(using: &generator) ? floats(channelCount).map { $0 * 1e6 } : nil
    accumulates = Bool.random(using: &generator)
    isLast = Bool.random(using: &generator)
    target = floats(rowCount * targetStride).map { $0 * 1e6 }
    self.rowCount = rowCount
    self.hasDigits = hasDigits
  }

  func result(of kernels: Kernels) -> [Float] {
    var target = target
    target.withUnsafeMutableBufferPointer { target in
      products.withUnsafeBufferPointer { products in
        codeSums.withUnsafeBufferPointer { codeSums in
          scales.withUnsafeBufferPointer { scales in
            zeroPoints.withUnsafeBufferPointer { zeroPoints in
              (tokenScales ?? []).withUnsafeBufferPointer { tokenScales in
                (bias ?? []).withUnsafeBufferPointer { bias in
                  (tokenZeros ?? []).withUnsafeBufferPointer { tokenZeros in
                    weightSums.withUnsafeBufferPointer { weightSums in
                      var epilogue = Epilogue(
                        .integers(products: products, codeSums: codeSums, zeroPoints: zeroPoints),
                        productStride: productStride, scales: scales,
                        tokenScales: self.tokenScales == nil ? nil : tokenScales,
                        bias: self.bias == nil ? nil : bias, rowCount: rowCount, target: target,
                        targetStride: targetStride)
                      if self.tokenZeros != nil { epilogue.offsets = (zeros: tokenZeros, weightSums: weightSums) }
                      epilogue.hasDigits = hasDigits
                      epilogue.accumulates = accumulates
                      epilogue.isLast = isLast
                      kernels.finish(epilogue)
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
    return target
  }
}
