import OTExport
import OTFoundation
import OTGraph
import OTJSON
import OTKernels
import OTModel
import OTTensor

/// The tensors of a plan on their way through the pipeline: blocks are made on
/// many threads and written in order.
struct ConversionRun<Writer: ModelWriter> {
  private typealias Job = ConversionJob
  private typealias Block = ConversionBlock<Writer.Encoder>

  /// The time of each phase; hashing is left to others.
  private(set) var times = ConversionTimes()
  /// Names of tensors that were stored though not all of their elements are finite.
  private(set) var notFinite: [String] = []
  /// Bytes of the source that are read.
  let totalByteCount: Int
  private let plan: ConversionPlan
  private let writer: Writer
  private let sources: [TensorProduction]
  private let progress: Converter.Progress?
  /// W·z of the last weights, by node, until their biases are written.
  private var shiftProducts: [String: [Float]] = [:]

  /// - Parameter tensors: those that the writer takes, in its order.
  /// - Throws: `Refusal` with a rule `weight-…` or `transform-mismatch`.
  init(
    _ plan: ConversionPlan, _ tensors: [ExportedTensor], into writer: Writer, progress: Converter.Progress?
  ) throws {
    self.plan = plan
    self.writer = writer
    self.progress = progress
    let planned = Dictionary(plan.tensors.map { ($0.outputName, $0) }, uniquingKeysWith: { first, _ in first })
    totalByteCount = tensors.reduce(0) { $0 + (planned[$1.name]?.sourceByteCount ?? 0) }
    let parameters = ParameterReader(plan.checkpoint.tensors)
    sources = try tensors.compactMap { tensor in
      try planned[tensor.name].map {
        try TensorProduction(tensor, $0, parameters, plan.rounded, threadCount: plan.options.threadCount)
      }
    }
  }

  mutating func writeTensors() throws {
    let sources = sources
    let writer = writer
    let adoptedCount = adopt(writer.adopted)
    let jobs = sources.indices.dropFirst(adoptedCount).flatMap(jobs)
    let totalByteCount = totalByteCount
    var doneByteCount = sources.prefix(adoptedCount).reduce(0) {
      $0 + $1.sourceByteCount(0..<$1.tensor.shape.rowCount)
    }
    let encoder = writer.encoder
    try OrderedPipeline.run(
      count: jobs.count, threadCount: plan.options.threadCount, produce: Block.producer(jobs, sources, encoder)
    ) { index, made in
      let job = jobs[index]
      let source = sources[job.tensor]
      let block = try job.isSmall ? small(source, encoder) : made
      times += block.times
      if let encoded = block.encoded { try timed(&times.write) { try writer.write(encoded, of: source.tensor) } }
      if !block.isFinite, notFinite.last != source.tensor.name { notFinite.append(source.tensor.name) }
      if let product = block.shiftProduct, let node = source.tensor.use?.node {
        shiftProducts[node, default: []] += product
      }
      if index == jobs.count - 1 || jobs[index + 1].tensor != job.tensor {
        try writer.finish(source.tensor)
        let record = record(of: source.tensor)
        try timed(&times.write) { try writer.keep(record) }
      }
      doneByteCount += source.sourceByteCount(job.rows)
      try progress?(min(doneByteCount, totalByteCount), totalByteCount)
    }
    try progress?(totalByteCount, totalByteCount)
  }

  /// Takes up where the records of tensors that are written already end; gives their number.
  private mutating func adopt(_ records: [JSONObject]) -> Int {
    for (source, record) in zip(sources, records) {
      let tensor = source.tensor
      if record["isFinite"]?.bool == false { notFinite.append(tensor.name) }
      guard let node = tensor.use?.node else { continue }
      if tensor.use?.role == .bias { shiftProducts[node] = nil }
      if let bytes = record["shiftProduct"]?.string.flatMap(Base64.decode) {
        shiftProducts[node] = bytes.withUnsafeBytes { bytes in
          (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
        }
      }
    }
    return records.count
  }

  /// What `adopt` needs of a tensor that has been written.
  private func record(of tensor: ExportedTensor) -> JSONObject {
    var record: JSONObject = [:]
    if notFinite.last == tensor.name { record["isFinite"] = .bool(false) }
    // Until the bias has taken it up.
    if tensor.use?.role != .bias, let product = tensor.use.flatMap({ shiftProducts[$0.node] }) {
      record["shiftProduct"] = .string(Base64.encode(product.withUnsafeBytes { Array($0) }))
    }
    return record
  }

  private func jobs(for index: Int) -> [Job] {
    let tensor = sources[index].tensor
    let rowCount = tensor.shape.rowCount
    guard sources[index].isLarge else { return [Job(tensor: index, rows: 0..<rowCount, isSmall: true)] }
    let step = writer.encoder.rowsPerBlock(of: tensor)
    return stride(from: 0, to: rowCount, by: step).map {
      Job(tensor: index, rows: $0..<min($0 + step, rowCount), isSmall: false)
    }
  }

  /// A whole tensor that takes up W·z of the weight before it, or is not worth another thread.
  private mutating func small(_ source: TensorProduction, _ encoder: Writer.Encoder) throws -> Block {
    let product = source.tensor.use.flatMap { $0.role == .bias ? shiftProducts.removeValue(forKey: $0.node) : nil }
    return try Block(of: source, 0..<source.tensor.shape.rowCount, encoder, shiftProduct: product)
  }
}

/// Some rows of a tensor; those of small tensors are made by the writing thread.
private struct ConversionJob: Sendable {
  let tensor: Int
  let rows: Range<Int>
  let isSmall: Bool
}

/// A block on its way: encoded, with what the writing thread needs beside it.
private struct ConversionBlock<Encoder: TensorEncoder>: Sendable {
  var encoded: Encoder.Encoded?
  var shiftProduct: [Float]?
  var isFinite = true
  var times = ConversionTimes()

  init() {}

  /// Makes the block of each job; that of a small tensor is empty.
  static func producer(
    _ jobs: [ConversionJob], _ sources: [TensorProduction], _ encoder: Encoder
  ) -> @Sendable (Int) throws -> ConversionBlock {
    { index in
      let job = jobs[index]
      return try job.isSmall ? ConversionBlock() : ConversionBlock(of: sources[job.tensor], job.rows, encoder)
    }
  }

  init(
    of source: TensorProduction, _ rows: Range<Int>, _ encoder: Encoder, shiftProduct: [Float]? = nil
  ) throws {
    if case .alias = source.tensor.content { return }
    if let quantized = try source.quantized(rows) {
      source.view?.release(rows)
      self.shiftProduct = quantized.shiftProduct
      times.quantization = quantized.times
      encoded = try timed(&times.encode) { try encoder.encode(quantized, of: source.tensor) }
      return
    }
    (encoded, isFinite) = try timed(&times.encode) {
      try source.withPlainRows(rows, shiftProduct: shiftProduct) {
        try encoder.encode($0, rows: rows, of: source.tensor)
      }
    }
    source.view?.release(rows)
  }
}
