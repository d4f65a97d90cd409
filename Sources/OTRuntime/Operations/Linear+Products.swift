import OTFoundation
import OTGraph
import OTKernels

/// The division of products between threads.
enum ProductBlocks {
  /// Integer sums that a thread holds at a time.
  static let scratchCount = 1 << 16
  /// Rows of integers that a thread multiplies with at a time.
  static let rowCount = 192
  /// Rows of integers that cost no more than reading the weights.
  static let fewRowCount = 24
  /// Parts for each thread when rows are few: enough to even out who starts late.
  static let partCount = 3

  /// Output channels whose float weights a thread fetches and multiplies with at a time: as many as
  /// stay in cache, where rows are few and fetching is most of the work.
  static func floatChannelCount(inFeatures: Int, rowCount: Int) -> Int {
    let weightCount = rowCount <= BLAS.fewRowCount ? 1 << 16 : 1 << 20
    return min(max(weightCount / max(1, inFeatures) / 16 * 16, 16), 1024)
  }
}

/// Calls `body` with the elements of two arrays.
private func withUnsafeBuffers<First, Second>(
  _ first: [First], _ second: [Second],
  _ body: (UnsafeBufferPointer<First>, UnsafeBufferPointer<Second>) -> Void
) {
  first.withUnsafeBufferPointer { first in second.withUnsafeBufferPointer { body(first, $0) } }
}

extension Pass {
  /// A product's division into blocks of rows and of output channels.
  private struct Division {
    let rowCount, rowBlockCount: Int
    /// Output channels, or row tiles for packed weights.
    let unitCount, unitBlockCount: Int
    var count: Int { rowBlockCount * unitBlockCount }

    init(rows: Int, maximumRows: Int, units: Int, maximumUnits: Int) {
      rowBlockCount = max(1, (rows + maximumRows - 1) / maximumRows)
      // Blocks of one size, rather than a small one at the end.
      rowCount = (rows + rowBlockCount - 1) / rowBlockCount
      unitBlockCount = max(1, (units + maximumUnits - 1) / maximumUnits)
      unitCount = (units + unitBlockCount - 1) / unitBlockCount
    }

    func block(_ index: Int, rows: Range<Int>, units: Int) -> (rows: Range<Int>, units: Range<Int>) {
      // Neighbouring blocks share rows: those of one thread stay in its cache.
      let row = index / unitBlockCount * rowCount
      let unit = index % unitBlockCount * unitCount
      return (
        min(rows.lowerBound + row, rows.upperBound)..<min(rows.lowerBound + row + rowCount, rows.upperBound),
        min(unit, units)..<min(unit + unitCount, units)
      )
    }
  }

  /// Multiplies on all threads.
  func multiply(_ products: [Product], rows: Range<Int>) throws {
    let loop = ProductLoop(self, products, RowBlock(rows: rows, worker: 0, origin: rows.lowerBound))
    try engine.pool.run(loop.count, loop)
  }

  /// Multiplies on the thread of a block.
  func multiply(_ products: [Product], in block: RowBlock) throws {
    let loop = ProductLoop(self, products, block)
    for item in 0..<loop.count { try loop.perform(item, worker: block.worker) }
  }

  /// The blocks of all products of a stage.
  private struct ProductLoop: WorkerPool.Loop {
    let pass: Pass
    let products: [Product]
    let rows: RowBlock
    private(set) var tileCount = 0
    private(set) var count = 0

    init(_ pass: Pass, _ products: [Product], _ rows: RowBlock) {
      (self.pass, self.products, self.rows) = (pass, products, rows)
      for case .packed(let matrix, _, _) in products.lazy.map(\.weights) { tileCount += matrix.layout.rowTileCount }
      for product in products { count += pass.division(of: product, rows: rows.rows, tileCount: tileCount).count }
    }

    func perform(_ item: Int, worker: Int) throws {
      var index = item
      let range = rows.rows
      for product in products {
        let division = pass.division(of: product, rows: range, tileCount: tileCount)
        guard index >= division.count else {
          switch product.weights {
          case .packed(let matrix, let input, let partition):
            let block = division.block(index, rows: range, units: matrix.layout.rowTileCount)
            pass.multiply(
              matrix, input, partition: partition, product, rows.part(block.rows, worker: worker), tiles: block.units)
          case .float(let use):
            let block = division.block(index, rows: range, units: product.linear.outFeatures)
            try pass.multiply(use, product, rows.part(block.rows, worker: worker), channels: block.units)
          }
          return
        }
        index -= division.count
      }
    }
  }

  private func division(of product: Product, rows: Range<Int>, tileCount: Int) -> Division {
    switch product.weights {
    case .packed(let matrix, let id, _):
      let limbCount = program.quantizedValues[id].quantization.limbCount
      let integerRowCount = rows.count * limbCount
      var tiles = Kernels.preferredRowTiles(
        rowCount: min(integerRowCount, ProductBlocks.rowCount), columnCount: matrix.layout.columnCount,
        bits: matrix.bits)
      if integerRowCount <= ProductBlocks.fewRowCount {
        let parts = engine.pool.threadCount * ProductBlocks.partCount
        tiles = ((tileCount + parts - 1) / parts).roundedUp(toMultipleOf: 4)
      }
      tiles = min(tiles, ProductBlocks.scratchCount / 16 / max(1, min(integerRowCount, ProductBlocks.rowCount)))
      return Division(
        rows: rows.count, maximumRows: ProductBlocks.rowCount / limbCount, units: matrix.layout.rowTileCount,
        maximumUnits: max(1, tiles))
    case .float:
      let linear = product.linear
      return Division(
        rows: rows.count, maximumRows: max(1, rows.count), units: linear.outFeatures,
        maximumUnits: ProductBlocks.floatChannelCount(inFeatures: linear.inFeatures, rowCount: rows.count))
    }
  }

  // MARK: Integers

  /// `scale ⊙ (Σ u·x − zeroPoint·Σ x) + b` for some rows and row tiles, then the product's epilogue.
  ///
  /// Sums over the columns that share a scale are exact, in int32 (at most
  /// 65,536 columns at a time). What follows is float32, one rounding per
  /// operation: the sum times its scale, the sum of these in the order of the
  /// columns, times the row's scale where there is one, plus the bias. Where rows have codes
  /// of 0, the sum is less such a code times the sum of the weights' codes, still exact. Where
  /// activations have scales of groups, "the sum" is that of the groups' exact sums
  /// times their scales.
  private func multiply(
    _ matrix: PackedMatrix, _ id: Program.QuantizedID, partition: Int, _ product: Product, _ block: RowBlock,
    tiles: Range<Int>
  ) {
    let rows = block.rows
    let layout = matrix.layout
    let input = program.quantizedValues[id]
    let place = workspace.quantized(id, in: block)
    let channels = tiles.lowerBound * 16..<min(tiles.upperBound * 16, layout.rowCount)
    guard !rows.isEmpty, !channels.isEmpty else { return }
    let outWidth = layout.rowCount
    let target = workspace.rows(of: product.to, in: block) + rows.lowerBound * outWidth + channels.lowerBound
    let products = workspace.scratch[block.worker].products
    let firstRun = input.partitions[..<partition].reduce(0) { $0 + $1.count }
    let integerRowCount = rows.count * place.limbCount
    for (index, run) in matrix.runs.enumerated() {
      let step = run.group * matrix.stepStride
      let steps = step + tiles.lowerBound * 16..<step + tiles.upperBound * 16
      // Columns end at a multiple of 16, or where padding begins.
      let columns = run.columns.lowerBound..<run.columns.upperBound.roundedUp(toMultipleOf: 16)
      let activations = UnsafeBufferPointer(
        start: place.values(row: rows.lowerBound), count: integerRowCount * place.stride)
      let codes = workspace.scratch[block.worker].codes.buffer
      matrix.zeroPoints.withUnsafeBufferPointer { zeroPoints in
        let sums: Epilogue.Sums
        if let size = input.quantization.groupSize {
          // Integers and floats of 32 bits alike.
          let parts = UnsafeMutableBufferPointer(
            start: UnsafeMutableRawPointer(products.base).bindMemory(to: Float.self, capacity: products.count),
            count: products.count)
          var groups = Kernels.ActivationGroups(
            size: size,
            rows: UnsafeBufferPointer(
              start: place.groups(row: rows.lowerBound), count: rows.count * place.groupCount),
            zeroPoints: UnsafeBufferPointer(rebasing: zeroPoints[steps]))
          let weightSums = product.weightSums?.ofGroups
          (weightSums ?? []).withUnsafeBufferPointer { sums in
            if weightSums != nil {
              let ofTiles = tiles.lowerBound * 16 * place.groupCount..<tiles.upperBound * 16 * place.groupCount
              groups.offsets = (
                zeros: UnsafeBufferPointer(
                  start: place.groupZeros(row: rows.lowerBound), count: rows.count * place.groupCount),
                weightSums: UnsafeBufferPointer(rebasing: sums[ofTiles])
              )
            }
            matrix.withPackedCodes { packed in
              kernels.multiply(
                packed, layout: layout, bits: matrix.bits, rowTiles: tiles, columns: columns, activations: activations,
                groups: groups, rowCount: rows.count, into: parts, resultStride: tiles.count * 16, scratch: codes)
            }
          }
          sums = .groups(UnsafeBufferPointer(parts))
        } else {
          let integers = UnsafeMutableBufferPointer(
            start: UnsafeMutableRawPointer(products.base).bindMemory(to: Int32.self, capacity: products.count),
            count: products.count)
          matrix.withPackedCodes { packed in
            kernels.multiply(
              packed, layout: layout, bits: matrix.bits, rowTiles: tiles, columns: columns, activations: activations,
              rowCount: integerRowCount, into: integers, resultStride: tiles.count * 16, scratch: codes)
          }
          sums = .integers(
            products: UnsafeBufferPointer(integers),
            codeSums: UnsafeBufferPointer(
              start: place.sums(row: rows.lowerBound, run: firstRun + index), count: integerRowCount),
            zeroPoints: UnsafeBufferPointer(rebasing: zeroPoints[steps.prefix(channels.count)]))
        }
        matrix.scales.withUnsafeBufferPointer { scales in
          let runSums = product.weightSums?.ofRun(index)
          withUnsafeBuffers(product.bias ?? [], runSums ?? []) { bias, weightSums in
            var epilogue = Epilogue(
              sums, productStride: tiles.count * 16,
              scales: UnsafeBufferPointer(rebasing: scales[steps.prefix(channels.count)]),
              tokenScales: input.quantization.hasRowScales
                ? UnsafeBufferPointer(start: place.scale(row: rows.lowerBound), count: rows.count) : nil,
              bias: product.bias == nil ? nil : UnsafeBufferPointer(rebasing: bias[channels]),
              rowCount: rows.count,
              target: UnsafeMutableBufferPointer(start: target, count: (rows.count - 1) * outWidth + channels.count),
              targetStride: outWidth)
            if runSums != nil {
              epilogue.offsets = (
                zeros: UnsafeBufferPointer(start: place.zero(row: rows.lowerBound), count: rows.count),
                weightSums: UnsafeBufferPointer(rebasing: weightSums[channels])
              )
            }
            epilogue.hasDigits = place.limbCount == 3
            epilogue.accumulates = index > 0
            epilogue.isLast = index == matrix.runs.count - 1
            kernels.finish(epilogue)
          }
        }
      }
    }
    if matrix.runs.isEmpty { fill(target, rows.count, channels, outWidth, bias: product.bias) }
    runEpilogue(of: product, block, channels: channels)
  }

  /// A matrix without columns gives the bias.
  private func fill(
    _ target: UnsafeMutablePointer<Float>, _ rowCount: Int, _ channels: Range<Int>, _ stride: Int, bias: [Float]?
  ) {
    for row in 0..<rowCount {
      for channel in channels { target[row * stride + channel - channels.lowerBound] = bias?[channel] ?? 0 }
    }
  }

  // MARK: Floats

  private func multiply(
    _ use: ParameterUse, _ product: Product, _ block: RowBlock, channels: Range<Int>
  ) throws {
    let linear = product.linear
    let rows = block.rows
    guard !rows.isEmpty, !channels.isEmpty else { return }
    if linear.role == .router { return try score(use, product, block, channels: channels) }
    let source = workspace.rows(of: product.from)
    let target = workspace.rows(of: product.to) + channels.lowerBound
    if product.bias != nil || linear.inFeatures == 0 {
      fill(
        target + rows.lowerBound * linear.outFeatures, rows.count, channels, linear.outFeatures, bias: product.bias)
    }
    try engine.parameters.withValues(
      of: use, rows: channels, scratch: workspace.scratch[block.worker].weights.buffer
    ) { weights in
      func multiply(_ rows: Range<Int>) {
        BLAS.multiplyTransposed(
          m: rows.count, n: channels.count, k: linear.inFeatures,
          BLAS.Operand(base: source + rows.lowerBound * linear.inFeatures, stride: linear.inFeatures),
          BLAS.Operand(base: weights.baseAddress, stride: linear.inFeatures), adds: product.bias != nil,
          into: target + rows.lowerBound * linear.outFeatures, stride: linear.outFeatures)
      }
      switch program.values[product.to].rows {
      case .sequences: multiply(rows)
      case .tokens:
        for block in batch.productBlocks where block.overlaps(rows) { multiply(block.clamped(to: rows)) }
      case .expert(let expert, let router):
        let table = workspace.routingTable(router)
        for block in batch.productBlocks {
          let part = table.rows(of: expert, among: block).clamped(to: rows)
          if !part.isEmpty { multiply(part) }
        }
      }
    }
    runEpilogue(of: product, block, channels: channels)
  }

  /// The scores of experts: each row by itself, so that a token goes to the same experts whatever others are there.
  private func score(
    _ use: ParameterUse, _ product: Product, _ block: RowBlock, channels: Range<Int>
  ) throws {
    let (width, outWidth) = (product.linear.inFeatures, product.linear.outFeatures)
    let (source, target) = (workspace.rows(of: product.from), workspace.rows(of: product.to))
    try engine.parameters.withValues(
      of: use, rows: channels, scratch: workspace.scratch[block.worker].weights.buffer
    ) { weights in
      for row in block.rows {
        let x = UnsafeBufferPointer(start: source + row * width, count: width)
        for channel in channels {
          let first = (channel - channels.lowerBound) * width
          let sum = kernels.dot(x, UnsafeBufferPointer(rebasing: weights[first..<first + width]))
          target[row * outWidth + channel] = sum + (product.bias?[channel] ?? 0)
        }
      }
    }
    runEpilogue(of: product, block, channels: channels)
  }

  // MARK: Epilogue

  /// Does what the graph does next with a block of a product, while it is in cache.
  private func runEpilogue(of product: Product, _ block: RowBlock, channels: Range<Int>) {
    let width = product.linear.outFeatures
    let target = workspace.rows(of: product.to, in: block) + channels.lowerBound
    switch product.epilogue {
    case .none: break
    case .activate(let function):
      for row in block.rows {
        let values = UnsafeMutableBufferPointer(start: target + row * width, count: channels.count)
        kernels.activate(function, UnsafeBufferPointer(values), into: values)
      }
    case .add(let other):
      let addend = workspace.rows(of: other, in: block) + channels.lowerBound
      for row in block.rows {
        let values = UnsafeMutableBufferPointer(start: target + row * width, count: channels.count)
        kernels.add(
          UnsafeBufferPointer(values), UnsafeBufferPointer(start: addend + row * width, count: channels.count),
          into: values)
      }
    }
  }
}
