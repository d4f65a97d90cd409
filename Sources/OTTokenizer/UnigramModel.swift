import OTFoundation

/// The unigram language model (Kudo, arXiv:1804.10959, section 3.2): of all ways to write a word in
/// tokens, the one whose scores have the largest sum.
struct UnigramModel {
  /// The score of a character without token is this much below the lowest.
  private static let unknownPenalty = 10.0

  let vocabulary: Vocabulary
  /// Logarithm of each token's probability, by id.
  private let scores: [Double]
  private let prefixes: TokenPrefixes
  private let unknownID: Int?
  private let unknownScore: Double
  private let byteTokens: ByteTokens?

  /// Reads `vocab` as `[[token, score], …]`: the place of a token is its id.
  init(_ model: TokenizerSection) throws {
    let list = try model.section("vocab")
    var tokens: [(text: String, id: Int32)] = []
    var scores: [Double] = []
    for (id, entry) in (list.json.array ?? []).enumerated() {
      guard let pair = entry.array, pair.count == 2, let text = pair[0].string, let score = pair[1].double else {
        throw list.refusal("tokenizer-syntax", "token \(id) is not a text with its score")
      }
      tokens.append((text, Int32(id)))
      scores.append(score)
    }
    guard list.json.array != nil else { throw list.refusal("tokenizer-syntax", "is not a list") }
    unknownID = model.optional("unk_id") == nil ? nil : try model.count("unk_id")
    if let unknownID, unknownID >= tokens.count {
      throw model.refusal("tokenizer-vocabulary", "unk_id \(unknownID) is not the id of a token")
    }
    vocabulary = Vocabulary(tokens)
    prefixes = TokenPrefixes(vocabulary)
    self.scores = scores
    unknownScore = (scores.min() ?? 0) - Self.unknownPenalty
    byteTokens = try model.bool("byte_fallback", default: false) ? ByteTokens(vocabulary) : nil
  }

  /// The best way to write the text before a place.
  private struct Node {
    var score = 0.0
    var start = -1
    var id = -1
  }

  /// Appends the tokens of one word.
  ///
  /// - Complexity: O(n) in the length of the word, times the longest token's length.
  func encode(_ word: [Unicode.Scalar], into ids: inout [Int]) throws(Refusal) {
    var text: [UInt8] = []
    for scalar in word { text.append(contentsOf: scalar.utf8) }
    var nodes = [Node](repeating: Node(), count: text.count + 1)
    var start = 0
    for scalar in word {
      let before = nodes[start].score
      let width = scalar.utf8.count
      var hasCharacter = false
      func offer(_ id: Int, _ score: Double, to end: Int) {
        if nodes[end].start < 0 || score > nodes[end].score { nodes[end] = Node(score: score, start: start, id: id) }
      }
      prefixes.forEachPrefix(of: text, from: start) { id, length in
        offer(id, before + scores[id], to: start + length)
        hasCharacter = hasCharacter || length == width
      }
      if !hasCharacter {
        guard let unknownID else { throw TokenModel.unknown(word) }
        offer(unknownID, before + unknownScore, to: start + width)
      }
      start += width
    }
    // From the end back; unknown tokens that follow one another are one.
    var pieces: [Range<Int>] = []
    var end = text.count
    var isUnknown = false
    while end > 0 {
      let node = nodes[end]
      if node.id == unknownID, isUnknown, let last = pieces.popLast() {
        pieces.append(node.start..<last.upperBound)
      } else {
        pieces.append(node.start..<end)
      }
      isUnknown = node.id == unknownID
      end = node.start
    }
    for piece in pieces.reversed() { try append(Array(text[piece]), to: &ids) }
  }

  /// A piece that is a token, or bytes, or unknown: unknown ones joined may be a token.
  private func append(_ piece: [UInt8], to ids: inout [Int]) throws(Refusal) {
    if let id = vocabulary[TokenText(bytes: piece)] {
      ids.append(id)
    } else if let bytes = byteTokens?.ids(of: piece) {
      ids += bytes
    } else if let unknownID {
      ids.append(unknownID)
    } else {
      throw TokenModel.unknown(String(decoding: piece, as: UTF8.self).unicodeScalars)
    }
  }
}

/// The tokens `<0x00>` … `<0xFF>`, for what has no token of its own.
struct ByteTokens {
  private let ids: [Int?]

  init(_ vocabulary: Vocabulary) {
    ids = (0..<256).map { byte in
      let digits = String(byte, radix: 16, uppercase: true)
      return vocabulary[TokenText("<0x\(byte < 16 ? "0" : "")\(digits)>")]
    }
  }

  /// The tokens of bytes; nil when one of them has none.
  func ids(of bytes: [UInt8]) -> [Int]? {
    let found = bytes.compactMap { ids[Int($0)] }
    return found.count == bytes.count ? found : nil
  }
}
