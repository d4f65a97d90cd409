import OTFoundation
import OTJSON

extension TokenizerTranslation {
  /// Unigram or byte-pair encoding of a SentencePiece model.
  func json(of model: SentencePieceModel) throws -> JSONValue {
    var translation = self
    // Tokens that are no text are special ones without a name, and so are those of the user.
    let marks = model.pieces.filter { $0.kind == .control || $0.kind == .userDefined }
    switch configuration.kind {
    case .llama:
      guard !model.isUnigram else { throw unsupported("a unigram model") }
      translation.configuration.setDefaults(["bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"])
      translation.configuration.setDefaultExtra(marks.map(Self.mark))
      return try translation.llama(model)
    case .xlmRoberta:
      guard model.isUnigram else { throw unsupported("a byte-pair model") }
      translation.configuration.setDefaults([
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>",
        "cls_token": "<s>", "mask_token": "<mask>",
      ])
      translation.configuration.setDefaultExtra(marks.map(Self.mark))
      let names = ["bos_token", "pad_token", "eos_token", "unk_token"]
      let first = names.map { (translation.configuration.text($0) ?? "", 0.0) }
      let last = [(translation.configuration.text("mask_token") ?? "", 0.0)]
      let pieces = first + model.pieces.dropFirst(3).map { ($0.text, Double($0.score)) } + last
      return try translation.words(model, pieces, unknownID: 3, leading: ["bos_token"], trailing: ["eos_token"])
    case .t5:
      guard model.isUnigram else { throw unsupported("a byte-pair model") }
      translation.configuration.setDefaults(["eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"])
      let extraCount = configuration.count("extra_ids") ?? 100
      let extra = (0..<extraCount).reversed().map { "<extra_id_\($0)>" }
      translation.configuration.setDefaultExtra(extra.map { AddedToken($0, isSpecial: true, isNormalized: false) })
      let pieces = model.pieces.map { ($0.text, Double($0.score)) } + extra.map { ($0, 0.0) }
      return try translation.words(model, pieces, unknownID: 2, leading: [], trailing: ["eos_token"])
    case .general: return try translation.general(model)
    default: throw unsupported("a SentencePiece model")
    }
  }

  private static func mark(_ piece: SentencePieceModel.Piece) -> AddedToken {
    AddedToken(piece.text, isSpecial: piece.kind == .control, isNormalized: false)
  }

  /// LLaMA's class: byte-pair encoding, its merges in the order of the pieces.
  private func llama(_ model: SentencePieceModel) throws -> JSONValue {
    let addsSpace = configuration.flag("add_prefix_space") ?? true
    let scheme = addsSpace ? (configuration.flag("legacy") ?? false ? "always" : "first") : "never"
    let tokens = model.pieces.enumerated().map { (text: $1.text, id: $0) }
    var decoders = [Self.replacing("▁", by: " "), Self.component("ByteFallback"), Self.component("Fuse")]
    if addsSpace { decoders.append(Self.strip) }
    let (leading, trailing) = boundaries
    return try finished(
      [
        "model": Self.component(
          "BPE",
          [
            "vocab": Self.vocabulary(tokens), "merges": Self.merges(SentencePieceModel.merges(of: tokens) { _ in 0 }),
            "fuse_unk": .bool(true), "byte_fallback": .bool(true),
          ]),
        "pre_tokenizer": Self.metaspace(scheme, splits: false),
        "decoder": Self.component("Sequence", ["decoders": .array(decoders)]),
      ], leading: leading, trailing: trailing)
  }

  /// The classes of T5 and XLM-RoBERTa: a unigram model of words that white space separates.
  private func words(
    _ model: SentencePieceModel, _ pieces: [(String, Double)], unknownID: Int, leading: [String], trailing: [String]
  ) throws -> JSONValue {
    let scheme = configuration.flag("add_prefix_space") ?? true ? "always" : "never"
    return try finished(
      [
        "model": Self.unigram(pieces, unknownID: unknownID, hasByteFallback: false),
        "normalizer": model.characterMap.isEmpty ? .null : Self.characterMap(model),
        "pre_tokenizer": Self.component(
          "Sequence",
          ["pretokenizers": .array([Self.component("WhitespaceSplit"), Self.metaspace(scheme, splits: true)])]),
        "decoder": Self.metaspace(scheme, splits: true),
      ], leading: leading, trailing: trailing)
  }

  /// Every other class: as SentencePiece itself encodes.
  private mutating func general(_ model: SentencePieceModel) throws -> JSONValue {
    if model.beginID >= 0 { configuration.setDefaults(["bos_token": model.beginPiece]) }
    if model.endID >= 0 { configuration.setDefaults(["eos_token": model.endPiece]) }
    if model.unknownID >= 0 { configuration.setDefaults(["unk_token": model.unknownPiece]) }
    let isLegacy = configuration.flag("legacy") ?? true
    // Of byte-pair encoding, pieces may be renamed, unless onto one that keeps its place.
    let names = model.isUnigram ? [:] : configuration.listedTexts
    let kept = Set(model.pieces.enumerated().filter { names[$0.offset] == nil }.map { TokenText($0.element.text) })
    let texts = model.pieces.enumerated().map { id, piece in
      names[id].flatMap { kept.contains(TokenText($0)) ? nil : $0 } ?? piece.text
    }
    func tokens(_ kind: SentencePieceModel.Piece.Kind) -> [(text: String, id: Int)] {
      model.pieces.enumerated().filter { $1.kind == kind }.map { (texts[$0.offset], $0.offset) }
    }
    let own = tokens(.userDefined).map(\.text)
    configuration.setDefaultExtra(model.pieces.filter { $0.kind == .control }.map(Self.mark))
    if model.addsDummyPrefix { configuration.listRaw() }

    var root = JSONObject()
    if model.isUnigram {
      let pieces = zip(texts, model.pieces).map { ($0, Double($1.score)) }
      root["model"] = Self.unigram(pieces, unknownID: model.unknownID, hasByteFallback: model.hasByteFallback)
    } else {
      let merges = SentencePieceModel.merges(of: tokens(.normal)) { -model.pieces[$0].score }
      root["model"] = Self.component(
        "BPE",
        [
          "vocab": Self.vocabulary(texts.enumerated().map { ($1, $0) }), "merges": Self.merges(merges),
          "unk_token": .string(model.unknownPiece), "fuse_unk": .bool(true),
          "byte_fallback": .bool(model.hasByteFallback), "ignore_merges": .bool(!own.isEmpty),
        ])
    }
    var normalizers: [JSONValue] = []
    if !model.characterMap.isEmpty { normalizers.append(Self.characterMap(model)) }
    if model.removesExtraSpaces {
      normalizers += [
        Self.replacing(#"\A +| +\z"#, by: "", isRegex: true), Self.replacing(" {2,}", by: " ", isRegex: true),
      ]
    }
    if model.escapesSpaces { normalizers.append(Self.replacing(" ", by: "▁")) }
    var steps: [JSONValue] = []
    var decoders = [Self.replacing("▁", by: " ")]
    if model.hasByteFallback { decoders.append(Self.component("ByteFallback")) }
    if model.addsDummyPrefix {
      // Metaspace puts no second mark before one that is there, SentencePiece does.
      if isLegacy { normalizers.append(Self.replacing(#"\A▁"#, by: "▁▁", isRegex: true)) }
      steps.append(Self.metaspace(isLegacy ? "always" : "first", splits: false))
      decoders += [Self.component("Fuse"), Self.strip]
    } else if model.hasByteFallback {
      decoders.append(Self.component("Fuse"))
    }
    if !own.isEmpty {
      let longestFirst = own.enumerated().sorted {
        (-$0.element.unicodeScalars.count, $0.offset) < (-$1.element.unicodeScalars.count, $1.offset)
      }
      let pattern = longestFirst.map { Self.escaped($0.element) }.joined(separator: "|")
      steps.append(
        Self.component("Split", ["pattern": .object(["Regex": .string(pattern)]), "behavior": .string("Isolated")]))
    }
    root["normalizer"] = Self.component("Sequence", ["normalizers": .array(normalizers)])
    if !steps.isEmpty { root["pre_tokenizer"] = Self.component("Sequence", ["pretokenizers": .array(steps)]) }
    root["decoder"] = Self.component("Sequence", ["decoders": .array(decoders)])
    let (leading, trailing) = boundaries
    return try finished(root, leading: leading, trailing: trailing)
  }

  /// A text as a pattern.
  private static func escaped(_ text: String) -> String {
    text.unicodeScalars.map { scalar in
      "()[]{}?*+-|^$\\.&~# \t\n\r\u{B}\u{C}".unicodeScalars.contains(scalar) ? "\\\(scalar)" : "\(scalar)"
    }.joined()
  }
}
