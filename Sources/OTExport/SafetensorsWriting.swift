import OTCheckpoint
import OTFoundation
import OTJSON
import OTQuantization
import OTTensor

/// Encodes the blocks of formats that hold the source's tensors as floats.
package struct FloatEncoder: TensorEncoder {
  /// Elements of some rows of a parameter.
  package struct Encoded: Sendable {
    let bytes: [UInt8]
    let rows: Range<Int>
  }

  /// Encodes rows of a quantized tensor.
  package func encode(_ rows: QuantizedRows, of tensor: ExportedTensor) throws -> Encoded {
    preconditionFailure("asked for no quantized tensor")
  }

  /// Encodes rows of another tensor.
  package func encode(_ bytes: UnsafeRawBufferPointer, rows: Range<Int>, of tensor: ExportedTensor) throws -> Encoded {
    Encoded(bytes: Array(bytes), rows: rows)
  }
}

/// Writes source tensors into one or several safetensors files, one after another.
final class SafetensorsFiles {
  /// The tensors of each file, in the order in which they are written.
  let files: [[SourceEntry]]
  private let path: (Int) -> String
  private let force: Bool
  private let inputs: [FileIdentity]
  private var writer: SafetensorsWriter?
  private var file = 0
  private var entry = 0
  private var part = 0
  private var buffer: SourceTensorBuffer?

  /// - Parameters:
  ///   - byteCount: the most bytes of a file, one tensor at least; nil for one file.
  ///   - path: the path of each file by its number.
  init(
    _ entries: [SourceEntry], byteCount: Int?, force: Bool, inputs: [FileIdentity], path: @escaping (Int) -> String
  ) {
    var files: [[SourceEntry]] = [[]]
    var size = 0
    for entry in entries {
      if let byteCount, size + entry.byteCount > byteCount, !(files.last ?? []).isEmpty {
        files.append([])
        size = 0
      }
      files[files.count - 1].append(entry)
      size += entry.byteCount
    }
    self.files = files.map { entries in
      let byName = Dictionary(entries.map { ($0.entry.name, $0) }, uniquingKeysWith: { first, _ in first })
      return SafetensorsWriter.Entry.aligned(entries.map(\.entry)).compactMap { byName[$0.name] }
    }
    (self.path, self.force, self.inputs) = (path, force, inputs)
  }

  /// The parameters in the order in which they must come.
  var tensors: [ExportedTensor] { files.flatMap { $0.flatMap { $0.parts.map(\.tensor) } } }

  func begin() throws {
    writer = try SafetensorsWriter(
      path: path(file), entries: files[file].map(\.entry), force: force, inputs: inputs)
  }

  func write(_ block: FloatEncoder.Encoded) throws {
    let current = files[file][entry]
    if current.isStreamed {
      try writer?.append(block.bytes)
    } else {
      if buffer == nil { buffer = SourceTensorBuffer(current) }
      buffer?.put(block.bytes, rows: block.rows, of: current.parts[part].place)
    }
  }

  func finishPart() throws {
    part += 1
    guard part == files[file][entry].parts.count else { return }
    if let bytes = buffer?.bytes { try writer?.append(bytes) }
    (buffer, part, entry) = (nil, 0, entry + 1)
    guard entry == files[file].count, file + 1 < files.count else { return }
    try commit()
    (file, entry) = (file + 1, 0)
    try begin()
  }

  /// Gives the last file its name.
  func commit() throws {
    if let writer = writer.take() { try writer.commit() }
  }
}

/// Writes the source's tensors as one safetensors file, and nothing beside it.
package final class SafetensorsFileWriter: ModelWriter {
  /// The format's name.
  package static let format = "safetensors-file"
  /// What the format is.
  package static let traits = FormatTraits("one file of tensors", .file, isOfFloats: true)
  /// The output.
  package let output: ExportOutput
  /// The encoder of blocks.
  package let encoder = FloatEncoder()
  private var files: SafetensorsFiles?

  /// A writer that has not begun.
  package init(_ output: ExportOutput) { self.output = output }

  /// The tensors that it takes of a model, in the order of writing.
  package func accept(_ model: ExportedModel) throws -> [ExportedTensor] {
    try AtomicFile.check([output.path], force: output.force, inputs: output.inputs)
    let path = output.path
    let files = SafetensorsFiles(
      try SourceEntry.all(of: model, elementType: output.elementType), byteCount: nil, force: output.force,
      inputs: output.inputs, path: { _ in path })
    self.files = files
    return files.tensors
  }

  /// Bytes that the tensors hardly stay below.
  package func leastByteCount(of tensors: [ExportedTensor]) -> Int {
    tensors.reduce(0) { $0 + $1.storedByteCount(.none) }
  }

  /// Begins the output.
  package func begin(_ tensors: [ExportedTensor], of model: ExportedModel) throws { try files?.begin() }
  /// Writes the next block of the current tensor.
  package func write(_ block: FloatEncoder.Encoded, of tensor: ExportedTensor) throws { try files?.write(block) }
  /// Ends the current tensor.
  package func finish(_ tensor: ExportedTensor) throws { try files?.finishPart() }
  /// Ends the output and gives it its name.
  package func commit(_ record: JSONObject) throws { try files?.commit() }
}
