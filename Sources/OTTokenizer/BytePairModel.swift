import OTFoundation
import OTJSON

/// The result of merging two neighbouring tokens, and its rank.
struct Merge {
  /// Place in the list of merges; the lowest is applied first.
  let rank: UInt32
  let id: Int32
}

/// Byte-pair encoding (Sennrich et al., arXiv:1508.07909, section 3.2), over
/// bytes spelled as characters or, in the manner of SentencePiece, over
/// characters with a fall back to bytes.
struct BytePairModel {
  private struct Symbol {
    var id: Int32
    /// −1 at the ends of the word; a symbol merged into its left neighbour
    /// has next == −2.
    var previous: Int32
    var next: Int32
  }

  let vocabulary: Vocabulary
  private var merges: [UInt64: Merge] = [:]
  private let unknownID: Int?
  private let fusesUnknown: Bool
  private let byteTokens: ByteTokens?
  /// True when a word that is a token is taken whole, whatever the merges say.
  private let ignoresMerges: Bool
  private let prefix: [Unicode.Scalar]
  private let suffix: [Unicode.Scalar]

  init(_ model: TokenizerSection) throws {
    if let dropout = model.optional("dropout"), dropout.json.double != 0 {
      throw dropout.unsupported("dropout, which makes tokens random,")
    }
    vocabulary = try Vocabulary(model)
    fusesUnknown = try model.bool("fuse_unk", default: false)
    ignoresMerges = try model.bool("ignore_merges", default: false)
    prefix = Array((try model.optionalString("continuing_subword_prefix") ?? "").unicodeScalars)
    suffix = Array((try model.optionalString("end_of_word_suffix") ?? "").unicodeScalars)
    if let unknown = try model.optionalString("unk_token") {
      guard let id = vocabulary[TokenText(unknown)] else {
        throw model.refusal("tokenizer-vocabulary", "unk_token '\(unknown)' is not a token")
      }
      unknownID = id
    } else {
      unknownID = nil
    }
    byteTokens = try model.bool("byte_fallback", default: false) ? ByteTokens(vocabulary) : nil
    try readMerges(model)
  }

  private mutating func readMerges(_ model: TokenizerSection) throws {
    let list = try model.section("merges")
    guard let entries = list.json.array else { throw list.refusal("tokenizer-syntax", "is not a list") }
    merges.reserveCapacity(entries.count)
    // There may be hundreds of thousands: nothing is made for each.
    var (left, right): ([UInt8], [UInt8]) = ([], [])
    var rank: UInt32 = 0
    for (index, entry) in entries.enumerated() {
      func refusal(_ rule: String, _ message: String) -> Refusal {
        TokenizerSection(json: entry, path: "\(list.path)[\(index)]", file: list.file).refusal(rule, message)
      }
      if let text = entry.string, text.utf8.starts(with: "#version".utf8) { continue }
      guard Self.readPair(entry, &left, &right) else { throw refusal("tokenizer-syntax", "is not a pair of tokens") }
      let (leftID, rightID) = (vocabulary[left[...]], vocabulary[right[...]])
      let leftCount = left.count
      left += Self.dropping(prefix.count, of: right)
      guard let leftID, let rightID, let id = vocabulary[left[...]] else {
        let texts = [left[..<leftCount], right[...]].map { String(decoding: $0, as: UTF8.self) }
        throw refusal("tokenizer-vocabulary", "merges '\(texts[0])' and '\(texts[1])': no token")
      }
      merges[Self.key(Int32(leftID), Int32(rightID))] = Merge(rank: rank, id: Int32(id))
      rank += 1
    }
  }

  /// The two tokens of a merge, a text with one space between them or a list; false for anything else.
  private static func readPair(_ entry: JSONValue, _ left: inout [UInt8], _ right: inout [UInt8]) -> Bool {
    left.removeAll(keepingCapacity: true)
    right.removeAll(keepingCapacity: true)
    switch entry {
    case .string(let text):
      return text.withBytes { bytes in
        guard let space = bytes.firstIndex(of: UInt8(ascii: " ")) else { return false }
        left.append(contentsOf: bytes[..<space])
        right.append(contentsOf: bytes[(space + 1)...])
        return !right.contains(UInt8(ascii: " "))
      }
    case .array(let list):
      let texts = list.compactMap(\.string)
      guard texts.count == 2 else { return false }
      left.append(contentsOf: texts[0].utf8)
      right.append(contentsOf: texts[1].utf8)
      return true
    default: return false
    }
  }

  /// UTF-8 without its first `count` scalars.
  private static func dropping(_ count: Int, of bytes: [UInt8]) -> ArraySlice<UInt8> {
    var rest = bytes[...]
    for _ in 0..<count { rest = rest.dropFirst().drop { $0 & 0xC0 == 0x80 } }
    return rest
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  /// Appends the tokens of one word.
  ///
  /// - Complexity: O(n log n) in the length of the word.
  func encode(_ word: [Unicode.Scalar], into ids: inout [Int]) {
    if ignoresMerges, let id = vocabulary[TokenText(word)] {
      ids.append(id)
      return
    }
    let start = ids.count
    appendCharacters(of: word, to: &ids)
    guard ids.count - start > 1 else { return }
    let merged = merge(ids[start...])
    ids.removeSubrange(start...)
    ids.append(contentsOf: merged)
  }

  /// Appends the token of each character, its bytes, or the unknown token.
  private func appendCharacters(of word: [Unicode.Scalar], to ids: inout [Int]) {
    var hasPendingUnknown = false
    for index in word.indices {
      if let id = characterID(word, index) {
        if hasPendingUnknown, let unknownID { ids.append(unknownID) }
        hasPendingUnknown = false
        ids.append(id)
        continue
      }
      if let bytes = byteTokens?.ids(of: characterText(word, index).bytes) {
        // An unknown token that waits to be fused stays behind the bytes,
        // as in the reference.
        ids += bytes
        continue
      }
      if hasPendingUnknown, !fusesUnknown, let unknownID { ids.append(unknownID) }
      hasPendingUnknown = unknownID != nil
    }
    if hasPendingUnknown, let unknownID { ids.append(unknownID) }
  }

  private func characterID(_ word: [Unicode.Scalar], _ index: Int) -> Int? {
    if prefix.isEmpty && suffix.isEmpty { return vocabulary.scalarIDs[word[index]] }
    return vocabulary[characterText(word, index)]
  }

  private func characterText(_ word: [Unicode.Scalar], _ index: Int) -> TokenText {
    var text = index > 0 ? prefix : []
    text.append(word[index])
    if index == word.count - 1 { text += suffix }
    return TokenText(text)
  }

  private func merge(_ ids: ArraySlice<Int>) -> [Int] {
    let count = ids.count
    var symbols = ids.enumerated().map { index, id in
      Symbol(
        id: Int32(id), previous: Int32(index - 1),
        next: index + 1 < count ? Int32(index + 1) : -1)
    }
    var queue = MergeQueue()
    func enqueue(_ left: Int, _ right: Int) {
      if let merge = merges[Self.key(symbols[left].id, symbols[right].id)] {
        queue.insert(MergeCandidate(merge, at: left))
      }
    }
    for index in 1..<count { enqueue(index - 1, index) }
    while let candidate = queue.popFirst() {
      let place = candidate.place
      let next = Int(symbols[place].next)
      // The symbol is gone, is the last, or has another neighbour by now.
      guard next >= 0,
        merges[Self.key(symbols[place].id, symbols[next].id)]?.id == candidate.id
      else { continue }
      symbols[place].id = candidate.id
      let following = symbols[next].next
      symbols[place].next = following
      symbols[next].next = -2
      if following >= 0 { symbols[Int(following)].previous = Int32(place) }
      let previous = Int(symbols[place].previous)
      if previous >= 0 { enqueue(previous, place) }
      if following >= 0 { enqueue(place, Int(following)) }
    }
    return symbols.lazy.filter { $0.next != -2 }.map { Int($0.id) }
  }
}
