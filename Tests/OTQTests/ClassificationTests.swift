import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTQ
import OTRuntime
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// A classifier of pairs with segments and padding, against the goldens of transformers: `bert-classifier-mini`.
@Suite struct ClassificationTests {
  private static let folder = Fixtures.path("models/bert-classifier-mini")

  private static func goldens() throws -> Goldens { try Goldens(path: folder + "/goldens.safetensors") }

  private static func reference() throws -> JSONValue {
    try JSONValue.parse(contentsOf: MappedFile(path: folder + "/reference.json"))
  }

  /// The 200 items.
  private static func items() throws -> [TokenSequence] {
    let goldens = try goldens()
    return try (0..<200).map { row in
      TokenSequence(
        try goldens.integers("test_input_ids", row: row),
        tokenTypeIDs: try goldens.integers("test_token_type_ids", row: row),
        attentionMask: try goldens.integers("test_attention_mask", row: row).map { $0 == 1 })
    }
  }

  private static func run(_ executor: any Executor, _ items: [TokenSequence]) throws -> [ExecutionResult] {
    try stride(from: 0, to: items.count, by: 20).flatMap {
      try executor.run(Array(items[$0..<$0 + 20]), observe: nil)
    }
  }

  /// Items whose second logit is the larger one.
  private static func predictions(_ results: [ExecutionResult]) throws -> [Bool] {
    try results.map { result in
      let logits = try result.output("class_logits")
      return logits.values[1] > logits.values[0]
    }
  }

  private static func accuracy(_ predictions: [Bool]) throws -> Double {
    let labels = try goldens().integers("test_labels")
    return Double(zip(predictions, labels).count { $0 == ($1 == 1) }) / 200
  }

  @Test func logitsAndAccuracyOfTheFloatModel() throws {
    let model = try LanguageModel(path: Self.folder)
    // The head is part of the graph: nothing is left over.
    #expect(model.file.warnings.isEmpty, "\(model.file.warnings)")
    let (goldens, reference) = (try Self.goldens(), try Self.reference())
    let results = try Self.run(model.executor, Self.items())
    let logits = try results.flatMap { try $0.output("class_logits").values }
    #expect(relativeError(logits, try goldens.floats("test_logits")) < 2e-6)
    let pooled = try results.flatMap { try $0.output("pooled").values }
    #expect(relativeError(pooled, try goldens.floats("test_pooled")) < 2e-5)

    let predictions = try Self.predictions(results)
    let labels = try goldens.integers("test_labels").map { $0 == 1 }
    func count(_ predicted: Bool, _ label: Bool) -> Int {
      zip(predictions, labels).count { $0 == predicted && $1 == label }
    }
    let confusion = [
      "tp": count(true, true), "tn": count(false, false), "fp": count(true, false), "fn": count(false, true),
    ]
    for (name, count) in confusion { #expect(reference["confusion"]?[name]?.integer == count, "\(name)") }
    #expect(try Self.accuracy(predictions) == reference["accuracy"]?.double)
  }

  /// The embeddings and every layer of two items, and the last states of four, padding left out.
  @Test func statesOfEveryLayer() throws {
    let model = try LanguageModel(path: Self.folder)
    let goldens = try Self.goldens()
    let items = Array(try Self.items().prefix(4))
    let names =
      ["bert.embeddings.LayerNorm"] + (0..<4).map { "bert.encoder.layer.\($0).output.LayerNorm" }
    let results = try model.executor.run(items, from: [:], until: names, observe: nil)
    let states = try goldens.floats("hidden_states")
    for (layer, name) in names.enumerated() {
      for item in 0..<2 {
        let start = (layer * 2 + item) * 128 * 128
        let found = relativeError(try results[item].output(name).values, states[start..<start + 128 * 128])
        #expect(found < 2e-6, "\(name), item \(item): \(found)")
      }
    }
    for item in 0..<4 {
      let seen = items[item].attentionMask?.count { $0 } ?? 0
      let last = try goldens.floats("last_hidden", row: item).prefix(seen * 128)
      let own = try results[item].output(names[4]).values.prefix(seen * 128)
      #expect(relativeError(own, last) < 2e-6, "item \(item)")
    }
  }

  /// Segments and masks change what it says by as much as the reference has it.
  @Test func segmentsAndMasksMatter() throws {
    let model = try LanguageModel(path: Self.folder)
    let reference = try Self.reference()
    for (key, change) in [
      ("without_segment_ids", { (item: inout TokenSequence) in item.tokenTypeIDs = nil }),
      ("without_attention_mask", { (item: inout TokenSequence) in item.attentionMask = nil }),
    ] {
      var items = try Self.items()
      for index in items.indices { change(&items[index]) }
      let accuracy = try Self.accuracy(Self.predictions(Self.run(model.executor, items)))
      #expect(abs(accuracy - (reference[key]?["accuracy"]?.double ?? 0)) < 1e-6, "\(key)")
    }
  }

  /// Segments are integers of the table, and as many as tokens.
  @Test func segmentsOutOfRangeAreRefused() throws {
    let model = try LanguageModel(path: Self.folder)
    for (types, rule) in [([0, 0, 2], "run-token-id"), ([0, -1, 0], "run-token-id"), ([0, 0], "run-input-length")] {
      let refusal = try #require(
        #expect(throws: Refusal.self) {
          try model.executor.run([TokenSequence([2, 5, 3], tokenTypeIDs: types)], observe: nil)
        })
      #expect(refusal.rule == rule)
    }
  }

  /// Packed: the scale of a token is near the reference's figures for the same scheme (accuracy 0.80 to 0.82 at W8A8
  /// and 0.80 at W6A8 without a transform, one item being 0.005), and what is packed is what is run.
  @Test(arguments: [(8, 8, 0.05), (6, 8, 0.12)]) func packedClassifier(
    _ bits: Int, _ activationBits: Int, _ limit: Double
  ) throws {
    try withTemporaryFolder { folder in
      var options = ConversionOptions()
      (options.bits, options.activationBits) = (bits, activationBits)
      try convert(Checkpoint.open(Self.folder), options, to: folder + "/model.otq")
      let model = try LanguageModel(path: folder + "/model.otq")
      let results = try Self.run(model.executor, Self.items())
      #expect(try abs(Self.accuracy(Self.predictions(results)) - 0.82) <= 0.03)
      let logits = try results.flatMap { try $0.output("class_logits").values }
      let expected = try Self.goldens().floats("test_logits")
      let error = zip(logits, expected).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) } / 400
      #expect(error < limit, "\(bits) bits: mean squared error of the logits \(error)")
    }
  }

  // MARK: Text

  @Test func pairsOfText() throws {
    let model = try LanguageModel(path: Self.folder)
    let (first, second) = ("The town has a church.", "It was built in 1850.")
    let scores = try model.classify(first, pair: second)
    #expect(Set(scores.map(\.label)) == ["unrelated", "continues"] && scores[0].score >= scores[1].score)
    #expect(abs(scores[0].score + scores[1].score - 1) < 1e-6)
    // [CLS] A [SEP] B [SEP], by hand.
    let (a, b) = (
      try model.encode(first, addsSpecialTokens: false), try model.encode(second, addsSpecialTokens: false)
    )
    let tokens = [2] + a + [3] + b + [3]
    let types = [Int](repeating: 0, count: a.count + 2) + [Int](repeating: 1, count: b.count + 1)
    let logits = try model.executor.run(tokenIDs: tokens, tokenTypeIDs: types).output("class_logits").values
    for score in scores {
      #expect(score.logit == logits[score.index])
      let probability = 1 / (1 + exp(logits[1 - score.index] - logits[score.index]))
      #expect(abs(score.score - probability) < 1e-6)
      #expect(score.label == ["unrelated", "continues"][score.index])
    }
    #expect(try model.classify(first) != scores)
    let long = String(repeating: "word ", count: 500)
    let results = try model.classifications(of: [(long, second), (first, nil)])
    #expect(results.map(\.isCut) == [true, false] && results[0].tokenCount == 128)
  }

  /// Sigmoids, regressions, missing names, types that the tokenizer does not give.
  @Test func scoresAreThoseOfTheKindOfProblem() throws {
    let path = Self.folder + "/config.json"
    let configuration = try #require(try JSONValue.parse(contentsOf: MappedFile(path: path)).object)
    func scores(_ change: (inout JSONObject) -> Void, _ tokenizer: String? = nil) throws -> [LabelScore] {
      try withTemporaryFolder { folder in
        for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
          try FileManager.default.createSymbolicLink(
            atPath: "\(folder)/\(name)", withDestinationPath: "\(Self.folder)/\(name)")
        }
        if let tokenizer {
          try FileManager.default.removeItem(atPath: "\(folder)/tokenizer_config.json")
          try Data(tokenizer.utf8).write(to: URL(fileURLWithPath: "\(folder)/tokenizer_config.json"))
        }
        var members = configuration
        change(&members)
        try Data(JSONValue.object(members).text().utf8).write(to: URL(fileURLWithPath: "\(folder)/config.json"))
        return try LanguageModel(path: folder).classify("The town has a church.", pair: "It was built in 1850.")
      }
    }
    let plain = try scores { _ in }
    let multiple = try scores { $0["problem_type"] = .string("multi_label_classification") }
    let regression = try scores { $0["problem_type"] = .string("regression") }
    let unnamed = try scores { $0["id2label"] = nil }
    for ((score, other), (value, name)) in zip(zip(plain, multiple), zip(regression, unnamed)) {
      #expect(abs(other.score - 1 / (1 + exp(-score.logit))) < 1e-6)
      #expect(value.score == score.logit && name.label == "LABEL_\(name.index)")
    }
    let withoutTypes = try scores({ _ in }, #"{"model_input_names": ["input_ids", "attention_mask"]}"#)
    #expect(withoutTypes != plain)
    let short = try scores({ _ in }, #"{"model_max_length": 8}"#)
    #expect(short != plain)
  }

  @Test func modelsWithoutClassesAreRefused() throws {
    let model = try LanguageModel(path: Fixtures.path("models/bert-mini"))
    let refusal = try #require(#expect(throws: Refusal.self) { try model.classify("a") })
    #expect(refusal.rule == "classify-no-classes" && refusal.message.contains("logits"))
  }
}
