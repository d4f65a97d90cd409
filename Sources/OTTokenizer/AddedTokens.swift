import OTFoundation
import OTJSON

/// A token that is found in the text before the model sees it.
struct AddedToken {
  let id: Int
  let content: [Unicode.Scalar]
  /// The text that is looked for and that decoding gives: the normalized content of a
  /// token that is found in normalized text.
  let spelling: [Unicode.Scalar]
  /// True when it counts only where no word goes on at its sides.
  let isSingleWord: Bool
  /// True when it takes the white space at its left and right with it.
  let stripsLeft: Bool
  let stripsRight: Bool
  /// True when it is looked for in the normalized text.
  let isNormalized: Bool
  /// True when decoding can leave it out.
  let isSpecial: Bool

  fileprivate init(_ section: TokenizerSection, normalizer: Normalizer?) throws {
    id = try section.count("id")
    content = try section.scalars("content")
    isSingleWord = try section.bool("single_word", default: false)
    stripsLeft = try section.bool("lstrip", default: false)
    stripsRight = try section.bool("rstrip", default: false)
    isSpecial = try section.bool("special", default: false)
    isNormalized = try section.bool("normalized", default: !isSpecial)
    spelling = isNormalized ? try normalizer?.normalize(content) ?? content : content
  }
}

/// The added tokens of a tokenizer.
struct AddedTokens {
  /// Longer added tokens are refused, so that finding them stays linear.
  private static let longestContent = 1024

  let byID: [Int: AddedToken]
  let byText: [TokenText: AddedToken]
  private let raw: TokenTrie
  private let normalized: TokenTrie

  /// Reads `added_tokens`. A token of the vocabulary must have its id there.
  init(_ root: TokenizerSection, vocabulary: Vocabulary, normalizer: Normalizer?) throws {
    var byID: [Int: AddedToken] = [:]
    var byText: [TokenText: AddedToken] = [:]
    var raw = TokenTrie()
    var normalized = TokenTrie()
    let sections = root.optional("added_tokens") == nil ? [] : try root.sections("added_tokens")
    let tokens = try sections.map { section in
      let token = try AddedToken(section, normalizer: normalizer)
      guard token.content.count <= Self.longestContent else {
        throw section.refusal(
          "tokenizer-unsupported", "is longer than \(Self.longestContent) characters")
      }
      if let id = vocabulary[TokenText(token.content)], id != token.id {
        throw section.refusal(
          "tokenizer-vocabulary", "has id \(token.id) here and \(id) in the vocabulary")
      }
      return token
    }
    // Where two are spelled alike, the special one is found.
    for token in tokens.filter(\.isSpecial) + tokens.filter({ !$0.isSpecial })
    where !token.content.isEmpty {
      byID[token.id] = token
      let text = TokenText(token.content)
      if byText[text] == nil { byText[text] = token }
      if token.isNormalized {
        normalized.insert(token.spelling, id: token.id)
      } else {
        raw.insert(token.spelling, id: token.id)
      }
    }
    self.byID = byID
    self.byText = byText
    self.raw = raw
    self.normalized = normalized
  }

  /// A part of the text between added tokens, or the id of an added token.
  enum Part {
    case text(Piece)
    case token(Int)
  }

  /// Splits at the tokens that are looked for before normalizing.
  func splitRaw(_ piece: Piece) -> [Part] { split(piece, raw) }

  /// Splits normalized text at the tokens that are looked for there.
  func splitNormalized(_ piece: Piece) -> [Part] { split(piece, normalized) }

  private func split(_ piece: Piece, _ trie: TokenTrie) -> [Part] {
    let text = piece.text
    if trie.isEmpty || text.isEmpty { return [.text(piece)] }
    var parts: [Part] = []
    var done = 0
    func appendText(_ range: Range<Int>) {
      guard !range.isEmpty else { return }
      let isFirst = piece.isFirst && range.lowerBound == 0
      parts.append(.text(Piece(text: Array(text[range]), isFirst: isFirst)))
    }
    var position = 0
    while position < text.count {
      guard let (id, end) = trie.longestMatch(in: text, at: position), let token = byID[id] else {
        position += 1
        continue
      }
      var start = position
      var stop = end
      position = end
      if token.isSingleWord {
        let joinsLeft = start > 0 && text[start - 1].isWord
        let joinsRight = stop < text.count && text[stop].isWord
        if joinsLeft || joinsRight { continue }
      }
      if token.stripsLeft {
        while start > done, text[start - 1].properties.isWhitespace { start -= 1 }
      }
      if token.stripsRight {
        while stop < text.count, text[stop].properties.isWhitespace { stop += 1 }
      }
      if done < start { appendText(done..<start) }
      parts.append(.token(id))
      done = stop
    }
    appendText(done..<text.count)
    return parts
  }
}

/// Finds the longest of several texts that begins at a place.
private struct TokenTrie {
  private struct Node {
    var children: [Unicode.Scalar: Int] = [:]
    var id: Int?
  }
  private var nodes = [Node()]

  var isEmpty: Bool { nodes.count == 1 }

  /// The first id stays when a text is inserted twice.
  mutating func insert(_ text: [Unicode.Scalar], id: Int) {
    guard !text.isEmpty else { return }
    var node = 0
    for scalar in text {
      if let child = nodes[node].children[scalar] {
        node = child
      } else {
        nodes[node].children[scalar] = nodes.count
        node = nodes.count
        nodes.append(Node())
      }
    }
    if nodes[node].id == nil { nodes[node].id = id }
  }

  func longestMatch(in text: [Unicode.Scalar], at start: Int) -> (id: Int, end: Int)? {
    var node = 0
    var match: (id: Int, end: Int)?
    var position = start
    while position < text.count, let child = nodes[node].children[text[position]] {
      node = child
      position += 1
      if let id = nodes[node].id { match = (id, position) }
    }
    return match
  }
}
