import OTContainer
import OTTensor

/// A quantized weight in memory that comes from no file.
package struct QuantizedWeight: Sendable {
  let matrix: PackedMatrix

  /// A weight of quantized values.
  ///
  /// - Parameters:
  ///   - tiles: one value to a byte in the order of `TileLayout`, each of the scheme's.
  ///   - scales: one for each row, group or the tensor.
  ///   - zeroPoints: one beside each scale; empty where the scheme is symmetric.
  /// - Throws: `Refusal` with rule `memory`.
  package init(
    tiles: [UInt8], layout: TileLayout, scheme: QuantizationScheme, scales: [Float], zeroPoints: [UInt8]
  ) throws {
    let points =
      scheme.isSymmetric ? scales.map { _ in Int32(scheme.symmetricZeroPoint) } : zeroPoints.map { Int32($0) }
    matrix = PackedMatrix(
      layout, scheme, scales: scales, zeroPoints: points,
      codes: try PackedCodes(tiles: tiles, layout: layout, bits: scheme.bits))
  }
}
