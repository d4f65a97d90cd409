import OTFoundation

/// Turns the texts of tokens back into plain text: `decoder`.
indirect enum Decoder: Sendable {
  case sequence([Decoder])
  case byteLevel
  case wordPiece(prefix: [Unicode.Scalar], cleansUp: Bool)
  case bytePair(suffix: [Unicode.Scalar])
  case metaspace(Metaspace)
  case byteFallback
  case fuse
  case strip(Unicode.Scalar, start: Int, stop: Int)
  case replace(SplitPattern, [Unicode.Scalar])

  init(_ section: TokenizerSection) throws {
    switch try section.type {
    case "Sequence": self = .sequence(try section.sections("decoders").map(Decoder.init))
    case "ByteLevel": self = .byteLevel
    case "WordPiece":
      self = .wordPiece(
        prefix: Array((try section.optionalString("prefix") ?? "##").unicodeScalars),
        cleansUp: try section.bool("cleanup", default: true))
    case "BPEDecoder":
      self = .bytePair(
        suffix: Array((try section.optionalString("suffix") ?? "</w>").unicodeScalars))
    case "Metaspace": self = .metaspace(try Metaspace(section))
    case "ByteFallback": self = .byteFallback
    case "Fuse": self = .fuse
    case "Strip":
      self = .strip(
        try section.scalar("content"), start: try section.count("start", default: 0),
        stop: try section.count("stop", default: 0))
    case "Replace":
      self = .replace(
        try SplitPattern(try section.section("pattern")), try section.scalars("content"))
    case let type: throw section.unsupported("a decoder of type '\(type)'")
    }
  }

  func decode(_ tokens: [[Unicode.Scalar]]) -> [[Unicode.Scalar]] {
    switch self {
    case .sequence(let steps): return steps.reduce(tokens) { $1.decode($0) }
    case .byteLevel: return [Self.joinBytes(tokens)]
    case .wordPiece(let prefix, let cleansUp):
      return tokens.enumerated().map { index, token in
        var token = token
        if index > 0 {
          let continues = token.starts(with: prefix)
          token = continues ? Array(token.dropFirst(prefix.count)) : [" "] + token
        }
        return cleansUp ? Self.cleanUp(token) : token
      }
    case .bytePair(let suffix):
      return tokens.enumerated().map { index, token in
        let isLast = index == tokens.count - 1
        return Self.replacing(.literal(suffix), in: token, with: isLast ? [] : [" "])
      }
    case .metaspace(let metaspace): return metaspace.decode(tokens)
    case .byteFallback: return Self.joinFallbackBytes(tokens)
    case .fuse: return [Array(tokens.joined())]
    case .strip(let scalar, let start, let stop):
      return tokens.map { token in
        let leading = min(start, token.prefix { $0 == scalar }.count)
        let rest = token.dropFirst(leading)
        let trailing = min(stop, rest.reversed().prefix { $0 == scalar }.count)
        return Array(rest.dropLast(trailing))
      }
    case .replace(let pattern, let content):
      return tokens.map { Self.replacing(pattern, in: $0, with: content) }
    }
  }

  /// The token with every match replaced; as it is where the pattern tries too many ways.
  private static func replacing(_ pattern: SplitPattern, in token: [Unicode.Scalar], with content: [Unicode.Scalar])
    -> [Unicode.Scalar]
  {
    (try? pattern.replacing(in: token, with: content).text) ?? token
  }

  /// Reads the byte alphabet; a token not written in it stands for itself.
  private static func joinBytes(_ tokens: [[Unicode.Scalar]]) -> [Unicode.Scalar] {
    var bytes: [UInt8] = []
    for token in tokens {
      let start = bytes.count
      for scalar in token {
        guard let byte = ByteAlphabet.byte(scalar) else {
          bytes.removeSubrange(start...)
          for scalar in token { bytes.append(contentsOf: scalar.utf8) }
          break
        }
        bytes.append(byte)
      }
    }
    return Array(String(decoding: bytes, as: UTF8.self).unicodeScalars)
  }

  /// Reads runs of `<0x..>`; a run that is not UTF-8 becomes one U+FFFD for
  /// each of its bytes.
  private static func joinFallbackBytes(_ tokens: [[Unicode.Scalar]]) -> [[Unicode.Scalar]] {
    var result: [[Unicode.Scalar]] = []
    var bytes: [UInt8] = []
    func flush() {
      guard !bytes.isEmpty else { return }
      if let text = String(validating: bytes, as: UTF8.self) {
        result.append(Array(text.unicodeScalars))
      } else {
        result += Array(repeating: ["\u{FFFD}"], count: bytes.count)
      }
      bytes = []
    }
    for token in tokens {
      if let byte = fallbackByte(token) {
        bytes.append(byte)
      } else {
        flush()
        result.append(token)
      }
    }
    flush()
    return result
  }

  /// The byte that a token `<0x..>` stands for.
  static func fallbackByte(_ token: [Unicode.Scalar]) -> UInt8? {
    guard token.count == 6, token.starts(with: "<0x".unicodeScalars), token[5] == ">",
      let high = Character(token[3]).hexDigitValue, let low = Character(token[4]).hexDigitValue,
      token[3].isASCII, token[4].isASCII
    else { return nil }
    return UInt8(high * 16 + low)
  }

  /// True when it joins tokens `<0x..>` into characters.
  var joinsBytes: Bool {
    switch self {
    case .sequence(let steps): steps.contains(where: \.joinsBytes)
    case .byteFallback: true
    default: false
    }
  }

  private static let cleanUps: [(pattern: SplitPattern, content: [Unicode.Scalar])] = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
  ].map { (.literal(Array($0.unicodeScalars)), Array($1.unicodeScalars)) }

  private static func cleanUp(_ token: [Unicode.Scalar]) -> [Unicode.Scalar] {
    guard token.contains(" ") else { return token }
    return cleanUps.reduce(token) { replacing($1.pattern, in: $0, with: $1.content) }
  }
}
