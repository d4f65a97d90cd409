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
