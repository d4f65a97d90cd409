import OTFoundation

/// A part of the text on its way to the model.
struct Piece {
  var text: [Unicode.Scalar]
  /// True when the text begins with this piece.
  var isFirst: Bool
}

/// Splits text into the words of the model: `pre_tokenizer` of tokenizer.json.
indirect enum PreTokenizer: Sendable {
  case sequence([PreTokenizer])
  case split(SplitPattern, SplitBehavior, isInverted: Bool)
  /// Spells the bytes of the text as characters, after splitting it as GPT-2.
  case byteLevel(addsPrefixSpace: Bool, splits: Bool)
  case metaspace(Metaspace)

  /// The pattern of GPT-2's tokenizer.
  private static let wordsOfGPT2 = SplitPattern.regex(
    RegularExpression(
      builtIn:
        #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#))

  init(_ section: TokenizerSection) throws {
    switch try section.type {
    case "Sequence":
      self = .sequence(try section.sections("pretokenizers").map(PreTokenizer.init))
    case "Split":
      self = .split(
        try SplitPattern(try section.section("pattern")), try SplitBehavior(section),
        isInverted: try section.bool("invert", default: false))
    case "ByteLevel":
      self = .byteLevel(
        addsPrefixSpace: try section.bool("add_prefix_space", default: true),
        splits: try section.bool("use_regex", default: true))
    case "Metaspace":
      self = .metaspace(try Metaspace(section))
    case "Digits":
      let isIndividual = try section.bool("individual_digits", default: false)
      // Unlike the patterns, this takes numbers of every version of Unicode.
      self = .split(
        .scalar { $0.properties.generalCategory.isNumber },
        isIndividual ? .isolated : .contiguous, isInverted: false)
    case "Whitespace":
      self = .sequence([Self.whitespace, Self.wordOrSymbols])
    case "WhitespaceSplit":
      self = Self.whitespace
    case "Punctuation":
      let behavior =
        section.optional("behavior") == nil ? .isolated : try SplitBehavior(section)
      self = .split(.scalar(\.isSplitPunctuation), behavior, isInverted: false)
    case "BertPreTokenizer":
      self = .sequence([
        Self.whitespace, .split(.scalar(\.isSplitPunctuation), .isolated, isInverted: false),
      ])
    case "CharDelimiterSplit":
      let delimiter = try section.scalar("delimiter")
      self = .split(.literal([delimiter]), .removed, isInverted: false)
    case let type:
      throw section.unsupported("a pre-tokenizer of type '\(type)'")
    }
  }

  private static let whitespace = PreTokenizer.split(
    .scalar(\.properties.isWhitespace), .removed, isInverted: false)

  /// `\w+|[^\w\s]+` where there is no white space.
  private static let wordOrSymbols = PreTokenizer.split(
    .scalar(\.isWord), .contiguous, isInverted: false)

  func split(_ piece: Piece) throws(Refusal) -> [Piece] {
    switch self {
    case .sequence(let steps):
      var pieces = [piece]
      for step in steps {
        var parts: [Piece] = []
        for piece in pieces { parts += try step.split(piece) }
        pieces = parts
      }
      return pieces
    case .split(let pattern, let behavior, let isInverted):
      return try piece.split(pattern, behavior, isInverted: isInverted)
    case .byteLevel(let addsPrefixSpace, let splits):
      var piece = piece
      if addsPrefixSpace, let first = piece.text.first, first != " " {
        piece.text.insert(" ", at: 0)
      }
      let words = splits ? try piece.split(Self.wordsOfGPT2, .isolated) : [piece]
      return words.map { Piece(text: ByteAlphabet.spell($0.text), isFirst: $0.isFirst) }
    case .metaspace(let metaspace):
      return try metaspace.split(piece)
    }
  }
}

extension Piece {
  func split(
    _ pattern: SplitPattern, _ behavior: SplitBehavior, isInverted: Bool = false
  ) throws(Refusal) -> [Piece] {
    let matches = try pattern.matches(in: text)
    if matches.isEmpty && !isInverted { return [self] }
    return behavior.split(count: text.count, at: matches, isInverted: isInverted).filter { !$0.isEmpty }.map {
      Piece(text: Array(text[$0]), isFirst: isFirst && $0.lowerBound == 0)
    }
  }
}

/// SentencePiece's spelling of spaces: `▁`, also before the first word.
struct Metaspace {
  private enum Scheme: String {
    case first, never, always
  }

  let replacement: Unicode.Scalar
  private let scheme: Scheme
  private let splits: Bool

  init(_ section: TokenizerSection) throws {
    replacement = try section.scalar("replacement")
    splits = try section.bool("split", default: true)
    let name = try section.optionalString("prepend_scheme")
    let addsPrefixSpace = try section.bool("add_prefix_space", default: true)
    guard let scheme = name.map(Scheme.init) ?? .some(addsPrefixSpace ? .always : .never) else {
      throw section.unsupported("the prepend_scheme '\(name ?? "")'")
    }
    guard addsPrefixSpace || scheme == .never else {
      throw section.refusal(
        "tokenizer-syntax", "add_prefix_space and prepend_scheme contradict each other")
    }
    self.scheme = scheme
  }

  func split(_ piece: Piece) throws(Refusal) -> [Piece] {
    var piece = piece
    piece.text = piece.text.map { $0 == " " ? replacement : $0 }
    let prepends = scheme == .always || (scheme == .first && piece.isFirst)
    if prepends, let first = piece.text.first, first != replacement {
      piece.text.insert(replacement, at: 0)
    }
    guard splits else { return [piece] }
    return try piece.split(.literal([replacement]), .mergedWithNext)
  }

  /// Turns the tokens of a text back: the first loses its space.
  func decode(_ tokens: [[Unicode.Scalar]]) -> [[Unicode.Scalar]] {
    tokens.enumerated().map { index, token in
      token.compactMap { scalar in
        guard scalar == replacement else { return scalar }
        return index == 0 && scheme != .never ? nil : " "
      }
    }
  }
}
