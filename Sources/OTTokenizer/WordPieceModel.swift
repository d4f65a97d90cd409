/// WordPiece: the longest token that begins the rest of a word, again and again.
struct WordPieceModel {
  let vocabulary: Vocabulary
  private let unknownID: Int
  private let prefix: [Unicode.Scalar]
  private let longestWordLength: Int

  init(_ model: TokenizerSection) throws {
    vocabulary = try Vocabulary(model)
    let unknown = try model.string("unk_token")
    guard let id = vocabulary[TokenText(unknown)] else {
      throw model.refusal("tokenizer-vocabulary", "unk_token '\(unknown)' is not a token")
    }
    unknownID = id
    prefix = Array((try model.optionalString("continuing_subword_prefix") ?? "##").unicodeScalars)
    longestWordLength = try model.count("max_input_chars_per_word", default: 100)
  }

  /// Appends the tokens of one word: the unknown token when it is too long or
  /// some part of it is no token.
  ///
  /// - Complexity: O(n) in the length of the word, times the square of the
  ///   longest token's length.
  func encode(_ word: [Unicode.Scalar], into ids: inout [Int]) {
    guard word.count <= longestWordLength else {
      ids.append(unknownID)
      return
    }
    let firstID = ids.count
    var start = 0
    while start < word.count {
      var end = min(word.count, start + vocabulary.longestTokenLength)
      var found: Int?
      while end > start {
        let part = word[start..<end]
        found = vocabulary[start > 0 ? TokenText(prefix + part) : TokenText(part)]
        if found != nil { break }
        end -= 1
      }
      guard let found else {
        ids.removeSubrange(firstID...)
        ids.append(unknownID)
        return
      }
      ids.append(found)
      start = end
    }
  }
}

/// A model that turns words into tokens.
enum TokenModel {
  case bytePair(BytePairModel)
  case wordPiece(WordPieceModel)

  init(_ section: TokenizerSection) throws {
    // Files older than the member `type` are told by their other members.
    let type =
      try section.optionalString("type")
      ?? (section.optional("merges") == nil ? "WordPiece" : "BPE")
    switch type {
    case "BPE": self = .bytePair(try BytePairModel(section))
    case "WordPiece": self = .wordPiece(try WordPieceModel(section))
    default: throw section.unsupported("a model of type '\(type)'")
    }
  }

  var vocabulary: Vocabulary {
    switch self {
    case .bytePair(let model): model.vocabulary
    case .wordPiece(let model): model.vocabulary
    }
  }

  func encode(_ word: [Unicode.Scalar], into ids: inout [Int]) {
    switch self {
    case .bytePair(let model): model.encode(word, into: &ids)
    case .wordPiece(let model): model.encode(word, into: &ids)
    }
  }
}
