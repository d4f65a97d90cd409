import OTContainer
import OTFoundation
import OTGraph
import OTModel
import OTQuantization
import OTTensor

/// The rows of a packed model's tensors as floats, with transforms undone where asked for.
final class PackedRows: Sendable {
  private let file: PackedModel
  private let isRestored: Bool
  /// Scales and zero points of the tensors that are read just now.
  private let scales = Lock<[(name: String, scales: [Float], zeroPoints: [UInt8])]>([])

  init(_ file: PackedModel, isRestored: Bool) {
    self.file = file
    self.isRestored = isRestored
  }

  /// The ranges of rows in which a tensor is best read, one at least.
  func blocks(of tensor: ExportedTensor, rowsPerBlock: Int) -> [Range<Int>] {
    let rowCount = tensor.shape.rowCount
    // Of rows without elements there may be as many as an Int can count.
    guard tensor.shape.elementCount > 0 else { return [0..<0] }
    var step = rowsPerBlock
    if case .quantized(_, _, let rowTilesPerChunk)? = file.container[tensor.name]?.content {
      step = min(rowTilesPerChunk, tensor.shape.rowCount) * TileLayout.tileRowCount
    } else if tensor.shape.rank < 2 {
      step = rowCount
    }
    return stride(from: 0, to: rowCount, by: step).map { $0..<min($0 + step, rowCount) }
  }

  /// Calls `body` with rows of a tensor as elements of the type that the writer wants.
  ///
  /// - Throws: `Refusal` with a rule `otq-…` or `value-overflow`; what `body` throws.
  func withBytes<Result>(
    of tensor: ExportedTensor, _ rows: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    guard let type = tensor.plainType, let stored = file.container[tensor.name] else {
      throw Refusal("otq-tensor", "is not in the file", file: file.path, tensor: tensor.name)
    }
    guard !rows.isEmpty else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
    let isStored = isRestored ? tensor.use?.isUnchanged ?? true : tensor.constant == 0
    if case .plain(type) = stored.content, isStored {
      return try file.container.values(of: stored, rows: rows).withUnsafeBytes(body)
    }
    var values = try floats(of: stored, tensor.use, rows)
    // Restoring has taken it away.
    if !isRestored, tensor.constant != 0 { values = values.map { $0 - tensor.constant } }
    return try FloatBytes.with(
      values, as: type, of: tensor.source?.name ?? tensor.name, in: file.path,
      remedy: nil, body)
  }

  /// Rows of a tensor as the quantized values that the file has.
  ///
  /// - Throws: `Refusal` with a rule `otq-…`.
  func quantized(of tensor: ExportedTensor, _ range: Range<Int>) throws -> QuantizedRows {
    guard let stored = file.container[tensor.name], let scheme = stored.scheme, scheme == tensor.scheme else {
      throw Refusal("otq-tensor", "is not in the file", file: file.path, tensor: tensor.name)
    }
    var rows = QuantizedRows(rows: range)
    guard !range.isEmpty else { return rows }
    let (scales, zeroPoints) = try scales(of: stored)
    let tile = TileLayout.tileRowCount
    rows.values = try file.container.rowMajorCodes(
      of: stored, rowTiles: range.lowerBound / tile..<(range.upperBound + tile - 1) / tile)
    let groupCount = scheme.groupCount(columnCount: tensor.shape.rowElementCount)
    let own =
      scheme.granularity == .perTensor
      ? 0..<(range.lowerBound == 0 ? 1 : 0) : range.lowerBound * groupCount..<range.upperBound * groupCount
    rows.scales = Array(scales[own])
    if !scheme.isSymmetric { rows.zeroPoints = Array(zeroPoints[own]) }
    return rows
  }

  private func floats(of stored: StoredTensor, _ use: ParameterUse?, _ rows: Range<Int>) throws -> [Float] {
    var values: [Float]
    if stored.scheme != nil {
      let (scales, zeroPoints) = try scales(of: stored)
      let tile = TileLayout.tileRowCount
      values = try file.container.dequantized(
        stored, rowTiles: rows.lowerBound / tile..<(rows.upperBound + tile - 1) / tile, scales: scales,
        zeroPoints: zeroPoints)
    } else {
      values = try file.container.floats(of: stored, rows: rows)
    }
    guard isRestored, let use else { return values }
    let product = try use.role == .bias ? use.input.shift.map { try shiftProduct(of: use, $0, rows) } : nil
    ParameterReader.restore(use, firstRow: rows.lowerBound, &values, shiftProduct: product)
    return values
  }

  /// Ŵ·z of rows of the weights that are written.
  private func shiftProduct(of bias: ParameterUse, _ shift: [Float], _ rows: Range<Int>) throws -> [Float] {
    guard let weight = file.container[bias.weightOutputName] else {
      throw Refusal("otq-graph", "the weight beside this bias is missing", file: file.path, tensor: bias.outputName)
    }
    let use = file.uses[bias.weightOutputName]
    var products: [Float] = []
    // Whole row tiles, about a megabyte of floats.
    let step = max(1, (1 << 14) / max(shift.count, 1)) * TileLayout.tileRowCount
    for first in stride(from: rows.lowerBound, to: rows.upperBound, by: step) {
      let values = try floats(of: weight, use, first..<min(first + step, rows.upperBound))
      products += restoredProduct(use, values, shift)
    }
    return products
  }

  /// The constant of a weight is part of what the source multiplies.
  private func restoredProduct(_ use: ParameterUse?, _ values: [Float], _ shift: [Float]) -> [Float] {
    guard let constant = use?.tensor?.constant, constant != 0 else {
      return ParameterReader.shiftProduct(ofRestored: values, shift: shift)
    }
    return ParameterReader.shiftProduct(ofRestored: values.map { $0 + constant }, shift: shift)
  }

  private func scales(of tensor: StoredTensor) throws -> (scales: [Float], zeroPoints: [UInt8]) {
    if let found = scales.withLock({ $0.first { $0.name == tensor.name } }) { return (found.scales, found.zeroPoints) }
    let made = (
      name: tensor.name, scales: try file.container.scales(of: tensor),
      zeroPoints: try file.container.zeroPoints(of: tensor)
    )
    scales.withLock { kept in
      if kept.count == 4 { kept.removeFirst() }
      kept.append(made)
    }
    return (made.scales, made.zeroPoints)
  }
}
