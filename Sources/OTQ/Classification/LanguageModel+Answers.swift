import OTFoundation
import OTGraph
import OTRuntime
import OTTokenizer

extension LanguageModel {
  // Those of the pipeline that transformers had for it.
  /// Tokens of a question and a window of the text, at most.
  private static let windowTokenCount = 384
  /// Tokens that two windows share.
  private static let overlap = 128
  /// Tokens of an answer, at most.
  private static let longestAnswer = 15

  /// True when the model has a head for answers.
  package var answersQuestions: Bool { graph.outputs["span_logits"] != nil }

  /// The parts of a text that may answer a question, the likeliest first: of a model with a head for answers, such as
  /// `BertForQuestionAnswering`.
  ///
  /// A long text is read in windows that overlap. An answer has 15 tokens or fewer. One is always given: whether the
  /// text answers the question at all, scores of several texts can only hint at.
  ///
  /// - Parameters:
  ///   - question: the question.
  ///   - text: the text that answers it, of any length.
  ///   - count: the most answers.
  /// - Throws: ``Refusal`` with rule `answer-no-spans` for a model without such a head, `classify-not-finite`,
  ///   `tokenizer-pair-length` for a question that leaves no room, or another rule `tokenizer-…`.
  public func answers(to question: String, in text: String, count: Int = 1) throws(Refusal) -> [Answer] {
    guard answersQuestions else {
      let outputs = graph.outputs.keys.sorted().joined(separator: ", ")
      throw Refusal(
        "answer-no-spans", "has no head for answers: the model gives \(outputs)", file: file.path,
        remedy: "use a model whose config.json names an architecture such as BertForQuestionAnswering")
    }
    let tokenizer = try tokenizer()
    return try refusing {
      let reading = try pairReading()
      let tokenIDs = try tokenizer.encode(text, addSpecialTokens: false)
      let windows = try tokenizer.windows(
        of: tokenIDs, beside: question, limit: min(reading.limit ?? .max, Self.windowTokenCount), overlap: Self.overlap)
      var best: [Range<Int>: Answer] = [:]
      for window in windows {
        for answer in try answers(in: window, readsTypes: reading.readsTypes, count: count)
        where answer.score > best[answer.tokens]?.score ?? -1 {
          best[answer.tokens] = answer
        }
      }
      let words = AnswerText(text, tokenIDs, tokenizer)
      return try Self.likeliest(best.values, count).map { answer in
        Answer(
          text: try words.part(answer.tokens), score: answer.score, tokens: answer.tokens,
          startLogit: answer.startLogit, endLogit: answer.endLogit)
      }
    }
  }

  /// The likeliest answers in a window of a text, without their texts.
  private func answers(in window: Tokenizer.PairWindow, readsTypes: Bool, count: Int) throws -> [Answer] {
    let sequence = TokenSequence(window.tokenIDs, tokenTypeIDs: readsTypes ? window.types : nil)
    let logits = try Refusal.naming(file.path) {
      try executor.run([sequence], observe: nil)[0].output("span_logits").distributions(of: "span_logits")
    }
    guard logits.values.allSatisfy(\.isFinite) else {
      throw Refusal("classify-not-finite", "the text gives numbers that are not finite", file: file.path)
    }
    let (starts, ends) = (Array(Array(logits[0])[window.place]), Array(Array(logits[1])[window.place]))
    let (startChances, endChances) = (Labels.softmax(starts), Labels.softmax(ends))
    let answers = starts.indices.flatMap { start in
      (start..<min(start + Self.longestAnswer, ends.count)).map { end in
        Answer(
          text: "", score: Float(startChances[start] * endChances[end]),
          tokens: window.window.lowerBound + start..<window.window.lowerBound + end + 1, startLogit: starts[start],
          endLogit: ends[end])
      }
    }
    return Self.likeliest(answers, count)
  }

  /// The likeliest first, of equals the first in the text.
  private static func likeliest(_ answers: some Collection<Answer>, _ count: Int) -> [Answer] {
    let sorted = answers.sorted { a, b in
      (b.score, a.tokens.lowerBound, a.tokens.upperBound) < (a.score, b.tokens.lowerBound, b.tokens.upperBound)
    }
    return Array(sorted.prefix(max(count, 0)))
  }
}
