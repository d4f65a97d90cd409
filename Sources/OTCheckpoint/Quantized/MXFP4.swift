import OTFoundation
import OTJSON
import OTTensor

/// Stacks of experts in MXFP4, as GPT-OSS has them.
///
/// `<name>_blocks` is `[experts, out, blocks, 16]` bytes, two E2M1 each, the first in the low half; `<name>_scales` is
/// `[experts, out, blocks]`, E8M0. They stand for `<name>`, `[experts, in, out]`: transposed, as the model has it.
struct MXFP4Scheme: QuantizedScheme {
  /// Weights that share a scale.
  private static let blockSize = 32

  init?(_ statement: QuantizationStatement) throws {
    guard statement.method == "mxfp4" else { return nil }
  }

  var name: String { "MXFP4" }
  var parts: [String] { ["blocks", "scales"] }
  var separator: String { "_" }

  func weight(of module: QuantizedModule) throws -> TensorView? {
    let blocks = try module.required("blocks", .u8)
    let scales = try module.required("scales", .u8, .f8e8m0)
    let sizes = blocks.shape.dimensions
    guard sizes.count == 4, sizes[3] == MXFP4Scheme.blockSize / 2 else {
      throw module.refusal("quantized-shape", "is \(blocks.shape), not [experts, out, blocks, 16]", "blocks")
    }
    try module.check("scales", is: Array(sizes[..<3]))
    let columnCount = sizes[2].multipliedChecked(by: MXFP4Scheme.blockSize) ?? 0
    let matrix = try module.shape(sizes[1], columnCount, "blocks")
    guard sizes[0] > 0, let shape = Shape([sizes[0], columnCount, sizes[1]]) else {
      throw module.refusal("quantized-shape", "gives \(sizes[0]) weights \(matrix)", "blocks")
    }
    let size = MemoryLayout<Float>.stride
    let experts = (0..<sizes[0]).compactMap { index -> TransposedRows? in
      guard let codes = blocks.element(index), let scales = scales.element(index) else { return nil }
      return TransposedRows(
        base: ScaledRows(
          codes: .e2m1, view: codes, columnCount: columnCount,
          scales: ScaleGrid(view: scales, rowsPerScale: 1, columnsPerScale: MXFP4Scheme.blockSize)),
        rowCount: sizes[1], columnCount: columnCount, elementByteCount: size)
    }
    return TensorView(
      decoded: module.name, shape: shape,
      by: StackedRows(experts, rowCount: columnCount, byteCount: matrix.elementCount * size), file: blocks.file,
      byteOffset: blocks.byteOffset)
  }
}
