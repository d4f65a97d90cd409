import OTContainer
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTQuantization
import OTTensor

/// The tensors of a plan on their way through the pipeline: blocks are made on
/// many threads and written in order.
struct ConversionRun {
  /// A piece of work: some row tiles of codes, some rows of a plain tensor, or
  /// a small tensor that the writing thread makes itself.
  private enum Job {
    case codes(tensor: Int, rowTiles: Range<Int>)
    case rows(tensor: Int, rows: Range<Int>)
    case small(tensor: Int)

    var tensor: Int {
      switch self {
      case .codes(let tensor, _), .rows(let tensor, _), .small(let tensor): tensor
      }
    }
  }

  private struct Block: Sendable {
    var chunk: EncodedChunk?
    var scales: [Float] = []
    var zeroPoints: [UInt8] = []
    var shiftProduct: [Float]?
    var statistics = ErrorStatistics()
    var sourceByteCount = 0
    var times = ConversionTimes()
  }

  /// The current tensor's scales, zero points and error, gathered block by block.
  private struct Progressing {
    var firstExtent: Int
    var scales: [Float] = []
    var zeroPoints: [UInt8] = []
    var statistics = ErrorStatistics()

    mutating func add(_ block: Block) {
      scales += block.scales
      zeroPoints += block.zeroPoints
      statistics = statistics.merged(with: block.statistics)
    }
  }

  let plan: ConversionPlan
  let writer: ContainerWriter
  let progress: Converter.Progress?
  /// Seconds of each kind of work but hashing.
  private(set) var times = ConversionTimes()
  private let parameters: ParameterReader
  /// W·z of the last weights, by node, until their biases are written.
  private var shiftProducts: [String: [Float]] = [:]

  init(plan: ConversionPlan, writer: ContainerWriter, progress: Converter.Progress?) {
    self.plan = plan
    self.writer = writer
    self.progress = progress
    parameters = ParameterReader(plan.checkpoint.tensors)
  }

  mutating func writeTensors() throws {
    let tensors = plan.tensors
    let quantizers = try tensors.map { tensor -> WeightQuantizer? in
      guard case .quantized(let scheme) = tensor.treatment, let view = tensor.view else { return nil }
      return try WeightQuantizer(tensor.rows(of: view), scheme: scheme, threadCount: plan.options.threadCount)
    }
    let jobs = tensors.indices.flatMap { self.jobs(for: $0, quantizers[$0]) }
    let totalByteCount = plan.checkpoint.tensors.reduce(0) { $0 + $1.byteCount }
    var doneByteCount = 0
    var current: Progressing?
    let encoder = writer.encoder
    try OrderedPipeline.run(count: jobs.count, threadCount: plan.options.threadCount) { index in
      try ConversionRun.produce(jobs[index], tensors, quantizers, encoder)
    } consume: { index, block in
      let job = jobs[index]
      let tensor = tensors[job.tensor]
      let isFirst = index == 0 || jobs[index - 1].tensor != job.tensor
      let isLast = index == jobs.count - 1 || jobs[index + 1].tensor != job.tensor
      if isFirst { current = Progressing(firstExtent: writer.extentCount) }
      times.quantization += block.times.quantization
      times.encode += block.times.encode
      if let chunk = block.chunk { try timed(&times.write) { try writer.append(chunk) } }
      current?.add(block)
      if let product = block.shiftProduct, let node = tensor.use?.node {
        shiftProducts[node, default: []] += product
      }
      if isLast, let finished = current { try finish(tensor, finished) }
      doneByteCount += block.sourceByteCount
      progress?(doneByteCount, totalByteCount)
    }
    progress?(totalByteCount, totalByteCount)
  }

  // MARK: Jobs

  private func jobs(for index: Int, _ quantizer: WeightQuantizer?) -> [Job] {
    let tensor = plan.tensors[index]
    if let layout = quantizer?.layout {
      let step = ChunkEncoder.rowTilesPerChunk(layout)
      return stride(from: 0, to: layout.rowTileCount, by: step).map {
        .codes(tensor: index, rowTiles: $0..<min($0 + step, layout.rowTileCount))
      }
    }
    guard let type = tensor.plainType, tensor.view != nil, tensor.shape.rank > 0,
      tensor.shape.elementCount > 1 << 16, !isVector(tensor)
    else { return [.small(tensor: index)] }
    let rowByteCount = max(tensor.shape.rowElementCount * type.bitWidth / 8, 1)
    let step = max(1, (1 << 18) / rowByteCount)
    return stride(from: 0, to: tensor.shape.rowCount, by: step).map {
      .rows(tensor: index, rows: $0..<min($0 + step, tensor.shape.rowCount))
    }
  }

  /// Biases may need W·z, which the writing thread has.
  private func isVector(_ tensor: PlannedTensor) -> Bool { tensor.shape.rank <= 1 }

  private static func produce(
    _ job: Job, _ tensors: [PlannedTensor], _ quantizers: [WeightQuantizer?], _ encoder: ChunkEncoder
  ) throws -> Block {
    let tensor = tensors[job.tensor]
    switch job {
    case .small:
      return Block(sourceByteCount: tensor.view?.byteCount ?? 0)
    case .codes(_, let rowTiles):
      guard let quantizer = quantizers[job.tensor], let view = tensor.view else { return Block() }
      let block = try quantizer.quantize(rowTiles: rowTiles)
      var times = ConversionTimes()
      times.quantization = block.times
      let rows = quantizer.layout.rows(of: rowTiles)
      view.release(rows)
      let chunk = try timed(&times.encode) { try encoder.encode(codes: block.codes, bits: quantizer.scheme.bits) }
      return Block(
        chunk: chunk, scales: block.scales, zeroPoints: block.zeroPoints, shiftProduct: block.shiftProduct,
        statistics: block.statistics,
        sourceByteCount: rows.count * view.shape.rowElementCount * view.elementType.bitWidth / 8, times: times)
    case .rows(_, let rows):
      guard let view = tensor.view else { return Block() }
      var times = ConversionTimes()
      let chunk = try timed(&times.encode) { try rowBytes(of: tensor, view, rows) { try encoder.encode($0) } }
      view.release(rows)
      return Block(
        chunk: chunk, sourceByteCount: rows.count * view.shape.rowElementCount * view.elementType.bitWidth / 8,
        times: times)
    }
  }

  /// Rows of a tensor that is stored plain, as they are stored.
  private static func rowBytes<Result>(
    of tensor: PlannedTensor, _ view: TensorView, _ rows: Range<Int>,
    _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    if case .unchanged = tensor.treatment {
      return try view.withRowBytes(rows, body)
    }
    let source = try tensor.rows(of: view)
    let count = rows.count * view.shape.rowElementCount
    let floats = [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
      initialized = count
      source.read(rows: rows, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
    }
    try check(floats, tensor, firstElement: rows.lowerBound * view.shape.rowElementCount)
    guard case .converted(let type) = tensor.treatment else { return try floats.withUnsafeBytes(body) }
    return try converted(floats, to: type, tensor, rows: rows, body)
  }

  private static func converted<Result>(
    _ floats: [Float], to type: ElementType, _ tensor: PlannedTensor, rows: Range<Int>,
    _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: floats.count * type.bitWidth / 8, alignment: 64)
    defer { bytes.deallocate() }
    floats.withUnsafeBufferPointer { Kernels.current.convert($0, to: type, into: bytes) }
    // 65520 and above become infinite in float16.
    if type == .f16, let index = floats.firstIndex(where: { abs($0) >= 65520 }) {
      throw Refusal(
        "value-overflow", "\(floats[index]) does not fit float16", file: tensor.view?.file.path,
        tensor: tensor.outputName, remedy: "use --embedding-bits 8, or exclude it")
    }
    return try body(UnsafeRawBufferPointer(bytes))
  }

  private static func check(_ floats: [Float], _ tensor: PlannedTensor, firstElement: Int) throws {
    let range = floats.withUnsafeBufferPointer { Kernels.current.range($0) }
    guard let index = range.firstNonFinite else { return }
    throw Refusal(
      "weight-not-finite", "element \(firstElement + index) is \(floats[index])", file: tensor.view?.file.path,
      tensor: tensor.outputName, remedy: "repair the checkpoint")
  }

  // MARK: Writing

  private mutating func finish(_ tensor: PlannedTensor, _ parts: Progressing) throws {
    let source = tensor.view.map { StoredTensor.Source(name: $0.name, elementType: $0.elementType) }
    let extents = parts.firstExtent..<writer.extentCount
    switch tensor.treatment {
    case .alias(let target):
      writer.addAlias(name: tensor.outputName, of: target, shape: tensor.shape, source: source)
    case .quantized(let scheme):
      let decibels = parts.statistics.sqnrDecibels
      try writer.addQuantized(
        name: tensor.outputName, shape: tensor.shape, scheme: scheme, codes: extents, scales: parts.scales,
        zeroPoints: parts.zeroPoints, source: source,
        error: QuantizationError(
          sqnrDecibels: decibels.isFinite ? decibels : nil,
          maximumInSteps: Double(parts.statistics.maximumErrorInSteps)))
    case .evaluated, .converted, .unchanged, .vector:
      let values = extents.isEmpty ? try writeSmall(tensor) : extents
      writer.addPlain(
        name: tensor.outputName, shape: tensor.shape, elementType: tensor.plainType ?? .f32, values: values,
        source: source)
    }
  }

  private mutating func writeSmall(_ tensor: PlannedTensor) throws -> Range<Int> {
    if case .vector(let values) = tensor.treatment {
      return try values.withUnsafeBytes(writer.append(plane:))
    }
    if case .evaluated = tensor.treatment, let use = tensor.use {
      let product = use.role == .bias ? shiftProducts.removeValue(forKey: use.node) : nil
      let values = try parameters.vector(use, rows: 0..<tensor.shape.rowCount, shiftProduct: product)
      try ConversionRun.check(values, tensor, firstElement: 0)
      return try values.withUnsafeBytes(writer.append(plane:))
    }
    guard let view = tensor.view else { return writer.extentCount..<writer.extentCount }
    return try ConversionRun.rowBytes(of: tensor, view, 0..<view.shape.rowCount) { try writer.append(plane: $0) }
  }
}
