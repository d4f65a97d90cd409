import OTCheckpoint
import OTContainer
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTTensor

/// Compares tensors one by one.
struct TensorComparison {
  let file: PackedModel
  let reference: Checkpoint
  let parameters: ParameterReader
  let tolerance: Tolerance
  let threadCount: Int

  func finding(_ tensor: StoredTensor, _ view: TensorView) throws -> TensorFinding {
    var faults: [String] = []
    let source = file.uses[tensor.name]?.tensor ?? .named(view.name)
    let whole = view.shape
    // Without a graph the matrices of a stack are one below the other.
    let isStack = file.uses[tensor.name] == nil && tensor.shape != whole
    guard let view = isStack ? view.joiningRows() : source.view(of: view), view.shape == tensor.shape else {
      return result(tensor, faults: ["has shape \(tensor.shape), the source \(whole)"])
    }
    if (tensor.source?.shape ?? tensor.shape) != whole {
      faults.append("is recorded as of shape \(tensor.source?.shape ?? tensor.shape), the source has \(whole)")
    }
    if tensor.source?.elementType != view.elementType {
      faults.append(
        "is recorded as \(tensor.source?.elementType.rawValue ?? "?"), the source is \(view.elementType.rawValue)")
    }
    guard faults.isEmpty else { return result(tensor, faults: faults) }
    switch tensor.content {
    case .alias(let target):
      let isTied = reference[target].map { $0.sharesElements(with: view) || haveSameBytes($0, view) } ?? false
      return result(tensor, faults: isTied ? [] : ["stands for '\(target)', which differs in the source"])
    case .quantized(let scheme, _, _): return try quantized(tensor, view, scheme)
    case .plain(let type):
      guard let use = file.uses[tensor.name], !(type == view.elementType && use.isUnchanged) else {
        return try unchanged(tensor, view)
      }
      return try evaluated(tensor, use, type)
    }
  }

  /// A norm's or linear's bias that migration created: a tensor without a source.
  func gained(_ tensor: StoredTensor) throws -> TensorFinding? {
    guard let use = file.uses[tensor.name], use.role != .shift, use.role != .scale else { return nil }
    guard use.tensor == nil else { return result(tensor, faults: ["is said to have no source"]) }
    return try evaluated(tensor, use, .f32)
  }

  // MARK: Quantized

  private func quantized(_ tensor: StoredTensor, _ view: TensorView, _ scheme: QuantizationScheme) throws
    -> TensorFinding
  {
    // Clipped weights are at the end of the range, all others within half a step.
    let isNearest = tensor.rounding == .nearest
    let isWithinHalfAStep = tensor.rounding != .gptq
    guard [RoundingKind.nearest, .gptq, .clipped].contains(tensor.rounding) else {
      throw Refusal(
        "verify-rounding",
        "its values were rounded by '\(tensor.rounding.name)', which this version does not know how to judge",
        file: file.path, tensor: tensor.name, remedy: "verify it with the version of otq that wrote it")
    }
    let use = file.uses[tensor.name]
    let rows = try use.map(parameters.rows) ?? TransformedRows(view: view)
    let scales = try file.container.scales(of: tensor)
    let zeroPoints = try file.container.zeroPoints(of: tensor)
    let layout = tensor.layout
    let step = ChunkEncoder.rowTilesPerChunk(layout)
    let blockCount = tensor.shape.elementCount == 0 ? 0 : (layout.rowTileCount + step - 1) / step
    let blocks = try mapBlocks(blockCount, threadCount: threadCount) { block in
      let tiles = block * step..<min((block + 1) * step, layout.rowTileCount)
      return try compare(tensor, rows, scheme, scales, zeroPoints, tiles)
    }
    var total = BlockError(codeCounts: [Int](repeating: 0, count: 1 << scheme.bits))
    for block in blocks { total.merge(block) }
    let statistics = ErrorStatistics(
      squaredError: total.squaredError, squares: total.squares, maximumErrorInSteps: Float(total.maximum),
      count: view.shape.elementCount)
    var faults: [String] = []
    // A rule that lets weights make up for each other's errors moves them by more than half a step.
    if isWithinHalfAStep, let worst = total.worst, total.maximum > tolerance.maximumErrorInSteps {
      faults.append(
        "element [\(worst.row), \(worst.column)] is \(total.maximum.rounded(toPlaces: 3)) steps off, "
          + "\(tolerance.maximumErrorInSteps) are allowed")
    }
    let decibels = statistics.sqnrDecibels
    let least = tolerance.minimumSQNRDecibels[scheme.bits].map { isNearest ? $0 : $0 - tolerance.feedbackDecibels }
    if let least, decibels < least {
      faults.append("SQNR is \(decibels.rounded(toPlaces: 2)) dB, \(least) are demanded")
    }
    let zeroPoint = zeroPoints.reduce(0) { $0 + Double($1) } / Double(max(zeroPoints.count, 1))
    return TensorFinding(
      name: tensor.source?.name ?? tensor.name, storage: tensor.storageDescription, sqnrDecibels: decibels,
      maximumError: total.maximum, faults: faults, codeCounts: total.codeCounts, zeroPoint: zeroPoint,
      storedName: tensor.name)
  }

  private struct BlockError: Sendable {
    var squaredError = 0.0
    var squares = 0.0
    var maximum = 0.0
    var worst: (row: Int, column: Int)?
    var codeCounts: [Int]

    mutating func merge(_ other: BlockError) {
      squaredError += other.squaredError
      squares += other.squares
      for code in codeCounts.indices { codeCounts[code] += other.codeCounts[code] }
      if other.maximum > maximum { (maximum, worst) = (other.maximum, other.worst) }
    }
  }

  private func compare(
    _ tensor: StoredTensor, _ source: TransformedRows, _ scheme: QuantizationScheme, _ scales: [Float],
    _ zeroPoints: [UInt8], _ tiles: Range<Int>
  ) throws -> BlockError {
    let layout = tensor.layout
    let rows = layout.rows(of: tiles)
    var values = [Float](repeating: 0, count: rows.count * layout.columnCount)
    values.withUnsafeMutableBufferPointer { source.read(rows: rows, into: $0) }
    source.view.release(rows)
    let codes = try file.container.codes(of: tensor, rowTiles: tiles)
    let groupCount = scheme.groupCount(columnCount: layout.columnCount)
    let groupSize = scheme.groupSize(columnCount: layout.columnCount)
    var error = BlockError(codeCounts: [Int](repeating: 0, count: 1 << scheme.bits))
    for row in rows {
      let start = (row - rows.lowerBound) * layout.columnCount
      let tileStart = (row / 16 - tiles.lowerBound) * layout.rowTileByteCount + row % 16 * 4
      for column in 0..<layout.columnCount {
        let value = values[start + column]
        let code = Int(codes[tileStart + column / 4 * 64 + column % 4])
        error.codeCounts[code] += 1
        let step = scheme.granularity == .perTensor ? 0 : row * groupCount + column / groupSize
        let difference = Double(value) - Double(scales[step]) * Double(code - Int(zeroPoints[step]))
        // Where the scale is the least that there is, the weights are below what it can tell apart: they
        // are zero to any product, and the half step bounds them.
        if scales[step] > .leastNormalMagnitude {
          error.squaredError += difference * difference
          error.squares += Double(value) * Double(value)
        }
        let inSteps = abs(difference) / Double(scales[step])
        // A weight beyond the range is stored at its end: clipped, not wrong.
        let isClipped =
          code == scheme.maximumCode && difference > 0 || code == scheme.minimumCode && difference < 0
        if !isClipped, !(inSteps <= error.maximum) { (error.maximum, error.worst) = (inSteps, (row, column)) }
      }
    }
    return error
  }

  // MARK: Plain

  private func unchanged(_ tensor: StoredTensor, _ view: TensorView) throws -> TensorFinding {
    var offset = 0
    var isEqual = true
    let bytes = try file.container.values(of: tensor)
    let rowByteCount = view.shape.rowElementCount * view.elementType.bitWidth / 8
    let step = max(1, (1 << 20) / max(rowByteCount, 1))
    // Of rows without elements there may be as many as an Int can count.
    let rowCount = view.shape.elementCount == 0 ? 0 : view.shape.rowCount
    for first in stride(from: 0, to: rowCount, by: step) {
      let rows = first..<min(first + step, rowCount)
      view.withRowBytes(rows) { source in
        isEqual =
          isEqual && offset + source.count <= bytes.count
          && bytes[offset..<offset + source.count].elementsEqual(source)
        offset += source.count
      }
      view.release(rows)
    }
    return result(tensor, faults: isEqual && offset == bytes.count ? [] : ["bytes differ from the source"])
  }

  private func evaluated(_ tensor: StoredTensor, _ use: ParameterUse, _ type: ElementType) throws -> TensorFinding {
    var expected = try parameters.values(of: use, rows: 0..<tensor.shape.rowCount)
    if use.role == .bias, use.inputZero != 0, let weight = file.container[use.weightOutputName], weight.scheme != nil {
      for (row, product) in try zeroProduct(use, weight).enumerated() { expected[row] += product }
    }
    let actual = try file.container.floats(of: file.container[tensor.name] ?? tensor)
    // float16 keeps 11 bits, bfloat16 8.
    let allowed =
      switch type {
      case .f16: 0x1p-10
      case .bf16: 0x1p-7
      default: tolerance.maximumRelativeError
      }
    let largest = expected.reduce(Float.leastNormalMagnitude) { max($0, abs($1)) }
    var worst = 0.0
    for (a, b) in zip(expected, actual) {
      let difference = Double(abs(a - b)) / Double(largest)
      if !(difference <= worst) { worst = difference }
    }
    let isWithin = expected.count == actual.count && worst <= allowed
    return result(
      tensor, maximum: worst,
      faults: isWithin ? [] : ["differs from the source by \(worst) of its largest value, \(allowed) are allowed"])
  }

  /// zero · Σ(W' − Ŵ') of the rows of a linear whose input has a code for 0.
  private func zeroProduct(_ bias: ParameterUse, _ weight: StoredTensor) throws -> [Float] {
    guard let use = file.uses[weight.name] else { return [] }
    let rows = try parameters.rows(of: use)
    let scales = try file.container.scales(of: weight)
    let zeroPoints = try file.container.zeroPoints(of: weight)
    let step = ChunkEncoder.rowTilesPerChunk(weight.layout)
    var products: [Float] = []
    for first in stride(from: 0, to: weight.layout.rowTileCount, by: step) {
      let tiles = first..<min(first + step, weight.layout.rowTileCount)
      let range = weight.layout.rows(of: tiles)
      let source = rows.values(rows: range)
      rows.view.release(range)
      let stored = try file.container.dequantized(weight, rowTiles: tiles, scales: scales, zeroPoints: zeroPoints)
      for start in stride(from: 0, to: source.count, by: max(rows.rowElementCount, 1)) {
        var sum = 0.0
        for index in start..<start + rows.rowElementCount { sum += Double(source[index]) - Double(stored[index]) }
        products.append(Float(Double(bias.inputZero) * sum))
      }
    }
    return products
  }

  private func haveSameBytes(_ a: TensorView, _ b: TensorView) -> Bool {
    a.elementType == b.elementType && a.shape == b.shape
      && a.withRowBytes(0..<a.shape.rowCount) { first in
        b.withRowBytes(0..<b.shape.rowCount) { first.elementsEqual($0) }
      }
  }

  private func result(_ tensor: StoredTensor, maximum: Double = 0, faults: [String]) -> TensorFinding {
    TensorFinding(
      name: tensor.source?.name ?? tensor.name, storage: tensor.storageDescription, maximumError: maximum,
      faults: faults)
  }
}
