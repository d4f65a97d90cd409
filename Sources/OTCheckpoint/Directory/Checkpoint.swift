import OTFoundation
import OTTensor

/// A file that a checkpoint was read from.
package struct SourceFile: Sendable {
  /// The path by which it was opened.
  package let path: String
  /// Its path relative to the model's folder.
  package let name: String
  /// Its bytes.
  package let mapped: MappedFile

  init(_ mapped: MappedFile) {
    path = mapped.path
    name = mapped.path.lastPathComponent
    self.mapped = mapped
  }
}

/// The tensors of a model, from one file or several, of any format that is read.
///
/// Tensor data are not read before a view is asked for them.
package struct Checkpoint: Sendable {
  /// The format of the tensors' files; the same for all shards.
  package let format: CheckpointFormat
  /// The tensors in the order of files and of their places; names are unique.
  package let tensors: [TensorView]
  /// Every file read: an index and its shards, or one file.
  package let files: [SourceFile]
  /// Oddities that do not keep the checkpoint from being read.
  package let warnings: [String]
  /// The files beside the checkpoint that describe its model.
  package let attachments: ModelAttachments
  /// How the weights were quantized that are read as floats, in words; nil where none were.
  package let quantization: String?

  /// Every file that is read and those beside it, which must not be overwritten.
  package var inputs: [FileIdentity] {
    files.map(\.mapped.identity) + FileIdentity.all(Array(attachments.paths.values))
  }

  private let positions: [String: Int]

  init(_ contents: CheckpointContents, directory: String) throws {
    var attachments = ModelAttachments(directory: directory)
    attachments.replace(contents.made, areOriginal: true)
    let isFloat = contents.format == .gguf
    let floats = try isFloat ? nil : QuantizedSchemes.read(contents.tensors, beside: attachments)
    if let configuration = floats?.configuration {
      attachments.replace([.configuration: Array(configuration.text(pretty: true).utf8)], areOriginal: false)
    }
    let tensors = floats?.tensors ?? contents.tensors
    positions = try Checkpoint.positions(tensors)
    format = contents.format
    self.tensors = tensors
    files = contents.files
    warnings = contents.warnings + (floats?.warnings ?? [])
    self.attachments = attachments
    quantization = floats?.scheme ?? contents.quantization
  }

  /// Another's files with other tensors.
  init(_ checkpoint: Checkpoint, tensors: [TensorView]) throws {
    positions = try Checkpoint.positions(tensors)
    format = checkpoint.format
    self.tensors = tensors
    files = checkpoint.files
    warnings = checkpoint.warnings
    attachments = checkpoint.attachments
    quantization = checkpoint.quantization
  }

  private static func positions(_ tensors: [TensorView]) throws -> [String: Int] {
    var positions: [String: Int] = [:]
    for (position, tensor) in tensors.enumerated() {
      // Also names that only look alike: nothing behind this must mistake one for the other.
      guard positions.updateValue(position, forKey: tensor.name) == nil else {
        throw Refusal(
          "checkpoint-duplicate-name", "two tensors have this name, or look as if they had", file: tensor.file.path,
          tensor: tensor.name, byteOffset: tensor.byteOffset)
      }
    }
    return positions
  }

  /// The tensor of that name, or nil.
  package subscript(name: String) -> TensorView? {
    positions[name].map { tensors[$0] }.flatMap { $0.name.hasSameBytes(as: name) ? $0 : nil }
  }

  /// Names of tensors that show the same elements of the same bytes as an
  /// earlier one, and that one's name: tied weights.
  package var aliases: [String: String] {
    var firsts: [Elements: TensorView] = [:]
    var result: [String: String] = [:]
    for tensor in tensors {
      let elements = Elements(tensor)
      if let first = firsts[elements], first.sharesElements(with: tensor) {
        result[tensor.name] = first.name
      } else {
        firsts[elements] = tensor
      }
    }
    return result
  }

  /// Equal for views that may show the same elements.
  private struct Elements: Hashable {
    let device: UInt64
    let inode: UInt64
    let byteOffset: Int
    let shape: Shape
    let strides: [Int]
    let elementType: ElementType

    init(_ tensor: TensorView) {
      device = tensor.file.identity.device
      inode = tensor.file.identity.inode
      byteOffset = tensor.byteOffset
      shape = tensor.shape
      strides = tensor.strides
      elementType = tensor.elementType
    }
  }

  /// Checks that no file has changed since it was opened.
  ///
  /// - Throws: `Refusal` with rule `file-changed`.
  package func verifyUnchanged() throws {
    for file in files { try file.mapped.verifyUnchanged() }
  }
}

/// The contents of one file, or of an index with its shards.
struct CheckpointContents {
  let format: CheckpointFormat
  let tensors: [TensorView]
  let files: [SourceFile]
  var warnings: [String]
  /// What stands in the place of files beside the checkpoint.
  var made: [ModelAttachments.Kind: [UInt8]] = [:]
  /// How the weights were quantized that are read as floats, in words.
  var quantization: String?

  init(format: CheckpointFormat, tensors: [TensorView], files: [SourceFile], warnings: [String]) {
    (self.format, self.tensors, self.files, self.warnings) = (format, tensors, files, warnings)
  }

  /// The tensors of both, in this order.
  ///
  /// - Throws: `Refusal` with rule `directory-mixed-formats`.
  func joined(with other: CheckpointContents) throws -> CheckpointContents {
    guard format == other.format else {
      throw Refusal(
        "directory-mixed-formats",
        "is of format \(other.format.rawValue), the shards before it are of \(format.rawValue)",
        file: other.files.first?.path)
    }
    return CheckpointContents(
      format: format, tensors: tensors + other.tensors, files: files + other.files,
      warnings: warnings + other.warnings)
  }
}
