import OTFoundation

/// A model that turns words into tokens.
enum TokenModel {
  case bytePair(BytePairModel)
  case wordPiece(WordPieceModel)
  case wordLevel(WordLevelModel)
  case unigram(UnigramModel)

  init(_ section: TokenizerSection) throws {
    switch try section.optionalString("type") ?? Self.untypedKind(section) {
    case "BPE": self = .bytePair(try BytePairModel(section))
    case "WordPiece": self = .wordPiece(try WordPieceModel(section))
    case "WordLevel": self = .wordLevel(try WordLevelModel(section))
    case "Unigram": self = .unigram(try UnigramModel(section))
    case let type: throw section.unsupported("a model of type '\(type)'")
    }
  }

  /// Files older than the member `type` are told by their other members.
  private static func untypedKind(_ section: TokenizerSection) -> String {
    if section.optional("merges") != nil { return "BPE" }
    return section.optional("vocab")?.json.array == nil ? "WordPiece" : "Unigram"
  }

  var vocabulary: Vocabulary {
    switch self {
    case .bytePair(let model): model.vocabulary
    case .wordPiece(let model): model.vocabulary
    case .wordLevel(let model): model.vocabulary
    case .unigram(let model): model.vocabulary
    }
  }

  /// Appends the tokens of one word.
  ///
  /// - Throws: `Refusal` `tokenizer-unknown` for a word that has no tokens where the model has no unknown token.
  func encode(_ word: [Unicode.Scalar], into ids: inout [Int]) throws(Refusal) {
    switch self {
    case .bytePair(let model): model.encode(word, into: &ids)
    case .wordPiece(let model): model.encode(word, into: &ids)
    case .wordLevel(let model): try model.encode(word, into: &ids)
    case .unigram(let model): try model.encode(word, into: &ids)
    }
  }

  /// The refusal of a word for which there is no token.
  static func unknown(_ word: some Sequence<Unicode.Scalar>) -> Refusal {
    let text = Refusal.printable(String(String(String.UnicodeScalarView(word)).prefix(80)))
    return Refusal("tokenizer-unknown", "has no token for '\(text)', and no unknown token")
  }
}

/// Words as tokens.
struct WordLevelModel {
  let vocabulary: Vocabulary
  private let unknownID: Int?

  init(_ model: TokenizerSection) throws {
    vocabulary = try Vocabulary(model)
    unknownID = vocabulary[TokenText(try model.string("unk_token"))]
  }

  func encode(_ word: [Unicode.Scalar], into ids: inout [Int]) throws(Refusal) {
    guard let id = vocabulary[TokenText(word)] ?? unknownID else { throw TokenModel.unknown(word) }
    ids.append(id)
  }
}
