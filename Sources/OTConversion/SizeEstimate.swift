import OTContainer
import OTTensor

/// The size of a planned file, from shapes alone.
package struct SizeEstimate: Sendable {
  /// Bytes of the source's tensors.
  package let sourceByteCount: Int
  /// Bytes of the file, as far as can be told before compression.
  package let storedByteCount: Int
  /// Bytes of the file that it will hardly stay below.
  package let leastStoredByteCount: Int
  /// Bytes of packed weights and everything else, once loaded.
  package let loadedByteCount: Int

  /// Bits that zstd leaves of a code: what quantized weights of real models
  /// carry (per channel, measured: 5.4 of 6 and 7.4 of 8 asymmetric, 5.2 and
  /// 7.25 symmetric).
  static func expectedBits(_ scheme: QuantizationScheme) -> Double {
    Double(scheme.bits) - (scheme.isSymmetric ? 0.8 : 0.6)
  }
}

extension PlannedTensor {
  /// Bytes of the source.
  package var sourceByteCount: Int { view?.byteCount ?? 0 }

  /// Bytes in the file: expected with zstd, exact without.
  package func storedByteCount(_ compression: Compression) -> Int {
    switch treatment {
    case .alias: return 0
    case .quantized(let scheme):
      let layout = TileLayout(rowCount: shape.rowCount, columnCount: shape.rowElementCount)
      let steps = scheme.scaleCount(rowCount: layout.rowCount, columnCount: layout.columnCount)
      let stepBytes = steps * (scheme.isSymmetric ? 4 : 5)
      if case .none = compression { return layout.packedByteCount(bits: scheme.bits) + stepBytes }
      return Int(Double(shape.elementCount) * SizeEstimate.expectedBits(scheme) / 8) + stepBytes
    default: return (plainType?.byteCount(elementCount: shape.elementCount)) ?? 0
    }
  }
}

extension ConversionPlan {
  /// The size of the file.
  package var estimate: SizeEstimate {
    let stored = tensors.reduce(0) { $0 + $1.storedByteCount(options.compression) }
    let loaded = tensors.reduce(0) { $0 + $1.storedByteCount(.none) }
    return SizeEstimate(
      sourceByteCount: checkpoint.tensors.reduce(0) { $0 + $1.byteCount }, storedByteCount: stored,
      leastStoredByteCount: options.compression == .none ? stored : stored / 10 * 7, loadedByteCount: loaded)
  }
}
