import OTContainer

/// The size of a planned file, from shapes alone.
package struct SizeEstimate: Sendable {
  /// Bytes of the source's tensors.
  package let sourceByteCount: Int
  /// Bytes of the file, as far as can be told before compression.
  package let storedByteCount: Int
  /// Bytes of packed weights and everything else, once loaded.
  package let loadedByteCount: Int
}

extension PlannedTensor {
  /// Bytes of the source, as floats where they are decoded.
  package var sourceByteCount: Int { view?.byteCount ?? 0 }
  /// Bytes that are read of the source, about.
  var readByteCount: Int { view?.storedByteCount ?? 0 }

  /// Bytes in the file: expected with zstd, exact without.
  package func storedByteCount(_ compression: Compression) -> Int { exported.storedByteCount(compression) }
}

extension ConversionPlan {
  /// Bytes of the source's tensors.
  var sourceByteCount: Int { checkpoint.tensors.reduce(0) { $0 + $1.byteCount } }

  /// The size of the file.
  package var estimate: SizeEstimate {
    let stored = tensors.reduce(0) { $0 + $1.storedByteCount(options.compression) }
    let loaded = tensors.reduce(0) { $0 + $1.storedByteCount(.none) }
    return SizeEstimate(
      sourceByteCount: sourceByteCount, storedByteCount: stored, loadedByteCount: loaded)
  }
}
