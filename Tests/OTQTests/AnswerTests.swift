import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTModel
import OTQ
import OTRuntime
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// Answers of a model with a head for them: `bert-classifier-mini`, whose classifier stands for one. Logits are
/// compared with those of transformers elsewhere (SmallEncoderTests); here it is what is made of them.
@Suite struct AnswerTests {
  private static let source = Fixtures.path("models/bert-classifier-mini")
  private static let question = "When was the church built?"
  private static let text = "The town has a Church. It was built in 1850, of red brick (by J. Smith)."

  private static func withModel(_ body: (String) throws -> Void) throws {
    try withTemporaryFolder { folder in
      for name in ["tokenizer.json", "tokenizer_config.json"] {
        try FileManager.default.createSymbolicLink(
          atPath: "\(folder)/\(name)", withDestinationPath: "\(source)/\(name)")
      }
      let tensors = try Checkpoint.open(source).tensors.filter { !$0.name.contains("pooler") }
      let entries = tensors.map { tensor in
        let name = tensor.name.replacingOccurrences(of: "classifier.", with: "qa_outputs.")
        return SafetensorsWriter.Entry(name: name, elementType: tensor.elementType, shape: tensor.shape)
      }
      var writer = try SafetensorsWriter(path: folder + "/model.safetensors", entries: entries)
      for view in tensors { try writer.append(view) }
      try writer.commit()
      let path = source + "/config.json"
      var members = try #require(JSONValue.parse(contentsOf: MappedFile(path: path)).object)
      members["architectures"] = .array([.string("BertForQuestionAnswering")])
      try Data(JSONValue.object(members).text().utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
      try body(folder)
    }
  }

  /// The starts' and ends' logits of tokens of the text among `[CLS] question [SEP] text [SEP]`.
  private static func logits(
    _ model: LanguageModel, _ tokens: ArraySlice<Int>
  ) throws -> (starts: [Float], ends: [Float]) {
    let question = try model.encode(question, addsSpecialTokens: false)
    let tokenIDs = [2] + question + [3] + tokens + [3]
    let segments = [Int](repeating: 0, count: question.count + 2) + [Int](repeating: 1, count: tokens.count + 1)
    let logits = try model.executor.run(tokenIDs: tokenIDs, tokenTypeIDs: segments).output("span_logits")
    let rows = (question.count + 2)..<(question.count + 2 + tokens.count)
    return (rows.map { logits[$0].first ?? 0 }, rows.map { logits[$0].last ?? 0 })
  }

  /// The probability of each span of at most 15 tokens.
  private static func chances(_ starts: [Float], _ ends: [Float], from first: Int) -> [Range<Int>: Double] {
    let startSum = starts.reduce(0) { $0 + exp(Double($1)) }
    let endSum = ends.reduce(0) { $0 + exp(Double($1)) }
    var chances: [Range<Int>: Double] = [:]
    for start in starts.indices {
      for end in start..<min(start + 15, ends.count) {
        let chance = exp(Double(starts[start])) / startSum * exp(Double(ends[end])) / endSum
        chances[first + start..<first + end + 1] = chance
      }
    }
    return chances
  }

  @Test func theLikeliestSpans() throws {
    try Self.withModel { folder in
      let model = try LanguageModel(path: folder)
      #expect(model.file.warnings.isEmpty, "\(model.file.warnings)")
      let tokens = try model.encode(Self.text, addsSpecialTokens: false)
      let (starts, ends) = try Self.logits(model, tokens[...])
      let chances = Self.chances(starts, ends, from: 0)
      let answers = try model.answers(to: Self.question, in: Self.text, count: 4)
      #expect(answers.count == 4 && Set(answers.map(\.tokens)).count == 4)
      var least = 1.0
      for answer in answers {
        let chance = try #require(chances[answer.tokens])
        #expect(abs(Double(answer.score) - chance) < 1e-6 && chance <= least + 1e-9)
        #expect(answer.startLogit == starts[answer.tokens.lowerBound])
        #expect(answer.endLogit == ends[answer.tokens.upperBound - 1])
        least = chance
      }
      let better = chances.values.count { $0 > least + 1e-9 }
      #expect(better <= 3)
      #expect(try model.answers(to: Self.question, in: Self.text) == Array(answers.prefix(1)))
      #expect(try model.answers(to: Self.question, in: "").isEmpty)
      #expect(try model.answers(to: Self.question, in: Self.text, count: 0).isEmpty)
    }
  }

  /// Each answer is a part of the text as it is written, of whole words, and no longer than its words are.
  @Test func answersAreTheTextsOwn() throws {
    try Self.withModel { folder in
      let model = try LanguageModel(path: folder)
      let tokens = try model.encode(Self.text, addsSpecialTokens: false)
      // Between letters there is no border of words: so many letters are of whole words alone.
      let words = Self.text.split { !$0.isLetter && !$0.isNumber }.map(String.init)
      for answer in try model.answers(to: Self.question, in: Self.text, count: 200) {
        #expect(!answer.text.isEmpty && Self.text.contains(answer.text), "\(answer.text)")
        let own = answer.text.split { !$0.isLetter && !$0.isNumber }.map(String.init)
        let isOfWords = own.isEmpty || words.indices.contains { words[$0...].starts(with: own) }
        #expect(isOfWords, "\(answer.text)")
        // All that the tokens spell is in it, and nothing of words that they do not touch.
        let spelled = Self.letters(try model.decode(Array(tokens[answer.tokens])))
        #expect(spelled.isEmpty || Self.letters(answer.text).contains(spelled), "\(answer.text)")
        #expect(own.count <= answer.tokens.count, "\(answer.text)")
      }
    }
  }

  private static func letters(_ text: String) -> String { text.lowercased().filter { $0.isLetter || $0.isNumber } }

  /// Windows of the model's 128 tokens, of which neighbours share half.
  @Test func longTexts() throws {
    try Self.withModel { folder in
      let model = try LanguageModel(path: folder)
      let text = (1...40).map { "The church number \($0) was built in \(1800 + $0)." }.joined(separator: " ")
      let tokens = try model.encode(text, addsSpecialTokens: false)
      let question = try model.encode(Self.question, addsSpecialTokens: false)
      let room = 128 - 3 - question.count
      var (chances, start): ([Range<Int>: Double], Int) = ([:], 0)
      while true {
        let window = start..<min(start + room, tokens.count)
        let (starts, ends) = try Self.logits(model, tokens[window])
        chances.merge(Self.chances(starts, ends, from: start)) { max($0, $1) }
        if window.upperBound == tokens.count { break }
        start += room - room / 2
      }
      #expect(start > 3 * room / 2)
      let greatest = try #require(chances.values.max())
      let answer = try #require(try model.answers(to: Self.question, in: text).first)
      #expect(abs(Double(answer.score) - greatest) < 1e-6 && text.contains(answer.text))
      let long = String(repeating: "word ", count: 500)
      let refusal = #expect(throws: Refusal.self) { try model.answers(to: long, in: text) }
      #expect(refusal?.rule == "tokenizer-pair-length")
    }
  }

  @Test func modelsWithoutAHeadForAnswersAreRefused() throws {
    let model = try LanguageModel(path: Self.source)
    let refusal = #expect(throws: Refusal.self) { try model.answers(to: "a", in: "b") }
    #expect(refusal?.rule == "answer-no-spans" && refusal?.message.contains("class_logits") == true)
  }
}
