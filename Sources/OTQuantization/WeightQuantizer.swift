import OTFoundation
import OTKernels
import OTModel
import OTTensor

/// Quantizes a weight `[out, in]` some rows at a time, after a transform.
///
/// Steps are chosen for each row or group, then the rounding makes the row quantized values. Rows can
/// be quantized in any order and on several threads; the result is the same. No memory is kept
/// between calls, and the source's pages that `quantize` reads are left to the caller to release.
package struct WeightQuantizer: Sendable {
  /// The scheme of the weights.
  package let scheme: QuantizationScheme
  /// The rule that makes weights quantized values.
  package let rounding: any WeightRounding
  let rows: TransformedRows
  /// The code of 0 of what the weight multiplies: `ActivationQuantization.static`.
  let inputZero: Int
  /// The one choice for the whole weight, when the scheme is per tensor.
  let tensorStep: StepChoice?

  /// Rows of the weight.
  package var rowCount: Int { rows.view.shape.rowCount }
  /// Weights of a row.
  package var columnCount: Int { rows.rowElementCount }

  /// Rows that are read, transformed and rounded together.
  private var rowsAtATime: Int { max(1, rounding.rowsAtATime) }

  /// Per tensor, reads the whole weight once to find its range, releasing the
  /// source's pages as it goes.
  ///
  /// - Throws: `Refusal` with rule `weight-not-matrix`, and per
  ///   tensor as `quantize(rows:)`.
  package init(
    _ rows: TransformedRows, scheme: QuantizationScheme, rounding: any WeightRounding = NearestRounding(),
    inputZero: Int = 0, threadCount: Int = 1
  ) throws {
    self.rows = rows
    self.inputZero = inputZero
    let view = rows.view
    guard view.shape.rank == 2 else {
      throw Refusal(
        "weight-not-matrix", "shape \(view.shape) is not [out, in]",
        file: view.file.path, tensor: view.name)
    }
    self.scheme = scheme
    self.rounding = rounding
    tensorStep =
      scheme.granularity == .perTensor
      ? try WeightQuantizer.tensorStep(of: rows, scheme: scheme, threadCount: threadCount) : nil
  }

  /// Quantizes some rows.
  ///
  /// - Precondition: The rows are the weight's.
  /// - Throws: `Refusal` with rule `weight-not-finite` for NaN or infinity in the
  ///   source, `weight-overflow` when the transform makes one, `weight-range`
  ///   when a scale would not be finite.
  package func quantize(rows range: Range<Int>) throws -> QuantizedRows {
    precondition(range.lowerBound >= 0 && range.upperBound <= rowCount)
    var result = QuantizedRows(rows: range)
    let groupCount = scheme.groupCount(columnCount: columnCount)
    result.scales.reserveCapacity(range.count * groupCount)
    if !scheme.isSymmetric { result.zeroPoints.reserveCapacity(range.count * groupCount) }
    if rows.input.shift != nil { result.shiftProduct = [] }
    let atATime = min(rowsAtATime, range.count)
    let scratch = UnsafeMutableBufferPointer<Float>.allocate(capacity: atATime * columnCount)
    defer { scratch.deallocate() }
    let byteCount = range.count * columnCount
    result.values = try [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, initializedCount in
      for first in stride(from: range.lowerBound, to: range.upperBound, by: rowsAtATime) {
        let part = first..<min(first + rowsAtATime, range.upperBound)
        let start = (first - range.lowerBound) * columnCount
        try quantize(
          part, UnsafeMutableBufferPointer(rebasing: scratch[..<(part.count * columnCount)]),
          into: UnsafeMutableBufferPointer(rebasing: buffer[start..<start + part.count * columnCount]), &result)
      }
      initializedCount = byteCount
    }
    if let tensorStep, range.lowerBound == 0 { append(tensorStep, to: &result) }
    return result
  }
}

// MARK: - Rows

extension WeightQuantizer {
  private func append(_ step: StepChoice, to result: inout QuantizedRows) {
    result.scales.append(step.scale)
    if !scheme.isSymmetric { result.zeroPoints.append(UInt8(step.zeroPoint)) }
  }

  private func quantize(
    _ part: Range<Int>, _ scratch: UnsafeMutableBufferPointer<Float>, into values: UnsafeMutableBufferPointer<UInt8>,
    _ result: inout QuantizedRows
  ) throws {
    func row<Element>(_ index: Int, of buffer: UnsafeMutableBufferPointer<Element>)
      -> UnsafeMutableBufferPointer<Element>
    {
      UnsafeMutableBufferPointer(rebasing: buffer[index * columnCount..<(index + 1) * columnCount])
    }
    let start = ContinuousClock.now
    rows.readOriginal(rows: part, into: scratch)
    let readEnd = ContinuousClock.now
    var products: [Float] = []
    for index in 0..<part.count {
      let weights = row(index, of: scratch)
      if let product = rows.shiftProduct(UnsafeBufferPointer(weights)) { products.append(product) }
      rows.applyTransform(row: part.lowerBound + index, weights)
    }
    let transformEnd = ContinuousClock.now
    let limits = rounding.limits(
      WeightRows(
        rowCount: part.count, columnCount: columnCount, values: UnsafeBufferPointer(scratch), scheme: scheme,
        kernels: rows.kernels))
    let groupCount = scheme.groupCount(columnCount: columnCount)
    var steps: [StepChoice] = []
    for index in 0..<part.count {
      steps += try chooseSteps(
        row: part.lowerBound + index, UnsafeBufferPointer(row(index, of: scratch)),
        limits?[index * groupCount..<(index + 1) * groupCount])
    }
    for step in steps { append(step, to: &result) }
    let block = WeightBlock(
      firstRow: part.lowerBound, rowCount: part.count, columnCount: columnCount, weights: scratch,
      steps: tensorStep.map { [$0] } ?? steps, groupSize: scheme.groupSize(columnCount: columnCount), scheme: scheme,
      kernels: rows.kernels)
    // Rounding may change the weights.
    let sums = inputZero == 0 ? [] : (0..<part.count).map { row($0, of: scratch).reduce(0) { $0 + Double($1) } }
    rounding.round(block, into: values, addingErrorTo: &result.statistics)
    for index in products.indices {
      let number = part.lowerBound + index
      if inputZero != 0 {
        let lost = sums[index] - block.sum(ofRow: index, row(index, of: values))
        products[index] += Float(Double(inputZero) * lost) * (rows.output.scale?[number] ?? 1)
      }
      // After the weights, so that a weight that is not finite is named itself.
      if !products[index].isFinite { throw shiftRefusal(row: number) }
    }
    result.shiftProduct?.append(contentsOf: products)
    result.times.read += start.duration(to: readEnd)
    result.times.transform += readEnd.duration(to: transformEnd)
    result.times.quantize += transformEnd.duration(to: .now)
  }

  /// A step for each group of a row; none where one is for the whole weight.
  private func chooseSteps(
    row: Int, _ weights: UnsafeBufferPointer<Float>, _ limits: ArraySlice<Float>?
  ) throws -> [StepChoice] {
    guard tensorStep == nil else { return [] }
    let size = scheme.groupSize(columnCount: columnCount)
    return try (0..<scheme.groupCount(columnCount: columnCount)).map { group in
      let first = group * size
      let values = weights[first..<min(first + size, weights.count)]
      return try chooseStep(
        row: row, column: first, UnsafeBufferPointer(rebasing: values),
        limit: limits.map { $0[$0.startIndex + group] } ?? .infinity)
    }
  }
}

// MARK: - Ranges

extension WeightQuantizer {
  /// Chooses for the weights of a row from `column` on, those beyond ±`limit` left out.
  private func chooseStep(
    row: Int, column: Int, _ values: UnsafeBufferPointer<Float>, limit: Float
  ) throws -> StepChoice {
    let range = rows.kernels.range(values)
    if let index = range.firstNonFinite {
      throw rows.nonFiniteRefusal(row: row, column: column + index)
    }
    guard
      let step = StepChoice(
        minimum: max(range.minimum, -limit), maximum: min(range.maximum, limit), scheme: scheme)
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
