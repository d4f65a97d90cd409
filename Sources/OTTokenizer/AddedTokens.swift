import OTFoundation
import OTJSON

/// A token that is found in the text before the model sees it.
package struct AddedToken: Sendable, Equatable {
  /// The text of the token in the vocabulary.
  package let content: String
  /// True when it counts only where no word goes on at its sides.
  var isSingleWord = false
  /// True when it takes the white space at its left and right with it.
  var stripsLeft = false
  var stripsRight = false
  /// True when it is looked for in the normalized text.
  var isNormalized: Bool
  /// True when decoding can leave it out.
  var isSpecial: Bool

  /// A token that counts everywhere and takes no white space with it.
  package init(_ content: String, isSpecial: Bool, isNormalized: Bool? = nil) {
    self.content = content
    self.isSpecial = isSpecial
    self.isNormalized = isNormalized ?? !isSpecial
  }

  init(_ section: TokenizerSection) throws {
    content = try section.string("content")
    isSingleWord = try section.bool("single_word", default: false)
    stripsLeft = try section.bool("lstrip", default: false)
    stripsRight = try section.bool("rstrip", default: false)
    isSpecial = try section.bool("special", default: false)
    isNormalized = try section.bool("normalized", default: !isSpecial)
    guard content.unicodeScalars.count <= AddedTokens.longestContent else {
      throw section.refusal("tokenizer-unsupported", "is longer than \(AddedTokens.longestContent) characters")
    }
  }

  /// An entry of `added_tokens`.
  func json(id: Int) -> JSONValue {
    .object([
      "id": .integer(id), "content": .string(content), "single_word": .bool(isSingleWord),
      "lstrip": .bool(stripsLeft), "rstrip": .bool(stripsRight), "normalized": .bool(isNormalized),
      "special": .bool(isSpecial),
    ])
  }

  /// True when content and every property are the same.
  package static func == (left: Self, right: Self) -> Bool {
    // Strings are equal when they only look alike.
    TokenText(left.content) == TokenText(right.content) && left.isSingleWord == right.isSingleWord
      && left.stripsLeft == right.stripsLeft && left.stripsRight == right.stripsRight
      && left.isNormalized == right.isNormalized && left.isSpecial == right.isSpecial
  }
}

/// The added tokens of a tokenizer.
struct AddedTokens {
  /// Longer added tokens are refused, so that finding them stays linear.
  static let longestContent = 1024

  private(set) var byID: [Int: AddedToken] = [:]
  /// The text that each is looked for by and decodes to: normalized where it is found in normalized text.
  private(set) var spellings: [Int: [Unicode.Scalar]] = [:]
  private(set) var ids: [TokenText: Int] = [:]
  /// Every content that was special once.
  private var special: Set<TokenText> = []
  private var raw = TokenTrie()
  private var normalized = TokenTrie()

  /// Adds tokens to those of a vocabulary, one list after the other, as the reference does: a token that is in
  /// the vocabulary has its id there, others get the ids from the vocabulary's count on, whatever the file
  /// says; one that is added again takes the later list's properties.
  init(_ lists: [[AddedToken]], to vocabulary: Vocabulary, normalizer: Normalizer?) throws(Refusal) {
    for list in lists {
      var next = max(vocabulary.count, (ids.values.max() ?? -1) + 1)
      for token in list where !token.content.isEmpty {
        let text = TokenText(token.content)
        if let id = ids[text], byID[id] == token { continue }
        let id = ids[text] ?? vocabulary[text] ?? next
        if id == next, ids[text] == nil, vocabulary[text] == nil { next += 1 }
        ids[text] = id
        byID[id] = token
        if token.isSpecial { special.insert(text) }
      }
    }
    // Where two are spelled alike, the special one is found.
    let order = byID.sorted { ($0.value.isSpecial ? 0 : 1, $0.key) < ($1.value.isSpecial ? 0 : 1, $1.key) }
    for (id, token) in order {
      let content = Array(token.content.unicodeScalars)
      let spelling = token.isNormalized ? try normalizer?.normalize(content) ?? content : content
      spellings[id] = spelling
      if token.isNormalized {
        normalized.insert(spelling, id: id)
      } else {
        raw.insert(spelling, id: id)
      }
    }
  }

  /// True when decoding can leave the token out.
  func isSpecial(_ id: Int) -> Bool { byID[id].map { special.contains(TokenText($0.content)) } ?? false }

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
struct TokenTrie {
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
