import OTContainer
import OTFoundation
import OTJSON
import OTQuantization
import OTTensor

/// Writes `.otq` files.
package final class OTQWriter: ModelWriter {
  /// The format's name.
  package static let format = "otq"
  /// What the format is.
  package static let traits = FormatTraits("a packed file, for this package", .file)
  /// The output.
  package let output: ExportOutput
  /// The encoder of blocks.
  package let encoder: OTQEncoder
  /// Judges the whole file before it has its name: see `ContainerWriter.commit`.
  package var approve: ((_ path: String) throws -> JSONObject)?
  /// The part of the model that the file holds; nil: all of it.
  package var part: Part?
  /// Keeps what was written, to go on with it; nil: what is not whole is not kept.
  package var work: ResumableWork?
  /// The records of the tensors that an earlier writer of the work has written.
  package private(set) var adopted: [JSONObject] = []
  private var container: ContainerWriter?
  private var firstExtent = 0
  /// The current tensor's scales, zero points and error, gathered block by block.
  private var current = QuantizedRows(rows: 0..<0)

  /// A writer that has not begun.
  package init(_ output: ExportOutput) {
    self.output = output
    encoder = OTQEncoder(chunks: ChunkEncoder(output.compression))
  }

  /// The tensors that it takes of a model, in the order of writing.
  package func accept(_ model: ExportedModel) throws -> [ExportedTensor] {
    try AtomicFile.check([output.path], force: output.force, inputs: output.inputs)
    return part.map { part in model.tensors.filter { part.names.contains($0.name) } } ?? model.tensors
  }

  /// Tensors of a model, and whether the files that go with it are among them.
  package struct Part: Sendable {
    let names: Set<String>
    let hasFiles: Bool

    /// A part with these tensors.
    package init(names: some Sequence<String>, hasFiles: Bool) {
      (self.names, self.hasFiles) = (Set(names), hasFiles)
    }
  }

  /// Bytes that the tensors hardly stay below.
  package func leastByteCount(of tensors: [ExportedTensor]) -> Int {
    let stored = tensors.reduce(0) { $0 + $1.storedByteCount(output.compression) }
    return output.compression == .none ? stored : stored / 10 * 7
  }

  /// Begins the output.
  package func begin(_ tensors: [ExportedTensor], of model: ExportedModel) throws {
    let container = try ContainerWriter(
      path: output.path, force: output.force, inputs: output.inputs, encoder: encoder.chunks, work: work)
    for file in part?.hasFiles ?? true ? model.files : [] {
      try file.withBytes { try container.addAttachment(name: file.name, $0) }
    }
    adopted = try container.adopt(tensors.map(\.name))
    self.container = container
    firstExtent = container.extentCount
  }

  /// Writes the next block of the current tensor.
  package func write(_ block: OTQEncoder.Encoded, of tensor: ExportedTensor) throws {
    for chunk in block.chunks { try container?.append(chunk) }
    guard let rows = block.rows else { return }
    current.scales += rows.scales
    current.zeroPoints += rows.zeroPoints
    current.statistics = current.statistics.merged(with: rows.statistics)
  }

  /// Ends the current tensor.
  package func finish(_ tensor: ExportedTensor) throws {
    guard let container else { return }
    let extents = firstExtent..<container.extentCount
    switch tensor.content {
    case .alias(let target):
      container.addAlias(name: tensor.name, of: target, shape: tensor.shape, source: tensor.source)
    case .plain(let type):
      container.addPlain(
        name: tensor.name, shape: tensor.shape, elementType: type, values: extents, source: tensor.source)
    case .quantized(let scheme, let rounding):
      let decibels = current.statistics.sqnrDecibels
      try container.addQuantized(
        name: tensor.name, shape: tensor.shape, scheme: scheme, codes: extents, scales: current.scales,
        zeroPoints: current.zeroPoints, rounding: rounding, source: tensor.source,
        error: QuantizationError(
          sqnrDecibels: decibels.isFinite ? decibels : nil,
          maximumInSteps: Double(current.statistics.maximumErrorInSteps)))
    }
    firstExtent = container.extentCount
    current = QuantizedRows(rows: 0..<0)
  }

  /// Keeps the tensor that was ended last.
  package func keep(_ record: JSONObject) throws { try container?.keep(record) }

  /// Ends the output and gives it its name.
  package func commit(_ record: JSONObject) throws {
    try container?.commit(metadata: record, approving: approve)
  }
}

/// Encodes the blocks of `.otq` files.
package struct OTQEncoder: TensorEncoder {
  /// Chunks of a block, and for quantized rows what goes with their values.
  package struct Encoded: Sendable {
    let chunks: [EncodedChunk]
    let rows: QuantizedRows?
  }

  let chunks: ChunkEncoder

  /// Rows of a block of the tensor.
  package func rowsPerBlock(of tensor: ExportedTensor) -> Int {
    guard let type = tensor.plainType else {
      let layout = TileLayout(rowCount: tensor.shape.rowCount, columnCount: tensor.shape.rowElementCount)
      return ChunkEncoder.rowTilesPerChunk(layout) * TileLayout.tileRowCount
    }
    return ChunkEncoder.rowsPerChunk(rowByteCount: tensor.shape.rowElementCount * type.bitWidth / 8)
  }

  /// Encodes rows of a quantized tensor.
  package func encode(_ rows: QuantizedRows, of tensor: ExportedTensor) throws -> Encoded {
    guard case .quantized(let scheme, _) = tensor.content else { preconditionFailure("not quantized") }
    let chunk = try chunks.encode(rows: rows.values, columnCount: tensor.shape.rowElementCount, bits: scheme.bits)
    var rest = rows
    rest.values = []
    return Encoded(chunks: [chunk], rows: rest)
  }

  /// Encodes rows of another tensor.
  package func encode(_ bytes: UnsafeRawBufferPointer, rows: Range<Int>, of tensor: ExportedTensor) throws -> Encoded {
    // A whole tensor may be longer than a chunk.
    let isWhole = rows.count == tensor.shape.rowCount
    return Encoded(chunks: try isWhole ? chunks.encode(plane: bytes) : [chunks.encode(bytes)], rows: nil)
  }
}
