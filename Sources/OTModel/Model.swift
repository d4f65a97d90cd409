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

  /// The model's tokenizer, with what its configuration adds; nil where it has no files of one.
  ///
  /// - Throws: as `TokenizerFiles.tokenizer`.
  package func tokenizer() throws -> Tokenizer? { try tokenizerFiles.tokenizer() }

  /// The files of its tokenizer.
  fileprivate var tokenizerFiles: TokenizerFiles {
    TokenizerFiles(
      json: { name in try ModelAttachments.Kind(rawValue: name).flatMap { try json($0) } },
      bytes: { name in
        guard let kind = ModelAttachments.Kind(rawValue: name) else { return nil }
        switch self {
        case .packed(let model): return try model.container.attachment(name)
        case .source(let model):
          return model.attachments[kind].map { file in withExtendedLifetime(file) { Array(file.bytes) } }
        }
      },
      path: { name in ModelAttachments.Kind(rawValue: name).map(attachmentPath) ?? path })
  }
}

extension SourceModel {
  /// True where files of a tokenizer lie beside the checkpoint.
  package var hasTokenizer: Bool {
    let forms: [[ModelAttachments.Kind]] = [
      [.tokenizer], [.sentencePiece], [.spiece], [.sentencePieceBPE], [.wordVocabulary, .merges], [.vocabulary],
    ]
    return forms.contains { $0.allSatisfy { attachments[$0] != nil } }
  }

  /// The tokenizer.json that is made of older files; nil where there is one, or no other.
  ///
  /// - Throws: as `TokenizerFiles.translation`.
  package func madeTokenizer() throws -> [UInt8]? {
    guard attachments[.tokenizer] == nil else { return nil }
    return try Model.source(self).tokenizerFiles.translation().map { Array($0.json.text().utf8) }
  }
}
