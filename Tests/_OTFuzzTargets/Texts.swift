import OTFoundation
import OTJSON
import OTText
import OTTokenizer

extension FuzzTarget {
  /// Readers of text and of what cuts it into tokens.
  static let texts = [
    FuzzTarget("json", maximumByteCount: 1024) { bytes in
      let value = try parse(bytes)
      let again = try parse(Array(value.text().utf8))
      require(value == again, "JSON is another value when it is written and read")
    },
    FuzzTarget("tokenizer", maximumByteCount: 4096) { bytes in
      try readText(with: Tokenizer(json: parse(bytes), file: "\(folder)/tokenizer.json"))
    },
    // A pattern, NUL, and the text that it splits.
    FuzzTarget("pattern", maximumByteCount: 96) { bytes in
      let parts = bytes.texts(2).map { String(decoding: $0, as: UTF8.self) }
      let split: JSONObject = [
        "type": .string("Split"), "pattern": .object(["Regex": .string(parts[0])]), "behavior": .string("Isolated"),
        "invert": .bool(false),
      ]
      let model: JSONObject = [
        "type": .string("WordLevel"), "vocab": .object(["a": .integer(0)]), "unk_token": .string("a"),
      ]
      let tokenizer = try Tokenizer(
        json: .object(["pre_tokenizer": .object(split), "model": .object(model)]), file: "\(folder)/tokenizer.json")
      _ = try tokenizer.encode(parts[1], addSpecialTokens: false)
    },
    // Which files there are (a byte: 0 SentencePiece, 1 words, else byte pairs), and the files, NUL between texts.
    FuzzTarget("tokenizer-files", maximumByteCount: 4096) { bytes in
      guard let kind = bytes.first else { return }
      var contents: [String: [UInt8]] = [:]
      if kind == 0 {
        contents["tokenizer.model"] = Array(bytes.dropFirst())
      } else {
        let parts = Array(bytes.dropFirst()).texts(3)
        contents = kind == 1 ? ["vocab.txt": parts[0]] : ["vocab.json": parts[0], "merges.txt": parts[1]]
        if !parts[2].isEmpty { contents["tokenizer_config.json"] = parts[2] }
      }
      let contentsByName = contents
      let files = TokenizerFiles(
        json: { name in try contentsByName[name].map(parse) }, bytes: { contentsByName[$0] },
        path: { "\(folder)/\($0)" })
      // As exports write it.
      _ = try files.translation()?.json.text()
      try readText(with: files.tokenizer())
    },
    // Which name the text has (a byte), and the text. Of 512 bytes zstd makes 16 MB: so many lines tell no more than some.
    FuzzTarget("text", maximumByteCount: 512) { bytes in
      guard let first = bytes.first else { return }
      let names = ["a.txt", "a.jsonl", "a", "a.txt.zst", "a.jsonl.gz"]
      let content = Array(bytes.dropFirst())
      let text = try TextFile(MappedFile(madeOf: content, path: "\(folder)/\(names[Int(first) % names.count])"))
      var lineCount = 0
      try text.forEachLine { line in
        _ = try text.text(of: line)
        lineCount += 1
        return lineCount < 4096
      }
      if lineCount < 4096 { try text.forEachDocument { _ in true } }
    },
  ]

  private static let sample = "The 2 café's naïve 東京 🙂\n\ta, b! ½ <s>x</s> [MASK] don't"

  /// Encodes a text and decodes it; token ids are below the size of the vocabulary.
  static func readText(with tokenizer: Tokenizer?) throws {
    guard let tokenizer else { return }
    let ids = try tokenizer.encode(sample, addSpecialTokens: true)
    require(ids.allSatisfy { (0..<tokenizer.vocabularySize).contains($0) }, "a token is outside of the vocabulary")
    _ = tokenizer.decode(ids, skipSpecialTokens: false)
    var stream = TokenTextStream(tokenizer)
    for id in ids { _ = stream.append(id) }
    _ = stream.finish()
    _ = try? tokenizer.encode("one", pair: "two", limit: 8)
  }
}
