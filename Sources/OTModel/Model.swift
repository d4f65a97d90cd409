import OTCheckpoint
import OTContainer
import OTFoundation
import OTGraph
import OTJSON
import OTTokenizer

/// A model in a file: packed, or a checkpoint.
package enum Model: Sendable {
  /// An `.otq` file.
  case packed(PackedModel)
  /// A checkpoint.
  case source(SourceModel)

  /// Opens the model that `path` leads to.
  ///
  /// - Parameter family: a checkpoint's family, where config.json and tensors do not say.
  /// - Throws: as `PackedModel` and `SourceModel` throw.
  package init(path: String, family: String? = nil) throws {
    self =
      PackedModel.recognizes(path: path)
      ? .packed(try PackedModel(path: path)) : .source(try SourceModel(path: path, family: family))
  }

  /// The path as it was given.
  package var path: String {
    switch self {
    case .packed(let model): model.path
    case .source(let model): model.path
    }
  }

  /// The files that hold its tensors.
  package var files: [MappedFile] {
    switch self {
    case .packed(let model): [model.container.file]
    case .source(let model): model.checkpoint.files.map(\.mapped)
    }
  }

  /// The files that it is read from, which must not be overwritten.
  package var inputs: [FileIdentity] {
    switch self {
    case .packed(let model): [model.container.file.identity]
    case .source(let model): model.checkpoint.inputs
    }
  }

  /// A file that lies beside the checkpoint or is attached to the packed file; nil when there is none.
  ///
  /// - Throws: `Refusal` with a rule `file-…`, `otq-…` or `json-…`.
  package func json(_ kind: ModelAttachments.Kind) throws -> JSONValue? {
    switch self {
    case .packed(let model):
      try model.container.attachment(name(of: kind, in: model))?.withUnsafeBytes {
        try JSONValue.parse($0, limits: .configuration, file: attachmentPath(kind))
      }
    case .source(let model): try model.attachments[kind].map { try JSONValue.parse(contentsOf: $0) }
    }
  }

  /// The name of an attached file: a pooling module's is where the list of modules has it.
  private func name(of kind: ModelAttachments.Kind, in model: PackedModel) throws -> String {
    guard kind == .pooling, let modules = try json(.sentenceModules) else { return kind.rawValue }
    return SentenceModules(modules).poolingName ?? kind.rawValue
  }

  private func attachmentPath(_ kind: ModelAttachments.Kind) -> String {
    switch self {
    case .packed: "\(path): \(kind.rawValue)"
    case .source(let model): model.attachments[kind]?.path ?? path
    }
  }

  /// The model's graph.
  ///
  /// - Throws: `Refusal` with rule `run-no-graph`, or as families refuse a checkpoint.
  package func graph() throws -> Graph {
    switch self {
    case .source(let model): return try model.graph()
    case .packed(let model):
      guard let graph = model.graph else {
        throw Refusal(
          "run-no-graph", "has no graph, since no family knows its model: it cannot be run",
          file: path, remedy: "convert a model of a known family")
      }
      return graph
    }
  }

  /// The model's tokenizer; nil where it has no `tokenizer.json`.
  ///
  /// - Throws: as `Tokenizer` throws.
  package func tokenizer() throws -> Tokenizer? {
    try json(.tokenizer).map { try Tokenizer(json: $0, file: attachmentPath(.tokenizer)) }
  }
}
