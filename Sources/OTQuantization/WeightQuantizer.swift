import OTFoundation
import OTKernels
import OTModel
import OTTensor

/// Some row tiles of a quantized weight.
///
/// The blocks of all row tiles, put one after another, are the whole weight.
package struct QuantizedBlock: Sendable {
  /// The row tiles that it has.
  package let rowTiles: Range<Int>
  /// One code to a byte in the order of `TileLayout`; padding is 0.
  package let codes: [UInt8]
  /// Steps of the block's rows, `[row, group]`. Per tensor, the one step is in
  /// the block that begins with row tile 0, and the others have none.
  package let scales: [Float]
  /// Zero points beside the scales; empty when the scheme is symmetric.
  package let zeroPoints: [UInt8]
  /// W·columnShift of the block's rows of the original weight, where the
  /// transform has a shift.
  package let shiftProduct: [Float]?
  /// What quantizing them lost.
  package let statistics: ErrorStatistics
  /// Where the time went.
  package let times: QuantizationTimes
}

/// Quantizes a weight `[out, in]` row tile by row tile, after a transform.
///
/// Codes are `clamp(round(w / scale) + zeroPoint)` of the scheme's codes, in
/// float32 with one rounding per operation, ties to even. Row tiles can be
/// quantized in any order and on several threads; the result is the same. No
/// memory is kept between calls, and the source's pages that `quantize` reads
/// are left to the caller to release.
package struct WeightQuantizer: Sendable {
  /// How weights are made integer.
  package let scheme: QuantizationScheme
  /// Where each code goes.
  package let layout: TileLayout
  let rows: TransformedRows
  /// The one choice for the whole weight, when the scheme is per tensor.
  let tensorStep: StepChoice?

  /// Row tiles of the weight.
  package var rowTileCount: Int { layout.rowTileCount }

  /// Per tensor, reads the whole weight once to find its range, releasing the
  /// source's pages as it goes.
  ///
  /// - Throws: `Refusal` with rule `weight-not-matrix`, and per
  ///   tensor as `quantize(rowTiles:)`.
  package init(
    _ rows: TransformedRows, scheme: QuantizationScheme, threadCount: Int = 1
  ) throws {
    self.rows = rows
    let view = rows.view
    guard view.shape.rank == 2 else {
      throw Refusal(
        "weight-not-matrix", "shape \(view.shape) is not [out, in]",
        file: view.file.path, tensor: view.name)
    }
    self.scheme = scheme
    layout = TileLayout(rowCount: view.shape.rowCount, columnCount: view.shape.rowElementCount)
    tensorStep =
      scheme.granularity == .perTensor
      ? try WeightQuantizer.tensorStep(of: rows, scheme: scheme, threadCount: threadCount) : nil
  }

  /// Quantizes row tiles `rowTiles`: 16 rows each, the last perhaps fewer.
  ///
  /// - Precondition: The row tiles are the weight's.
  /// - Throws: `Refusal` with rule `weight-not-finite` for NaN or infinity in the
  ///   source, `weight-overflow` when the transform makes one, `weight-range`
  ///   when a scale would not be finite.
  package func quantize(rowTiles: Range<Int>) throws -> QuantizedBlock {
    precondition(rowTiles.lowerBound >= 0 && rowTiles.upperBound <= rowTileCount)
    let rowRange = layout.rows(of: rowTiles)
    var parts = BlockParts(rowCount: max(rowRange.count, 0), quantizer: self)
    let scratch = Scratch(layout: layout)
    defer { scratch.deallocate() }
    let byteCount = rowTiles.count * layout.rowTileByteCount
    let codes = try [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, initializedCount in
      for tile in rowTiles {
        try quantize(rowTile: tile, with: scratch, into: &parts)
        let clock = ContinuousClock.now
        defer { parts.times.quantize += clock.duration(to: .now) }
        let start = (tile - rowTiles.lowerBound) * layout.rowTileByteCount
        rows.kernels.interleave(
          UnsafeBufferPointer(scratch.codes),
          into: UnsafeMutableBufferPointer(
            rebasing: buffer[start..<start + layout.rowTileByteCount]))
      }
      initializedCount = byteCount
    }
    if let tensorStep, rowTiles.lowerBound == 0 { parts.append(tensorStep) }
    return QuantizedBlock(
      rowTiles: rowTiles, codes: codes, scales: parts.scales, zeroPoints: parts.zeroPoints,
      shiftProduct: parts.shiftProduct, statistics: parts.statistics, times: parts.times)
  }
}

// MARK: - One row tile

extension WeightQuantizer {
  /// What a block gathers beside its codes.
  private struct BlockParts {
    var scales: [Float] = []
    var zeroPoints: [UInt8] = []
    var shiftProduct: [Float]?
    var statistics = ErrorStatistics()
    var times = QuantizationTimes()
    let storesZeroPoints: Bool

    init(rowCount: Int, quantizer: WeightQuantizer) {
      storesZeroPoints = !quantizer.scheme.isSymmetric
      let groupCount = quantizer.scheme.groupCount(columnCount: quantizer.layout.columnCount)
      scales.reserveCapacity(rowCount * groupCount)
      if storesZeroPoints { zeroPoints.reserveCapacity(rowCount * groupCount) }
      if quantizer.rows.input.shift != nil { shiftProduct = [] }
    }

    mutating func append(_ step: StepChoice) {
      scales.append(step.scale)
      if storesZeroPoints { zeroPoints.append(UInt8(step.zeroPoint)) }
    }
  }

  /// Memory for one row tile, used again for the next.
  private struct Scratch {
    /// `[16, columnCount]`, or as many rows as there are.
    let values: UnsafeMutableBufferPointer<Float>
    /// `[16, paddedColumnCount]`; padding columns stay 0.
    let codes: UnsafeMutableBufferPointer<UInt8>

    init(layout: TileLayout) {
      values = .allocate(capacity: min(16, layout.rowCount) * layout.columnCount)
      codes = .allocate(capacity: layout.rowTileByteCount)
      codes.initialize(repeating: 0)
    }

    func deallocate() {
      values.deallocate()
      codes.deallocate()
    }
  }

  private func quantize(rowTile: Int, with scratch: Scratch, into parts: inout BlockParts) throws {
    let tileRows = layout.rows(of: rowTile..<rowTile + 1)
    let columnCount = layout.columnCount
    let padded = layout.paddedColumnCount
    func row(_ index: Int) -> UnsafeMutableBufferPointer<Float> {
      UnsafeMutableBufferPointer(rebasing: scratch.values[index * columnCount..<(index + 1) * columnCount])
    }
    let start = ContinuousClock.now
    rows.readOriginal(
      rows: tileRows,
      into: UnsafeMutableBufferPointer(rebasing: scratch.values[..<(tileRows.count * columnCount)]))
    let readEnd = ContinuousClock.now
    var products: [Float] = []
    for (index, tileRow) in tileRows.enumerated() {
      if let product = rows.shiftProduct(UnsafeBufferPointer(row(index))) { products.append(product) }
      rows.applyTransform(row: tileRow, row(index))
    }
    let transformEnd = ContinuousClock.now
    for (index, tileRow) in tileRows.enumerated() {
      let codes = UnsafeMutableBufferPointer(
        rebasing: scratch.codes[index * padded..<index * padded + columnCount])
      try quantize(row: tileRow, UnsafeBufferPointer(row(index)), into: codes, &parts)
      // After the weights, so that a weight that is not finite is named itself.
      if index < products.count, !products[index].isFinite { throw shiftRefusal(row: tileRow) }
    }
    parts.shiftProduct?.append(contentsOf: products)
    parts.times.read += start.duration(to: readEnd)
    parts.times.transform += readEnd.duration(to: transformEnd)
    parts.times.quantize += transformEnd.duration(to: .now)
    // Padding rows of the last tile, over what the tile before has left.
    UnsafeMutableBufferPointer(rebasing: scratch.codes[(tileRows.count * padded)...]).update(
      repeating: 0)
  }

  private func quantize(
    row: Int, _ values: UnsafeBufferPointer<Float>, into codes: UnsafeMutableBufferPointer<UInt8>,
    _ parts: inout BlockParts
  ) throws {
    guard case .perGroup(let size) = scheme.granularity else {
      let step = try tensorStep ?? chooseStep(row: row, column: 0, values)
      if tensorStep == nil { parts.append(step) }
      quantize(values, step, into: codes, &parts)
      return
    }
    for start in stride(from: 0, to: values.count, by: size) {
      let group = start..<min(start + size, values.count)
      let groupValues = UnsafeBufferPointer(rebasing: values[group])
      let step = try chooseStep(row: row, column: start, groupValues)
      parts.append(step)
      quantize(groupValues, step, into: UnsafeMutableBufferPointer(rebasing: codes[group]), &parts)
    }
  }

  private func quantize(
    _ values: UnsafeBufferPointer<Float>, _ step: StepChoice,
    into codes: UnsafeMutableBufferPointer<UInt8>, _ parts: inout BlockParts
  ) {
    let error = rows.kernels.quantize(
      values, scale: step.scale, zeroPoint: step.zeroPoint,
      codes: scheme.minimumCode...scheme.maximumCode, into: codes)
    parts.statistics.squaredError += error.squaredError
    parts.statistics.squares += error.squares
    parts.statistics.maximumErrorInSteps = max(
      parts.statistics.maximumErrorInSteps, error.maximum / step.scale)
    parts.statistics.count += values.count
  }
}

// MARK: - Ranges

extension WeightQuantizer {
  /// Chooses for the weights of a row from `column` on.
  private func chooseStep(row: Int, column: Int, _ values: UnsafeBufferPointer<Float>) throws
    -> StepChoice
  {
    let range = rows.kernels.range(values)
    if let index = range.firstNonFinite {
      throw rows.nonFiniteRefusal(row: row, column: column + index)
    }
    guard let step = StepChoice(minimum: range.minimum, maximum: range.maximum, scheme: scheme)
    else {
      throw WeightQuantizer.rangeRefusal(rows, range, place: "row \(row)")
    }
    return step
  }

  private static func tensorStep(
    of rows: TransformedRows, scheme: QuantizationScheme, threadCount: Int
  ) throws -> StepChoice {
    let rowCount = rows.view.shape.rowCount
    let columnCount = rows.rowElementCount
    // About a megabyte of floats at a time, whatever the shape.
    let blockRowCount = max(1, 262_144 / max(columnCount, 1))
    let blockCount = (rowCount + blockRowCount - 1) / blockRowCount
    let ranges = try mapBlocks(blockCount, threadCount: threadCount) { block in
      let blockRows = block * blockRowCount..<min((block + 1) * blockRowCount, rowCount)
      let values = UnsafeMutableBufferPointer<Float>.allocate(
        capacity: blockRows.count * columnCount)
      defer { values.deallocate() }
      rows.read(rows: blockRows, into: values)
      rows.view.release(blockRows)
      let range = rows.kernels.range(UnsafeBufferPointer(values))
      if let index = range.firstNonFinite {
        throw rows.nonFiniteRefusal(
          row: blockRows.lowerBound + index / columnCount, column: index % columnCount)
      }
      return range
    }
    let range = Kernels.RowRange(
      minimum: ranges.map(\.minimum).min() ?? 0, maximum: ranges.map(\.maximum).max() ?? 0,
      firstNonFinite: nil)
    guard let step = StepChoice(minimum: range.minimum, maximum: range.maximum, scheme: scheme)
    else {
      throw rangeRefusal(rows, range, place: "the weight")
    }
    return step
  }

  private static func rangeRefusal(
    _ rows: TransformedRows, _ range: Kernels.RowRange, place: String
  ) -> Refusal {
    Refusal(
      "weight-range",
      "\(place) reaches from \(range.minimum) to \(range.maximum), too wide for float32",
      file: rows.view.file.path, tensor: rows.view.name)
  }

  private func shiftRefusal(row: Int) -> Refusal {
    Refusal(
      "weight-overflow", "row \(row) times the shift does not fit float32",
      file: rows.view.file.path, tensor: rows.view.name)
  }
}
