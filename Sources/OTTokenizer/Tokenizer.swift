import OTFoundation
import OTJSON

/// A tokenizer read from a Hugging Face `tokenizer.json`: text to token ids
/// and back, token for token as the package `tokenizers` (0.23).
///
/// ```swift
/// let tokenizer = try Tokenizer(path: "model/tokenizer.json")
/// let ids = tokenizer.encode("Hello", addSpecialTokens: true)
/// let text = tokenizer.decode(ids, skipSpecialTokens: true)
/// ```
///
/// Models: byte-pair encoding (byte-level or with Metaspace and byte fall
/// back), Unigram, WordPiece and WordLevel. The file's `truncation` and `padding`
/// are not applied; see `maximumLength`.
package struct Tokenizer: Sendable {
  let normalizer: Normalizer?
  let preTokenizer: PreTokenizer?
  let model: TokenModel
  let addedTokens: AddedTokens
  let postProcessor: PostProcessor
  let decoder: Decoder?

  /// Length to which the file asks to truncate, in tokens, special ones
  /// included; nil when it asks for none.
  package let maximumLength: Int?

  /// One more than the largest token id: what a model's embedding must have.
  package let vocabularySize: Int

  /// Builds a tokenizer from a parsed `tokenizer.json`.
  ///
  /// - Parameters:
  ///   - file: named in errors.
  ///   - additions: tokens to add to those of the file, list by list.
  /// - Throws: `Refusal` `tokenizer-syntax` (a member missing or of the wrong
  ///   kind), `tokenizer-unsupported` (a component this type lacks),
  ///   `tokenizer-regex` (a pattern it cannot run) or `tokenizer-vocabulary`
  ///   (tokens or merges that contradict each other).
  package init(json: JSONValue, file: String, adding additions: [[AddedToken]] = []) throws {
    let root = TokenizerSection(json: json, path: "", file: file)
    guard json.object != nil else {
      throw root.refusal("tokenizer-syntax", "is not a tokenizer: no JSON object")
    }
    normalizer = try root.optional("normalizer").map(Normalizer.init)
    preTokenizer = try root.optional("pre_tokenizer").map(PreTokenizer.init)
    model = try TokenModel(try root.section("model"))
    let listed = try (root.optional("added_tokens") == nil ? [] : root.sections("added_tokens")).map { section in
      // It must be there, and says nothing: see AddedTokens.
      _ = try section.count("id")
      return try AddedToken(section)
    }
    addedTokens = try AddedTokens([listed] + additions, to: model.vocabulary, normalizer: normalizer)
    postProcessor = try root.optional("post_processor").map(PostProcessor.init) ?? PostProcessor()
    decoder = try root.optional("decoder").map(Decoder.init)
    maximumLength = try root.optional("truncation").map { try $0.count("max_length") }
    vocabularySize =
      max(model.vocabulary.largestID, addedTokens.byID.keys.max() ?? -1, postProcessor.largestID ?? -1) + 1
  }

  /// Reads a `tokenizer.json`.
  ///
  /// - Throws: `Refusal`, as `init(json:file:)`, or with a rule `json-…` or
  ///   of `MappedFile`.
  package init(path: String) throws {
    let mapped = try MappedFile(path: path)
    self = try Tokenizer(json: try JSONValue.parse(contentsOf: mapped), file: path)
  }
}

// MARK: - Tokens

extension Tokenizer {
  /// The id of a token, spelled as in the vocabulary: `Ġthe`, `[CLS]`.
  package func id(of token: String) -> Int? {
    let text = TokenText(token)
    return addedTokens.ids[text] ?? model.vocabulary[text]
  }

  /// The spelling of a token in the vocabulary (of an added token, as it is
  /// found in the text); nil for an id without token.
  package func token(_ id: Int) -> String? {
    if let spelling = addedTokens.spellings[id] { return String(String.UnicodeScalarView(spelling)) }
    return model.vocabulary.text(id)
  }

  /// The tokens that `encode` puts before and after a text when it adds special ones.
  package var specialTokens: (leading: [Int], trailing: [Int]) { (postProcessor.leading, postProcessor.trailing) }

  /// True when decoding can leave the token out.
  package func isSpecial(_ id: Int) -> Bool { addedTokens.isSpecial(id) }
}

// MARK: - Encoding

extension Tokenizer {
  /// The token ids of `text`.
  ///
  /// - Parameter addSpecialTokens: whether to add what the file's
  ///   post-processor puts around a text (`[CLS]` … `[SEP]`, `<s>`). Special
  ///   tokens written in the text are found in any case.
  /// - Throws: `Refusal` `tokenizer-regex-limit` for a pattern that tries too many ways.
  /// - Complexity: O(n log n) in the length of the text.
  package func encode(_ text: String, addSpecialTokens: Bool) throws(Refusal) -> [Int] {
    var ids = addSpecialTokens ? postProcessor.leading : []
    let whole = Piece(text: Array(text.unicodeScalars), isFirst: true)
    for part in addedTokens.splitRaw(whole) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(var piece):
        if let normalizer {
          var keepsStart = true
          piece.text = try normalizer.normalize(piece.text, &keepsStart)
          piece.isFirst = piece.isFirst && keepsStart
        }
        try encode(normalized: piece, into: &ids)
      }
    }
    return addSpecialTokens ? ids + postProcessor.trailing : ids
  }

  /// The token ids of a text to continue: special tokens go before it, unless it begins with them.
  ///
  /// - Throws: as `encode`.
  package func encodePrompt(_ text: String) throws(Refusal) -> [Int] {
    let ids = try encode(text, addSpecialTokens: false)
    return (ids.starts(with: postProcessor.leading) ? [] : postProcessor.leading) + ids + postProcessor.trailing
  }

  /// The token ids of a text or of a pair of texts, with special tokens, and the segment of each.
  package struct Encoding: Sendable, Hashable {
    /// The tokens.
    package let tokenIDs: [Int]
    /// The segment of each token, as the pair's template has it.
    package let types: [Int]
    /// True when a text was cut.
    package let isCut: Bool
  }

  /// The token ids of a text, or of a pair, with special tokens.
  ///
  /// Where they are more than `limit`, special ones included, the ends of the texts are cut: of a pair that of the
  /// longer one, then of both, as the reference does ("longest first").
  ///
  /// - Throws: `Refusal` `tokenizer-unsupported` where the file does not say how a pair is put together, or as `encode`.
  package func encode(_ text: String, pair: String?, limit: Int?) throws(Refusal) -> Encoding {
    let first = try encode(text, addSpecialTokens: false)
    guard let pair else {
      let around = postProcessor.leading.count + postProcessor.trailing.count
      let kept = first.prefix(limit.map { max(0, $0 - around) } ?? first.count)
      let tokenIDs = postProcessor.leading + kept + postProcessor.trailing
      return Encoding(
        tokenIDs: tokenIDs, types: [Int](repeating: 0, count: tokenIDs.count), isCut: kept.count < first.count)
    }
    try checkPair()
    let second = try encode(pair, addSpecialTokens: false)
    let room = limit.map { max(0, $0 - postProcessor.pairSpecialCount) }
    let counts = Tokenizer.longestFirst(first.count, second.count, room: room ?? .max)
    let joined = postProcessor.joined(Array(first.prefix(counts.0)), Array(second.prefix(counts.1)))
    return Encoding(
      tokenIDs: joined.tokenIDs, types: joined.types, isCut: counts != (first.count, second.count))
  }

  private func checkPair() throws(Refusal) {
    guard postProcessor.hasPair else {
      throw Refusal("tokenizer-unsupported", "the tokenizer has several post-processors for a pair of texts")
    }
  }

  /// A text and a window of the tokens of another one, put together as a pair.
  package struct PairWindow: Sendable, Hashable {
    /// The tokens, special ones among them.
    package let tokenIDs: [Int]
    /// The segment of each token.
    package let types: [Int]
    /// The places of the window among the tokens.
    package let place: Range<Int>
    /// The tokens of the other text that it shows.
    package let window: Range<Int>
  }

  /// The pairs of a text with windows of the tokens of another one.
  ///
  /// - Parameters:
  ///   - limit: the most tokens of a pair, special ones included.
  ///   - overlap: the tokens that two windows share, at most half of a window.
  /// - Throws: `Refusal` `tokenizer-pair-length` where the text leaves no room, else as `encode(_:pair:limit:)`.
  package func windows(
    of tokenIDs: [Int], beside text: String, limit: Int, overlap: Int
  ) throws(Refusal) -> [PairWindow] {
    try checkPair()
    let first = try encode(text, addSpecialTokens: false)
    let room = limit - postProcessor.pairSpecialCount - first.count
    guard room > 0 else {
      throw Refusal(
        "tokenizer-pair-length",
        "the first text has \(first.count) tokens, which leave no room for the second among \(limit)",
        remedy: "shorten it")
    }
    var (windows, start): ([PairWindow], Int) = ([], 0)
    repeat {
      let window = start..<min(start + room, tokenIDs.count)
      let joined = postProcessor.joined(first, Array(tokenIDs[window]))
      windows.append(
        PairWindow(tokenIDs: joined.tokenIDs, types: joined.types, place: joined.second, window: window))
      start += room - min(overlap, room / 2)
    } while windows.last.map({ $0.window.upperBound < tokenIDs.count }) ?? false
    return windows
  }

  /// The tokens that are kept of two texts where there is room for so many.
  private static func longestFirst(_ first: Int, _ second: Int, room: Int) -> (Int, Int) {
    let (shorter, longer) = (min(first, second), max(first, second))
    guard shorter > room || longer > room - shorter else { return (first, second) }
    let kept = shorter <= room / 2 ? (shorter, room - shorter) : (room / 2, room - room / 2)
    return first <= second ? kept : (kept.1, kept.0)
  }

  /// The token ids of UTF-8 text; each maximal part that is no UTF-8 counts as
  /// one U+FFFD.
  package func encode(_ bytes: some Collection<UInt8>, addSpecialTokens: Bool) throws(Refusal) -> [Int] {
    try encode(String(decoding: bytes, as: UTF8.self), addSpecialTokens: addSpecialTokens)
  }

  private func encode(normalized whole: Piece, into ids: inout [Int]) throws(Refusal) {
    for part in addedTokens.splitNormalized(whole) {
      switch part {
      case .token(let id): ids.append(id)
      case .text(let piece):
        for word in try preTokenizer?.split(piece) ?? [piece] where !word.text.isEmpty {
          try model.encode(word.text, into: &ids)
        }
      }
    }
  }
}

// MARK: - Decoding

extension Tokenizer {
  /// The text of `ids`; ids without token are left out.
  ///
  /// Bytes that form no UTF-8 become U+FFFD. Encoding the text again need not
  /// give the same ids.
  package func decode(_ ids: some Sequence<Int>, skipSpecialTokens: Bool) -> String {
    let tokens: [[Unicode.Scalar]] = ids.compactMap { id in
      if skipSpecialTokens && isSpecial(id) { return nil }
      return token(id).map { Array($0.unicodeScalars) }
    }
    let parts = decoder?.decode(tokens) ?? [Array(tokens.joined(separator: [" "]))]
    return String(String.UnicodeScalarView(parts.joined()))
  }

  /// True for a token that stands for a byte, which decoding joins with the bytes around it.
  func isFallbackByte(_ id: Int) -> Bool {
    guard decoder?.joinsBytes == true, addedTokens.byID[id] == nil, let token = model.vocabulary.text(id) else {
      return false
    }
    return Decoder.fallbackByte(Array(token.unicodeScalars)) != nil
  }
}
