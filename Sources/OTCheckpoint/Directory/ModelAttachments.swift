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
  }

  /// The model's folder.
  package let directory: String
  /// Paths of the files that are there.
  package let paths: [Kind: String]

  /// Looks into `directory`.
  package init(directory: String) {
    self.directory = directory
    var paths: [Kind: String] = [:]
    for kind in Kind.allCases {
      let path = directory.appendingPathComponent(kind.rawValue)
      if FileIdentity(path: path) != nil { paths[kind] = path }
    }
    self.paths = paths
  }

  /// Path of a file, or nil when it is not there.
  package subscript(kind: Kind) -> String? { paths[kind] }

  /// Maps a file; nil when it is not there.
  ///
  /// - Throws: `Refusal` with a rule `file-…` when it cannot be read.
  package func file(_ kind: Kind) throws -> MappedFile? {
    try paths[kind].map { try MappedFile(path: $0) }
  }

  /// Reads and parses a file of JSON; nil when it is not there.
  ///
  /// - Throws: `Refusal` with a rule `file-…` or `json-…`.
  package func json(_ kind: Kind) throws -> JSONValue? {
    try file(kind).map { try JSONValue.parse(contentsOf: $0) }
  }
}
