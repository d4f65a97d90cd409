import Foundation
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTQuantization
import OTTensor
import _OTTestSupport

/// A tensor in a file of its own, for as long as `body` runs.
///
/// Elements begin at byte 3, so that nothing can rely on alignment.
func withWeight<Result>(
  _ values: [Double], shape: [Int], strides: [Int]? = nil, type: ElementType = .f32,
  _ body: (TensorView) throws -> Result
) throws -> Result {
  try withTemporaryFolder { folder in
    var data = Data([1, 2, 3])
    for value in values {
      let bits: UInt64 =
        switch type {
        case .f64: value.bitPattern
        case .f32: UInt64(Float(value).bitPattern)
        case .bf16: UInt64(Float(value).bitPattern >> 16)
        default: UInt64(Kernels.halfBits(Float(value)))
        }
      for byte in 0..<type.bitWidth / 8 {
        data.append(UInt8(truncatingIfNeeded: bits >> (byte * 8)))
      }
    }
    let path = folder + "/weight"
    try data.write(to: URL(fileURLWithPath: path))
    let view = TensorView(
      name: "layer.weight", elementType: type, shape: Shape(shape)!, strides: strides,
      file: try MappedFile(path: path), byteOffset: 3)
    return try body(view)
  }
}

extension Kernels {
  fileprivate static func halfBits(_ value: Float) -> UInt16 {
    var bits: UInt16 = 0
    withUnsafeMutableBytes(of: &bits) { target in
      withUnsafePointer(to: value) {
        Kernels(.scalar)!.convert(UnsafeBufferPointer(start: $0, count: 1), to: .f16, into: target)
      }
    }
    return UInt16(littleEndian: bits)
  }
}

extension TransformedRows {
  func read(_ rows: Range<Int>) throws -> [Float] {
    var result = [Float](repeating: 7, count: rows.count * rowElementCount)
    result.withUnsafeMutableBufferPointer { read(rows: rows, into: $0) }
    return result
  }
}

extension WeightQuantizer {
  func quantizeAll() throws -> QuantizedRows { try quantize(rows: 0..<rowCount) }
}

/// Values that float16 and bfloat16 hold exactly.
func randomWeights(_ count: Int, using generator: inout SeededGenerator) -> [Double] {
  (0..<count).map { _ in
    let exponent = Int.random(in: -9...0, using: &generator)
    return Double(Int.random(in: -127...127, using: &generator)) / 128
      * Double(sign: .plus, exponent: exponent, significand: 1)
  }
}

/// What is done to a weight in a test: diag(1 / rowScale) · W · diag(columnScale).
struct WeightTransform: Sendable {
  var columnScale: [Float]?
  var columnShift: [Float]?
  var rowScale: [Float]?

  static let identity = WeightTransform()
}

extension TransformedRows {
  init(view: TensorView, transform: WeightTransform, kernels: Kernels = .current) throws {
    try self.init(
      view: view, input: ChannelTransform(shift: transform.columnShift, scale: transform.columnScale),
      output: ChannelTransform(scale: transform.rowScale), kernels: kernels)
  }
}

extension WeightQuantizer {
  init(
    view: TensorView, scheme: QuantizationScheme, transform: WeightTransform = .identity, threadCount: Int = 1,
    kernels: Kernels = .current
  ) throws {
    try self.init(
      TransformedRows(view: view, transform: transform, kernels: kernels), scheme: scheme, threadCount: threadCount)
  }
}
