import OTFoundation
import OTJSON

/// The files beside a checkpoint that describe its model.
///
/// Only their presence is looked up; contents are read when asked for.
package struct ModelAttachments: Sendable {
  /// A file that may lie beside a checkpoint; raw values are paths relative to
  /// the model's folder.
  package enum Kind: String, Sendable, Hashable, CaseIterable {
    case configuration = "config.json"
    case generationConfiguration = "generation_config.json"
    case tokenizer = "tokenizer.json"
    case tokenizerConfiguration = "tokenizer_config.json"
    case specialTokens = "special_tokens_map.json"
    case addedTokens = "added_tokens.json"
    case sentencePiece = "tokenizer.model"
    case spiece = "spiece.model"
    case sentencePieceBPE = "sentencepiece.bpe.model"
    case vocabulary = "vocab.txt"
    case wordVocabulary = "vocab.json"
    case merges = "merges.txt"
    case sentenceModules = "modules.json"
    case pooling = "1_Pooling/config.json"
    case sentenceConfiguration = "sentence_bert_config.json"
    case chatTemplate = "chat_template.jinja"
    case chatTemplates = "chat_template.json"
    case sentencePrompts = "config_sentence_transformers.json"

    /// True for a file of JSON.
    package var isJSON: Bool { rawValue.hasSuffix(".json") }
  }

  /// The model's folder.
  package let directory: String
  /// Paths of the files that are there.
  package private(set) var paths: [Kind: String]
  /// Contents that were made of what the checkpoint says, in place of files.
  private var made: [Kind: [UInt8]] = [:]
  /// The name of the pooling module's configuration, relative to the folder of `modules.json`.
  private let poolingName: String

  /// Looks into `directory`, and into the folder above for what a model of sentence-transformers has
  /// beside the folder of its transformer.
  package init(directory: String) {
    self.directory = directory
    var paths: [Kind: String] = [:]
    func look(for kind: Kind, called name: String, in folder: String) {
      let path = folder.appendingPathComponent(name)
      // A link that leads nowhere is named when it is opened: its file was meant to be there.
      if FileIdentity(path: path) != nil || FileIdentity.deadLink(path) != nil { paths[kind] = path }
    }
    for kind in Kind.allCases { look(for: kind, called: kind.rawValue, in: directory) }
    var modules = SentenceModules(folder: directory)
    var root = directory
    if paths[.sentenceModules] == nil, let above = ModelAttachments.modules(above: directory) {
      (root, modules) = (directory.appendingPathComponent(".."), above)
      for kind in [Kind.sentenceModules, .sentencePrompts] { look(for: kind, called: kind.rawValue, in: root) }
    }
    poolingName = modules?.poolingName ?? Kind.pooling.rawValue
    if modules != nil {
      paths[.pooling] = nil
      look(for: .pooling, called: poolingName, in: root)
    }
    self.paths = paths
  }

  /// The modules that the folder above lists, where its transformer is the one in `directory`.
  private static func modules(above directory: String) -> SentenceModules? {
    guard let modules = SentenceModules(folder: directory.appendingPathComponent("..")) else { return nil }
    let name = directory.resolvedName
    return modules.transformer == name ? modules : nil
  }

  /// The name under which a file is packed: its path relative to the model's folder, or to that of its modules.
  package func name(of kind: Kind) -> String { kind == .pooling ? poolingName : kind.rawValue }

  /// Checks that files can be read as what their names say.
  ///
  /// - Throws: `Refusal` with a rule `json-…`, `file-is-git-lfs-pointer` or `file-is-html`.
  package static func check(_ file: MappedFile, as kind: Kind) throws {
    if kind.isJSON { return try JSONValue.check(contentsOf: file) }
    let content = FileContent(file.bytes)
    guard content != .gitLFSPointer, content != .html || kind == .chatTemplate else {
      throw content.refusal(reader: "file", wanted: "a \(kind.rawValue)", file: file.path)
    }
  }

  /// Path of a file, or nil when it is not there.
  package subscript(kind: Kind) -> String? { paths[kind] }

  /// Gives files other contents, or some to files that are not there.
  ///
  /// A tokenizer that is given takes the place of all files of one.
  /// - Parameter areOriginal: false where they are made of files that keep their paths.
  mutating func replace(_ contents: [Kind: [UInt8]], areOriginal: Bool) {
    let forms: [Kind] = [
      .tokenizer, .sentencePiece, .spiece, .sentencePieceBPE, .vocabulary, .wordVocabulary, .merges,
      .tokenizerConfiguration, .specialTokens, .addedTokens,
    ]
    if contents[.tokenizerConfiguration] != nil {
      for kind in forms { paths[kind] = nil }
    }
    if areOriginal { for kind in contents.keys { paths[kind] = nil } }
    made.merge(contents) { $1 }
  }

  /// Maps a file, or what stands in its place; nil when it is not there.
  ///
  /// - Throws: `Refusal` with a rule `file-…` when it cannot be read.
  package func file(_ kind: Kind) throws -> MappedFile? {
    if let content = made[kind] {
      return try MappedFile(madeOf: content, path: paths[kind] ?? directory.appendingPathComponent(kind.rawValue))
    }
    return try original(kind)
  }

  /// Maps a file as it is on disk; nil when it is not there.
  ///
  /// - Throws: as `file`.
  package func original(_ kind: Kind) throws -> MappedFile? { try paths[kind].map { try MappedFile(path: $0) } }

  /// Reads and parses a file of JSON; nil when it is not there.
  ///
  /// - Throws: `Refusal` with a rule `file-…` or `json-…`.
  package func json(_ kind: Kind) throws -> JSONValue? {
    try file(kind).map { try JSONValue.parse(contentsOf: $0) }
  }
}
