import Foundation
import OTFoundation
import OTJSON
import OTQ
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Tasks against what lm-eval and scikit-learn give for the same files and models: `scripts/check-tasks --goldens`.
@Suite struct TaskTests {
  private static let folder = Fixtures.path("tasks")

  private static func goldens() throws -> JSONValue {
    try JSONValue.parse(contentsOf: MappedFile(path: folder + "/goldens.json"))
  }

  private static let causal = [
    "piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "copa", "storycloze", "multiple_choice",
    "lambada_openai", "lambada_standard", "wikitext", "perplexity",
  ]

  /// The texts whose likelihood is asked for are those of the harness, byte for byte.
  @Test(arguments: causal) func prompts(_ name: String) throws {
    let golden = try #require(Self.goldens()[name])
    let file = try #require(golden["file"]?.string)
    let found = try EvaluationTask.named(name).requests(data: Self.folder + "/" + file)
    let wanted = try #require(golden["texts"]?.array)
    #expect(found.count == golden["scores"]?.array?.count)
    for (item, other) in zip(found, wanted) {
      let texts = (other.array ?? []).map { ($0.array ?? []).compactMap(\.string) }
      #expect(item.count == texts.count)
      for (request, text) in zip(item, texts) {
        // A document has no context.
        let pair = text.count == 1 ? ["", text[0]] : text
        #expect(Array(request.context.utf8) == Array(pair[0].utf8))
        #expect(Array(request.continuation.utf8) == Array(pair[1].utf8))
      }
    }
  }

  /// Scores of every choice of every item within 1e-3, and the figures; of windows of `context` tokens, else of the
  /// model's.
  private func check(_ name: String, _ model: LanguageModel, context: Int? = nil) throws {
    let golden = try #require(Self.goldens()[context.map { "\(name), \($0)" } ?? name])
    let file = try #require(golden["file"]?.string)
    let named = try EvaluationTask.named(name)
    let task = try context.map { try named.withWindows(context: $0) } ?? named
    let outcome = try model.evaluate(task, data: Self.folder + "/" + file)
    let wanted = try #require(golden["scores"]?.array)
    #expect(outcome.items.count == wanted.count)
    for (item, scores) in zip(outcome.items, wanted) {
      let scores = (scores.array ?? []).compactMap(\.double)
      #expect(item.scores.count == scores.count)
      for (score, other) in zip(item.scores, scores) {
        #expect(abs(score - other) < 1e-3, "\(name), line \(item.line): \(score), not \(other)")
      }
    }
    for (figure, value) in golden["figures"]?.object?.members ?? [] {
      let found = try #require(outcome[figure], "\(name) \(figure)").value
      let wanted = try #require(value.double)
      #expect(abs(found - wanted) <= 1e-4 * abs(wanted), "\(name) \(figure): \(found), not \(wanted)")
    }
  }

  @Test(arguments: causal) func figuresOfTheHarness(_ name: String) throws {
    try check(name, Fixture.llama.model())
  }

  /// Documents that are longer than a window, all of them.
  @Test(arguments: ["wikitext", "perplexity"]) func figuresOfLongDocuments(_ name: String) throws {
    try check(name, Fixture.llama.model(), context: 64)
  }

  private static let classifier = Fixtures.path("models/bert-classifier-mini")

  @Test(arguments: ["cola", "sst2", "mrpc", "qqp", "qnli", "rte"]) func figuresOfClassifiers(_ name: String) throws {
    try check(name, LanguageModel(path: Self.classifier, threadCount: 2))
  }

  /// With the heads that `scripts/check-tasks` gives it: labels in another order than the task's, and one value.
  @Test(arguments: [("mnli", 3), ("mnli_mismatched", 3), ("stsb", 1)])
  func figuresOfOtherHeads(_ name: String, _ count: Int) throws {
    try withTemporaryFolder { folder in
      try Self.writeClassifier(labelCount: count, to: folder)
      try check(name, LanguageModel(path: folder, threadCount: 2))
    }
  }

  @Test func figuresOfEmbeddings() throws {
    try check("stsb_embeddings", LanguageModel(path: Self.classifier, threadCount: 2))
  }

  /// The classifier with a head of its own: weight number i is ((37 i + 11) mod 101 − 50) / 64.
  private static func writeClassifier(labelCount: Int, to folder: String) throws {
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: classifier + "/model.safetensors")))
    let headerCount = bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSONValue.parse(String(decoding: bytes[8..<8 + headerCount], as: UTF8.self))
    var weights: [Float] = []
    for index in 0..<labelCount * 128 { weights.append(Float((37 * index + 11) % 101 - 50) / 64) }
    let head: [String: ([Int], [Float])] = [
      "classifier.weight": ([labelCount, 128], weights),
      "classifier.bias": ([labelCount], [Float](repeating: 0, count: labelCount)),
    ]
    var (members, data) = (JSONObject(), [UInt8]())
    for (name, entry) in header.object?.members ?? [] where name != "__metadata__" {
      let start = data.count
      var tensor = entry.object ?? JSONObject()
      if let (shape, values) = head[name] {
        tensor["dtype"] = .string("F32")
        tensor["shape"] = .array(shape.map { JSONValue.integer($0) })
        values.withUnsafeBytes { data += $0 }
      } else {
        let offsets = (entry["data_offsets"]?.array ?? []).compactMap { $0.integer }
        data += bytes[(8 + headerCount + offsets[0])..<(8 + headerCount + offsets[1])]
      }
      tensor["data_offsets"] = .array([.integer(start), .integer(data.count)])
      members[name] = .object(tensor)
    }
    let text = Array(JSONValue.object(members).text(pretty: false).utf8)
    let count = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
    try Data(count + text + data).write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
    let settings = try JSONValue.parse(contentsOf: MappedFile(path: classifier + "/config.json"))
    var configuration = try #require(settings.object)
    let labels = labelCount == 1 ? ["LABEL_0"] : ["CONTRADICTION", "ENTAILMENT", "NEUTRAL"]
    var names = JSONObject()
    for (index, label) in labels.enumerated() { names[String(index)] = .string(label) }
    configuration["id2label"] = .object(names)
    configuration["label2id"] = nil
    configuration["problem_type"] = .string(labelCount == 1 ? "regression" : "single_label_classification")
    try JSONValue.object(configuration).text(pretty: true).write(
      toFile: folder + "/config.json", atomically: true, encoding: .utf8)
    for name in ["tokenizer.json", "tokenizer_config.json"] {
      try FileManager.default.copyItem(atPath: "\(classifier)/\(name)", toPath: "\(folder)/\(name)")
    }
  }

  /// A packed model gives for items together what it gives for each alone, bit for bit.
  @Test func itemsDoNotDependOnOthers() throws {
    let model = try Fixture.llama.packedModel()
    let task = try EvaluationTask.named("hellaswag")
    let path = Self.folder + "/hellaswag.jsonl"
    let all = try model.evaluate(task, data: path, limit: 6)
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    for index in 0..<6 {
      let alone = try withTemporaryFolder { folder in
        try String(lines[index]).write(toFile: folder + "/one.jsonl", atomically: true, encoding: .utf8)
        return try model.evaluate(task, data: folder + "/one.jsonl")
      }
      #expect(alone.items[0].scores == all.items[index].scores)
    }
  }

  /// Labels are found by the names that the model gives them, else by number.
  @Test func labelsByName() throws {
    let folder = Fixtures.path("models/bert-classifier-mini")
    let plain = try LanguageModel(path: folder, threadCount: 1)
    let text = try String(contentsOfFile: folder + "/config.json", encoding: .utf8)
    var members = try #require(JSONValue.parse(text).object)
    members["id2label"] = .object(["0": .string("Not-Entailment"), "1": .string("ENTAILMENT")])
    let task = try EvaluationTask.named("rte")
    let path = Self.folder + "/rte.jsonl"
    let outcome = try plain.evaluate(task, data: path, limit: 5)
    try withTemporaryFolder { copy in
      for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        try FileManager.default.createSymbolicLink(atPath: "\(copy)/\(name)", withDestinationPath: "\(folder)/\(name)")
      }
      try JSONValue.object(members).text(pretty: true).write(
        toFile: copy + "/config.json", atomically: true, encoding: .utf8)
      let named = try LanguageModel(path: copy, threadCount: 1).evaluate(task, data: path, limit: 5)
      #expect(named.items.map(\.scores) == outcome.items.map { Array($0.scores.reversed()) })
      #expect(named.items.map(\.gold) == outcome.items.map(\.gold))
    }
    for file in ["mnli.tsv", "stsb.tsv", "piqa.jsonl"] {
      let other = try EvaluationTask.named(String(file.prefix { $0 != "." }))
      #expect(try refusedRule { _ = try plain.evaluate(other, data: Self.folder + "/" + file) } == "task-model")
    }
    let llama = try Fixture.llama.model()
    #expect(try refusedRule { _ = try llama.evaluate(task, data: path) } == "task-model")
  }

  /// Cosines of the vectors that `embed` gives.
  @Test func similarityByEmbeddings() throws {
    let model = try LanguageModel(path: Fixture.bert.folder, threadCount: 2)
    let outcome = try model.evaluate(.named("stsb_embeddings"), data: Self.folder + "/stsb.tsv", limit: 4)
    let lines = try String(contentsOfFile: Self.folder + "/stsb.tsv", encoding: .utf8).split(separator: "\n")
    for (item, line) in zip(outcome.items, lines.dropFirst()) {
      let cells = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      let vectors = try model.embed([cells[7], cells[8]])
      let dot = zip(vectors[0], vectors[1]).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
      let lengths = vectors.map { $0.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot() }
      #expect(abs(item.scores[0] - dot / lengths[0] / lengths[1]) < 1e-6)
      #expect(item.target == Double(cells[9]))
    }
    #expect(outcome.figures.map(\.name) == ["pearson", "spearman"])
  }

  /// Families with windows, soft caps, position biases and rotations that change with the length (32 tokens): a shared
  /// beginning changes nothing but float rounding.
  @Test(arguments: [
    "llama-longrope", "phi3-longrope", "mistral-sliding", "gemma2", "falcon-alibi", "mpt", "gptoss", "qwen3moe",
    "cohere2",
  ])
  func sharedBeginningsOfFamilies(_ name: String) throws {
    let model = try LanguageModel(path: Fixtures.path("models/families/\(name)"), threadCount: 2)
    let size = try #require(model.vocabularySize)
    let context = (0..<24).map { ($0 * 7 + 3) % size }
    let sequences = [3, 5, 14, 1, 20].map { count in
      ScoredSequence(context + (0..<count).map { ($0 * 5 + count) % size }, firstScored: 24)
    }
    let scores = try model.executor.scores(of: sequences)
    for (sequence, found) in zip(sequences, scores) {
      let logits = try model.logits(for: Array(sequence.tokenIDs.dropLast()))
      for (offset, score) in found.enumerated() {
        let row = logits[23 + offset].map(Double.init)
        let greatest = row.max() ?? 0
        let total = greatest + log(row.reduce(0) { $0 + exp($1 - greatest) })
        let wanted = row[sequence.tokenIDs[24 + offset]] - total
        #expect(abs(score.logProbability - wanted) < 1e-4 * max(1, abs(wanted)), "\(name): \(score), not \(wanted)")
      }
    }
  }

  // MARK: Windows

  /// Every token is scored once after as many others as a window has, at least half of it with a stride of half.
  @Test func perplexityByStride() throws {
    let model = try Fixture.llama.model()
    try withTemporaryFolder { folder in
      let words = (0..<120).map { "and the word number \($0) was light" }.joined(separator: " ")
      try words.write(toFile: folder + "/a.txt", atomically: true, encoding: .utf8)
      let tokens = try model.encode(words)
      var losses: [Double] = []
      var scored = 0
      var start = 0
      while scored < tokens.count {
        let end = min(start + 64, tokens.count)
        let logits = try model.logits(for: Array(tokens[start..<end]))
        for index in max(scored, start + 1)..<end {
          let row = logits[index - start - 1].map(Double.init)
          let total = log(row.reduce(0) { $0 + exp($1) })
          losses.append(total - row[tokens[index]])
        }
        scored = end
        start += 32
      }
      let task = try EvaluationTask.named("perplexity").withWindows(context: 64, stride: 32)
      let outcome = try model.evaluate(task, data: folder + "/a.txt")
      let wanted = exp(losses.reduce(0, +) / Double(losses.count))
      #expect(abs(outcome.primary.value / wanted - 1) < 1e-4)
      #expect(losses.count == tokens.count - 1)
    }
  }

  /// Seven tokens in windows of three, worked out by hand: the prefix and the first three; then always as many as the
  /// model reads before the last one, of which those are scored that no window before had.
  @Test func windowsOfADocument() {
    let windows = ScoredSequence.windows(ofDocument: [1, 2, 3, 4, 5, 6, 7], prefix: 0, length: 3)
    #expect(
      windows == [
        ScoredSequence([0, 1, 2, 3], firstScored: 1), ScoredSequence([3, 4, 5, 6], firstScored: 1),
        ScoredSequence([4, 5, 6, 7], firstScored: 3),
      ])
    #expect(ScoredSequence.windows(ofDocument: [5], prefix: 0, length: 3) == [ScoredSequence([0, 5], firstScored: 1)])
    #expect(ScoredSequence.windows(ofDocument: [], prefix: 0, length: 3).isEmpty)
  }

  // MARK: Comparison

  /// Outcomes of a model on its own questions: right, wrong and flipped.
  @Test func flips() throws {
    let model = try Fixture.llama.model()
    let packed = try Fixture.llama.packedModel(bits: 4)
    let task = try EvaluationTask.named("arc_easy")
    let path = Self.folder + "/arc_easy.jsonl"
    let comparison = try TaskComparison(
      packed.evaluate(task, data: path), reference: model.evaluate(task, data: path))
    let (a, b) = (comparison.outcome.items, comparison.reference.items)
    #expect(comparison.gainedCount == zip(a, b).count { $0.isRight == true && $1.isRight == false })
    #expect(comparison.lostCount == zip(a, b).count { $0.isRight == false && $1.isRight == true })
    let count = comparison.bothRightCount + comparison.bothWrongCount + comparison.gainedCount + comparison.lostCount
    #expect(count == 30)
    #expect(comparison.changedCount == zip(a, b).count { $0.chosen != $1.chosen })
    #expect(comparison.changedCount >= comparison.gainedCount + comparison.lostCount)
    #expect(
      comparison.mcNemarP == TaskStatistics.mcNemarP(gained: comparison.gainedCount, lost: comparison.lostCount))
    let difference = Double(comparison.gainedCount - comparison.lostCount) / 30
    #expect(abs(comparison.difference - difference) < 1e-12)
    let other = try model.evaluate(.named("arc_challenge"), data: Self.folder + "/arc_challenge.jsonl")
    #expect(try refusedRule { _ = try TaskComparison(comparison.outcome, reference: other) } == "task-comparison")
  }

  /// The exact two-sided binomial: 1 and 5 of 6: 2·(1 + 6)/64; as many each way: 1; 0 of 10: 2/1024.
  @Test func mcNemar() {
    func check(_ gained: Int, _ lost: Int, _ p: Double) {
      let found = TaskStatistics.mcNemarP(gained: gained, lost: lost)
      #expect(abs(found - p) < 1e-12, "\(gained), \(lost): \(found)")
    }
    check(1, 5, 0.21875)
    check(3, 3, 1)
    check(0, 0, 1)
    check(0, 10, 0.001953125)
    // 2·(1 + 10 + 45)/1024.
    check(8, 2, 0.109375)
  }
}
