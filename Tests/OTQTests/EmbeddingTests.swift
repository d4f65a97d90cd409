import Foundation
import OTFoundation
import OTJSON
import OTQ
import OTRuntime
import Testing
import _OTTestSupport

@Suite struct EmbeddingTests {
  private static let texts = [
    "In the beginning God created the heaven and the earth.", "And", "Jesus wept.",
    "And the evening and the morning were the first day.", "Jesus wept.",
  ]
  private static let modules = """
    [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
     {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
    """

  private func cosine(_ a: [Float], _ b: [Float]) -> Double {
    func dot(_ a: [Float], _ b: [Float]) -> Double { zip(a, b).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
    return dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
  }

  // MARK: The recipe

  struct Recipe: Sendable, CustomStringConvertible {
    let description: String
    let pooling: String?
    var isNormalized = false
    /// The vector of a channel's values, token by token; several are joined.
    let expected: [@Sendable ([Double]) -> Double]
  }

  static let recipes = [
    Recipe(description: "none", pooling: nil, expected: [{ $0.reduce(0, +) / Double($0.count) }]),
    Recipe(
      description: "mean", pooling: "\"pooling_mode_mean_tokens\": true", isNormalized: true,
      expected: [{ $0.reduce(0, +) / Double($0.count) }]),
    Recipe(
      description: "cls", pooling: "\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": false",
      expected: [{ $0[0] }]),
    Recipe(description: "max", pooling: "\"pooling_mode_max_tokens\": true", expected: [{ $0.max() ?? .nan }]),
    Recipe(
      description: "last", pooling: "\"pooling_mode\": \"lasttoken\"", isNormalized: true,
      expected: [{ $0[$0.count - 1] }]),
    Recipe(
      description: "weighted", pooling: "\"pooling_mode_weightedmean_tokens\": true",
      expected: [
        { values in
          let weighted = values.enumerated().reduce(0) { $0 + $1.1 * Double($1.0 + 1) }
          return weighted / Double((1...values.count).reduce(0, +))
        }
      ]),
    Recipe(
      description: "cls and root mean",
      pooling: "\"pooling_mode_mean_sqrt_len_tokens\": true, \"pooling_mode_cls_token\": true",
      expected: [{ $0[0] }, { $0.reduce(0, +) / Double($0.count).squareRoot() }]),
  ]

  @Test(arguments: recipes, [true, false]) func pooling(recipe: Recipe, isPacked: Bool) throws {
    var files: [String: String] = [:]
    if let pooling = recipe.pooling {
      let last = recipe.isNormalized ? ", {\"type\": \"sentence_transformers.models.Normalize\"}]" : "]"
      files = ["modules.json": Self.modules + last, "1_Pooling/config.json": "{\(pooling)}"]
    }
    let model = try Fixture.bert.withCopy(files) { folder in
      try isPacked ? packModel(at: folder) : LanguageModel(path: folder, threadCount: 2)
    }
    let vectors = try model.embed(Self.texts)
    #expect(vectors.count == Self.texts.count)
    for (text, vector) in zip(Self.texts, vectors) {
      let hidden = try model.executor.run(tokenIDs: model.encode(text)).output("hidden")
      var expected = recipe.expected.flatMap { pool in
        (0..<128).map { channel in pool((0..<hidden.rowCount).map { Double(hidden.values[$0 * 128 + channel]) }) }
      }
      if recipe.isNormalized {
        let length = expected.reduce(0) { $0 + $1 * $1 }.squareRoot()
        expected = expected.map { $0 / length }
      }
      #expect(vector.count == expected.count)
      #expect(zip(vector, expected).allSatisfy { abs(Double($0) - $1) < 1e-4 })
    }
    // A text's vector does not depend on its neighbours in the batch. A BLAS sums in an order
    // that depends on how many rows there are; integer products do not.
    guard isPacked else { return }
    #expect(vectors[2] == vectors[4] && vectors[0] != vectors[1])
    #expect(try model.embed(Self.texts[3]) == vectors[3])
    #expect(try model.embed(Self.texts.reversed()) == vectors.reversed())
  }

  /// On numbers that differ from token to token, as the small model's hardly do.
  @Test(arguments: [1, 2, 7]) func poolingOfRandomValues(tokenCount: Int) throws {
    var random = SeededGenerator()
    let values = (0..<tokenCount * 3).map { _ in Float.random(in: -2...2, using: &random) }
    let hidden = Matrix(rowCount: tokenCount, channelCount: 3, values: values)
    let expected: [SentencePooling: @Sendable ([Double]) -> Double] = [
      .firstToken: { $0[0] }, .lastToken: { $0[$0.count - 1] }, .maximum: { $0.sorted()[$0.count - 1] },
      .mean: { $0.reduce(0, +) / Double($0.count) },
      .meanBySquareRoot: { $0.reduce(0, +) / Double($0.count).squareRoot() },
      .weightedMean: { values in
        values.indices.reduce(0) { $0 + values[$1] * Double($1 + 1) } / Double((1...values.count).reduce(0, +))
      },
    ]
    for pooling in SentencePooling.allCases {
      let pool = try #require(expected[pooling])
      let vector = (0..<3).map { channel in
        pool(stride(from: channel, to: values.count, by: 3).map { Double(values[$0]) })
      }
      #expect(
        zip(pooling.pooled(hidden), vector).allSatisfy { abs(Double($0) - $1) < 1e-6 },
        "\(pooling), seed \(random.seed)")
    }
  }

  @Test func longTextsAreCut() throws {
    let files = [
      "modules.json": Self.modules + "]", "1_Pooling/config.json": "{\"pooling_mode_mean_tokens\": true}",
      "sentence_bert_config.json": "{\"max_seq_length\": 5, \"do_lower_case\": true}",
    ]
    let model = try Fixture.bert.withCopy(files) { try packModel(at: $0) }
    let whole = try model.encode("and the earth was without form, and void")
    let embeddings = try model.embeddings(of: [" AND the Earth was without form, and void\n", "and"])
    #expect(embeddings.areCut == [true, false])
    #expect(embeddings.tokenCounts == [5, try model.encode("and").count])
    let start = try model.decode(Array(whole[..<5]))
    #expect(try model.encode(start) == Array(whole[..<5]))
    #expect(try model.embed(start) == embeddings.vectors[0])
    // Without a configuration of sentences the model's own limit holds.
    let plain = try Fixture.bert.model()
    let long = try plain.embeddings(of: [String(repeating: "the earth ", count: 400)])
    #expect(long.tokenCounts == [256] && long.areCut == [true])
  }

  @Test(arguments: [
    ("[{\"type\": \"a.Transformer\"}]", "{}"), ("{}", "{}"), ("[{\"path\": \"\"}]", "{}"),
    (
      modules + ", {\"type\": \"sentence_transformers.models.Dense\", \"path\": \"2_Dense\"}]",
      "{\"pooling_mode_cls_token\": true}"
    ),
    (modules + "]", "{}"), (modules + "]", "{\"pooling_mode\": \"odd\"}"),
    (modules + "]", "{\"pooling_mode_odd\": true, \"pooling_mode_cls_token\": true}"),
    (modules.replacingOccurrences(of: "1_Pooling", with: "3_Pooling") + "]", "{}"),
  ])
  func unsupportedModules(modules: String, pooling: String) throws {
    let files = ["modules.json": modules, "1_Pooling/config.json": pooling]
    let model = try Fixture.bert.withCopy(files) { try LanguageModel(path: $0) }
    #expect(try refusedRule { _ = try model.embed("And") } == "embed-modules")
  }

  /// The default prompt goes before every text; others are for the user to know.
  @Test(arguments: [true, false]) func promptsAreThoseOfTheModel(isPacked: Bool) throws {
    let prompts = "{\"prompts\": {\"query\": \"in the \", \"passage\": \"and \"}, \"default_prompt_name\": \"query\"}"
    let files = [
      "modules.json": Self.modules + "]", "1_Pooling/config.json": "{\"pooling_mode_mean_tokens\": true}",
      "config_sentence_transformers.json": prompts,
    ]
    let model = try Fixture.bert.withCopy(files) { folder in
      try isPacked ? packModel(at: folder) : LanguageModel(path: folder, threadCount: 1)
    }
    let plain = try isPacked ? Fixture.bert.packedModel() : Fixture.bert.model()
    let embeddings = try model.embeddings(of: ["beginning"])
    #expect(try embeddings.vectors[0] == plain.embed("in the beginning"))
    #expect(embeddings.recipe.prompt == "in the " && embeddings.recipe.otherPrompts == ["passage"])
  }

  /// A model of an older layout: the pooling that is in the folder above is packed, too.
  @Test func poolingOfTheFolderAboveIsPacked() throws {
    try withTemporaryFolder { folder in
      let own = folder + "/0_Transformer"
      try FileManager.default.createDirectory(atPath: folder + "/2_Pooling", withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: Fixture.bert.folder, toPath: own)
      let modules = Self.modules.replacingOccurrences(of: "1_Pooling", with: "2_Pooling")
        .replacingOccurrences(of: "\"path\": \"\"", with: "\"path\": \"0_Transformer\"")
      try (modules + "]").write(toFile: folder + "/modules.json", atomically: true, encoding: .utf8)
      try "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": false}"
        .write(toFile: folder + "/2_Pooling/config.json", atomically: true, encoding: .utf8)
      for path in [own, folder] {
        #expect(try packModel(at: path).embeddings(of: ["And"]).recipe.poolings == [.firstToken])
        #expect(try LanguageModel(path: path).embeddings(of: ["And"]).recipe.poolings == [.firstToken])
      }
    }
  }

  @Test func refusals() throws {
    let bert = try Fixture.bert.model()
    #expect(try refusedRule { _ = try bert.embed(["And", " \n"]) } == "embed-empty-text")
    #expect(try bert.embed([]).isEmpty)
    #expect(try refusedRule { _ = try Fixture.opt.model().embed("And") } == "embed-causal")
  }

  // MARK: A real model

  private static let realModels = ProcessInfo.processInfo.environment["OTQ_REAL_MODELS"]

  /// MiniLM against vectors of the original implementation.
  @Test(.enabled(if: realModels != nil), arguments: [nil, 8, 6])
  func goldens(bits: Int?) throws {
    let folder = try #require(Self.realModels) + "/minilm"
    let model = try bits.map { try packModel(at: folder, bits: $0) } ?? LanguageModel(path: folder)
    let goldens = try Goldens(path: Fixtures.path("models/minilm-goldens/goldens.safetensors"))
    let json = try JSONValue.parse(
      contentsOf: MappedFile(path: Fixtures.path("models/minilm-goldens/sentences.json")))
    let sentences = try #require(json["sentences"]?.array).compactMap(\.string)
    let embeddings = try model.embeddings(of: sentences)
    #expect(embeddings.recipe.isNormalized && embeddings.recipe.poolings == [.mean])
    #expect(embeddings.recipe.maximumTokenCount == 256)
    for (index, vector) in embeddings.vectors.enumerated() {
      let expected = try goldens.floats("embeddings", row: index)
      let tokenCount = try goldens.integers("attention_mask", row: index).count { $0 == 1 }
      #expect(embeddings.tokenCounts[index] == tokenCount)
      let similarity = cosine(vector, expected)
      switch bits {
      case nil:
        let error = zip(vector, expected).map { abs($0 - $1) }.max() ?? .infinity
        #expect(error < 1e-5, "sentence \(index)")
      case 8: #expect(similarity > 0.99, "sentence \(index)")
      default: #expect(similarity > 0.95, "sentence \(index)")
      }
    }
  }

  /// A decoder whose modules pool its last token: the state behind the last norm.
  @Test func aDecoderWithModulesGivesVectors() throws {
    let plain = try LanguageModel(path: Fixture.llama.folder)
    let refusal = try #require(#expect(throws: Refusal.self) { try plain.embed("And") })
    #expect(refusal.rule == "embed-causal" && refusal.message.contains("modules.json"))
    try Fixture.llama.withCopy([
      "modules.json": Self.modules + ", {\"idx\": 2, \"type\": \"sentence_transformers.models.Normalize\"}]",
      "1_Pooling/config.json": #"{"pooling_mode": "lasttoken"}"#,
    ]) { folder in
      let model = try LanguageModel(path: folder)
      let tokens = try model.encode("In the beginning")
      let states = try model.executor.run(
        [TokenSequence(tokens)], from: [:], until: ["model.norm"], observe: nil)[0].output("model.norm")
      let last = states[tokens.count - 1].map(Double.init)
      let length = last.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let vector = try model.embed("In the beginning")
      #expect(vector.count == last.count && zip(vector, last).allSatisfy { abs(Double($0) - $1 / length) < 1e-6 })
    }
  }
}
