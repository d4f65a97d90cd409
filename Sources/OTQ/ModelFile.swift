import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTJSON

/// A model on disk: a packed `.otq` file, or a checkpoint (a file of
/// safetensors or of PyTorch, the index of a sharded one, or a folder in the
/// layout of Hugging Face).
///
/// ```swift
/// let file = try ModelFile(path: "model.otq")
/// for tensor in file.tensors { print(tensor.name, tensor.shape, tensor.storage) }
/// ```
///
/// Opening checks structure and reads names, not weights: it takes
/// milliseconds. The file stays mapped; it must not be truncated meanwhile.
public struct ModelFile: Sendable {
  enum Content: Sendable {
    case packed(PackedFile)
    /// With the files beside it, kept open: all are of one time.
    case checkpoint(Checkpoint, [ModelAttachments.Kind: MappedFile])
  }

  /// What running a model may need beside its tensors.
  private static let readAttachments: [ModelAttachments.Kind] = [
    .configuration, .generationConfiguration, .tokenizer, .tokenizerConfiguration, .sentenceModules, .pooling,
    .sentenceConfiguration,
  ]

  /// The path as it was given.
  public let path: String
  /// What is odd about a checkpoint but does not keep it from being read, a line each.
  public let warnings: [String]
  let content: Content

  /// Opens and checks a model.
  ///
  /// - Throws: ``Refusal`` with a rule `file-…`, `otq-…`, `graph-…`, `json-…`,
  ///   `directory-…`, `safetensors-…` or another of the readers'.
  public init(path: String) throws(Refusal) {
    self.path = path
    (content, warnings) = try refusing {
      if PackedFile.recognizes(path: path) { return (.packed(try PackedFile(path: path)), []) }
      let checkpoint = try Checkpoint.open(path)
      var attachments: [ModelAttachments.Kind: MappedFile] = [:]
      for kind in Self.readAttachments { attachments[kind] = try checkpoint.attachments.file(kind) }
      return (.checkpoint(checkpoint, attachments), checkpoint.warnings)
    }
  }

  /// Whether it is an `.otq` file.
  public var isPacked: Bool { if case .packed = content { true } else { false } }

  /// The tensors in the order of the file.
  public var tensors: [ModelTensor] {
    switch content {
    case .packed(let file): file.container.tensors.map { ModelTensor(file, $0) }
    case .checkpoint(let checkpoint, _): checkpoint.tensors.map(ModelTensor.init)
    }
  }

  /// The tensor of that name; nil when there is none.
  public func tensor(named name: String) -> ModelTensor? {
    switch content {
    case .packed(let file):
      file.container.tensors.first { $0.name == name }.map { ModelTensor(file, $0) }
    case .checkpoint(let checkpoint, _): checkpoint[name].map(ModelTensor.init)
    }
  }

  /// Reads all of a packed file and checks every byte: checksums, frames, codes, scales.
  ///
  /// Opening and loading check all but what is used in place, which they do not
  /// read: the codes of an uncompressed file. Damage there makes wrong numbers and nothing
  /// worse. A checkpoint has no checksums to check.
  /// - Parameter threadCount: the most threads that work at a time. Nil: all cores.
  /// - Throws: ``Refusal`` with a rule `otq-…`.
  public func verify(threadCount: Int? = nil) throws(Refusal) {
    guard case .packed(let file) = content else { return }
    try refusing {
      try file.container.verify(threadCount: threadCount ?? ProcessInfo.processInfo.activeProcessorCount)
    }
  }

  /// The files that hold its tensors.
  var files: [MappedFile] {
    switch content {
    case .packed(let file): [file.container.file]
    case .checkpoint(let checkpoint, _): checkpoint.files.map(\.mapped)
    }
  }

  /// The files that it is read from, which must not be overwritten.
  package var inputs: [FileIdentity] {
    switch content {
    case .packed(let file): [file.container.file.identity]
    case .checkpoint(let checkpoint, _): checkpoint.inputs
    }
  }

  /// A file that lies beside the checkpoint or is attached to the packed file;
  /// nil when there is none.
  ///
  /// - Throws: `Refusal` with a rule `file-…`, `otq-…` or `json-…`.
  func json(_ kind: ModelAttachments.Kind) throws -> JSONValue? {
    switch content {
    case .packed(let file):
      return try file.container.attachment(kind.rawValue)?.withUnsafeBytes {
        try JSONValue.parse($0, limits: .configuration, file: "\(path): \(kind.rawValue)")
      }
    case .checkpoint(_, let attachments): return try attachments[kind].map { try JSONValue.parse(contentsOf: $0) }
    }
  }

  /// The model's graph, made from configuration and names for a checkpoint.
  ///
  /// - Parameter family: the family of a checkpoint, instead of what its config.json says.
  /// - Throws: `Refusal` with rule `run-no-graph`, or as `Families.graph` throws.
  func graph(family: String? = nil) throws -> Graph {
    switch content {
    case .packed(let file):
      guard let graph = file.graph else {
        throw Refusal(
          "run-no-graph", "has no graph, since its model's family is unknown: it cannot be run",
          file: path, remedy: "convert a model of a known family, or name it with --family")
      }
      return graph
    case .checkpoint(let checkpoint, _):
      return try Families.graph(
        configuration: json(.configuration),
        tensors: TensorCatalog(checkpoint.tensors, file: checkpoint.files.first?.path), override: family)
    }
  }
}
