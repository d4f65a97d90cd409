import OTCheckpoint
import OTConversion
import OTExport
import OTFoundation
import OTJSON
import OTModel
import OTTensor
import OTTokenizer
import Testing
import _OTModelSupport
import _OTTestSupport

/// GGUF against files of the official package, and read back by our reader.
@Suite struct GGUFExportTests: FormatExportSuite {
  private struct Failure: Error {}

  /// Keys, names, types and bytes are those of the official converter's tables.
  @Test(arguments: [
    "bert", "gemma", "gemma2", "gemma3", "llama", "llama3", "phi3", "phi3-longrope", "qwen2", "qwen3",
  ])
  func ggufFilesAreTheOfficialOnes(_ name: String) throws {
    try withTemporaryFolder { folder in
      let official = Fixtures.path("gguf/models/\(name).gguf")
      let plan = try ConversionPlan(checkpoint: .open(official), options: options { $0.isWeightsOnly = true })
      try Converter(plan).run(into: writer("gguf", folder + "/m.gguf", .f16))
      let (found, wanted) = try (
        GGUFFile(MappedFile(path: folder + "/m.gguf")), GGUFFile(MappedFile(path: official))
      )
      // The name is not ours to give, and the module that pools lies beside no such file.
      for (key, value) in wanted.values where !["general.name", "bert.pooling_type"].contains(key) {
        #expect(found.values[key] == value, "\(key)")
      }
      #expect(Set(found.tensors.map(\.name)) == Set(wanted.tensors.map(\.name)))
      for tensor in wanted.tensors {
        let own = try #require(found.tensors.first { $0.name == tensor.name })
        #expect(own.type == tensor.type && own.shape == tensor.shape, "\(tensor.name)")
        let (a, b) = (found.view(of: own, named: ""), wanted.view(of: tensor, named: ""))
        let isSame = a.withRowBytes(0..<a.shape.rowCount) { a in
          b.withRowBytes(0..<b.shape.rowCount) { a.elementsEqual($0) }
        }
        #expect(isSame, "\(tensor.name)")
      }
    }
  }

  @Test(arguments: [("llama3", "llama-bpe"), ("qwen2", "qwen2"), ("bloom", "bloom"), ("o200k", "gpt-4o")])
  func ggufTokenizersAreTheOfficialOnes(_ name: String, _ pre: String) throws {
    let keys = try tokenizerKeys(Fixtures.path("tokenizers/\(name).json"))
    let wanted = try GGUFFile(MappedFile(path: Fixtures.path("gguf/tokenizers/\(name).gguf"))).values
    for (key, value) in wanted where key.hasPrefix("tokenizer.") { #expect(keys[key] == value, "\(key)") }
    #expect(keys["tokenizer.ggml.pre"] == .string(pre))
  }

  /// Where llama.cpp is not told the special tokens of word pieces, it takes 100 to 103 of BERT's own vocabulary.
  @Test(arguments: ["bert", "bert-cased"]) func wordPiecesSayWhichTokensAreSpecial(_ name: String) throws {
    let path = Fixtures.path("tokenizers/\(name).json")
    let root = try JSONValue.parse(contentsOf: MappedFile(path: path))
    let keys = try tokenizerKeys(path)
    for (key, token) in [
      ("bos", "[CLS]"), ("cls", "[CLS]"), ("seperator", "[SEP]"), ("unknown", "[UNK]"), ("mask", "[MASK]"),
      ("padding", "[PAD]"),
    ] {
      let id = root["model"]?["vocab"]?[token]?.integer
      #expect(keys["tokenizer.ggml.\(key)_token_id"] == id.map { .integer($0) }, "\(key)")
    }
  }

  private func tokenizerKeys(_ path: String, count: Int? = nil) throws -> [String: GGUFValue] {
    let root = try JSONValue.parse(contentsOf: MappedFile(path: path))
    let ids =
      (root["model"]?["vocab"]?.object?.members.compactMap(\.value.integer) ?? [])
      + (root["added_tokens"]?.array?.compactMap { $0["id"]?.integer } ?? [])
    let vocabulary = try GGUFVocabulary(
      tokenizer: root, configuration: nil, special: nil, model: nil, template: nil,
      tokenCount: count ?? (ids.max() ?? 0) + 1, file: path)
    return Dictionary(try vocabulary.keys().map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
  }

  /// What our reader of GGUF makes of the keys splits texts as the tokenizer that they were made of.
  @Test(arguments: ["llama2", "mistral", "llama3", "qwen2", "bloom", "bert", "bert-cased", "o200k"])
  func ggufTokenizersReadBack(_ name: String) throws {
    try withTemporaryFolder { folder in
      let source = Fixtures.path("tokenizers/\(name).json")
      let keys = try tokenizerKeys(source).sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
      let file = try GGUFWriter(
        path: folder + "/t.gguf",
        keys: [("general.architecture", .string("llama")), ("llama.block_count", .integer(1))] + keys, tensors: [])
      try file.commit()
      let found = try #require(try Model.source(SourceModel(path: folder + "/t.gguf")).tokenizer())
      let wanted = try Tokenizer(path: source)
      let texts = try JSONValue.parse(contentsOf: MappedFile(path: Fixtures.path("tokenizers/texts.json"))).array ?? []
      #expect(texts.count >= 400)
      // SentencePiece's own way with marks of spaces and special tokens, which llama.cpp has too, is another.
      let isPieces = ["llama2", "mistral"].contains(name)
      for text in texts.compactMap(\.string)
      where !isPieces || !text.contains("<") && !text.contains("▁") && text.first != " " && text.first != "\n" {
        let ids = try found.encode(text, addSpecialTokens: true)
        #expect(try ids == wanted.encode(text, addSpecialTokens: true), Comment(rawValue: Refusal.printable(text)))
      }
    }
  }

  @Test func tokenizersThatLlamaCPPDoesNotHaveAreRefused() throws {
    for name in ["unigram", "wordlevel", "opt", "suffix"] {
      let refusal = #expect(throws: Refusal.self) { try tokenizerKeys(Fixtures.path("tokenizers/\(name).json")) }
      #expect(refusal?.rule == "export-tokenizer")
    }
    let small = #expect(throws: Refusal.self) { try tokenizerKeys(Fixtures.path("tokenizers/bert.json"), count: 9) }
    #expect(small?.rule == "export-tokenizer")
    // Rows of the embedding beyond the tokens have tokens of their own.
    let padded = try tokenizerKeys(Fixtures.path("tokenizers/qwen2.json"), count: 2000)
    guard case .strings(let tokens)? = padded["tokenizer.ggml.tokens"] else { throw Failure() }
    #expect(tokens.count == 2000 && tokens[1999] == "[PAD1999]")
  }

  /// All families in floats, whose transformed function is the source's.
  @Test(arguments: [(Fixture.llama, FixtureMethod.outlierTuneWithoutSymmetrization), (.bloom, .outlierTune)])
  func ggufFloatsComputeTheSame(_ fixture: Fixture, _ method: FixtureMethod) throws {
    try withTemporaryFolder { folder in
      let plan = try ConversionPlan(
        checkpoint: fixture.checkpoint(), options: options { _ in }, statistics: fixture.statistics(method))
      try Converter(plan).run(into: writer("gguf", folder + "/m.gguf", .f32))
      let exported = try SourceModel(path: folder + "/m.gguf")
      let source = try fixture.source()
      #expect(relativeError(try logits(exported), try logits(source)) < 1e-5)
      let tokenizers = try (Model.source(exported).tokenizer(), Model.source(source).tokenizer())
      let text = "In the beginning, 1234 é\n\n 漢字 🙂"
      let ids = try tokenizers.0?.encode(text, addSpecialTokens: true)
      #expect(try ids != nil && ids == tokenizers.1?.encode(text, addSpecialTokens: true))
    }
  }
}
