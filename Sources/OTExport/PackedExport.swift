import OTContainer
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTTensor

/// Hands the tensors of an `.otq` file to a writer: their quantized values where it takes such, else dequantized, and
/// where asked for with the transforms undone.
///
/// Undone, weights become `rowScale · Ŵ / columnScale`; a bias that took up `W·z` gives back `Ŵ·z` of
/// the weights as they are now, so that the float function of the result is that of the packed
/// file. A bias that migration created has no place in the source's layout and is left out, and
/// with it the remainder `(W − Ŵ)·z` that it holds.
package struct PackedExport: Sendable {
  /// The file.
  package let file: PackedModel
  /// True when transforms are undone.
  package let isRestored: Bool
  /// Threads to use.
  package let threadCount: Int

  /// An export of a file.
  package init(_ file: PackedModel, isRestored: Bool, threadCount: Int = 1) {
    (self.file, self.isRestored, self.threadCount) = (file, isRestored, threadCount)
  }

  /// Names of the linears' biases that migration created, which the source's layout cannot hold: LLaMA's
  /// linears have none. Norms' biases and explicit shifts and scales are undone and leave nothing.
  package var leftOut: [String] {
    file.container.tensors.filter { $0.source == nil && file.uses[$0.name].map { $0.role == .bias } == true }
      .map(\.name)
  }

  /// The description of the model for writers; with transforms undone it has no graph, since migration changed that.
  private var model: ExportedModel {
    get throws {
      let tensors = file.container.tensors.filter { !isRestored || $0.source != nil }
      return ExportedModel(
        path: file.path, graph: isRestored ? nil : file.graph,
        tensors: tensors.map { stored in
          let use = file.uses[stored.name]
          // Quantized values are those of the transformed weights.
          let content: ExportedTensor.Content =
            isRestored && stored.scheme != nil && !(use?.isUnchanged ?? true) ? .plain(.f32) : stored.exportedContent
          return ExportedTensor(
            name: stored.name, shape: stored.shape, content: content, use: use, source: stored.source)
        },
        files: try file.container.attachmentNames.compactMap { name in
          try file.container.attachment(name).map { ExportedFile(name: name, bytes: $0) }
        })
    }
  }

  /// Writes the model; it appears whole or not at all.
  ///
  /// - Throws: `Refusal` with a rule `output-…`, `otq-…` or `value-overflow`, and as the writer refuses a model.
  package func run(into writer: some ModelWriter, progress: ((Int, Int) throws -> Void)? = nil) throws {
    if try file.offlineRotation() != nil {
      throw Refusal(
        "export-rotation", "its source was rotated before it was converted, and is not put back", file: file.path,
        remedy: "export the checkpoint that was converted")
    }
    let model = try model
    let tensors = try writer.accept(model)
    try writer.begin(tensors, of: model)
    let rows = PackedRows(file, isRestored: isRestored)
    let encoder = writer.encoder
    let jobs = tensors.indices.flatMap { index in
      rows.blocks(of: tensors[index], rowsPerBlock: encoder.rowsPerBlock(of: tensors[index])).map { (index, $0) }
    }
    let total = tensors.reduce(0) { $0 + $1.storedByteCount(.none) }
    var done = 0
    try OrderedPipeline.run(
      count: jobs.count, threadCount: threadCount, produce: PackedExport.producer(jobs, tensors, rows, encoder)
    ) { index, block in
      let tensor = tensors[jobs[index].0]
      try writer.write(block, of: tensor)
      if index == jobs.count - 1 || jobs[index + 1].0 != jobs[index].0 { try writer.finish(tensor) }
      done += tensor.storedByteCount(.none) / max(tensor.shape.rowCount, 1) * jobs[index].1.count
      try progress?(done, total)
    }
    try writer.commit(record)
  }

  private static func producer<Encoder: TensorEncoder>(
    _ jobs: [(Int, Range<Int>)], _ tensors: [ExportedTensor], _ rows: PackedRows, _ encoder: Encoder
  ) -> @Sendable (Int) throws -> Encoder.Encoded {
    { index in
      let (tensor, range) = (tensors[jobs[index].0], jobs[index].1)
      if tensor.scheme != nil { return try encoder.encode(rows.quantized(of: tensor, range), of: tensor) }
      return try rows.withBytes(of: tensor, range) { try encoder.encode($0, rows: range, of: tensor) }
    }
  }

  /// The file's record of its making.
  private var record: JSONObject {
    var record = JSONObject()
    for name in ["producer", "sourceFormat", "sourceQuantization", "family", "method", "options", "sources"] {
      record[name] = file.container.metadata[name]
    }
    record["restored"] = .bool(isRestored)
    return record
  }
}

extension StoredTensor {
  fileprivate var exportedContent: ExportedTensor.Content {
    switch content {
    case .alias(let target): .alias(of: target)
    case .plain(let type): .plain(type)
    case .quantized(let scheme, _, _): .quantized(scheme, rounding)
    }
  }
}
