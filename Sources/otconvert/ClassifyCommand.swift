import ArgumentParser
import OTFoundation
import OTJSON
import OTQ
import OTTokenizer

struct ClassifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "classify",
    abstract: "Give the labels of texts, of pairs of texts, or of tokens, or the answers to questions.",
    discussion: """
      MODEL is an .otq file, which runs as packed, or a checkpoint, which runs in
      float32: BERT and its kin with a head for sequence or token classification or
      for answers. Names of labels are those of its config.json (id2label). Scores are
      probabilities: among all labels, or of each alone where several may fit or
      there is one; of a regression, the value itself.

      A line for each text: its labels with their scores, the best first. A
      classifier of tokens gives a line for each token, its label and the score.
      A model for answers (…ForQuestionAnswering) gives the part of --pair that
      answers --text, and its score; --json has the next likeliest parts, too.

      EXAMPLES
        otconvert classify sentiment.otq --text "A fine film."
        otconvert classify nli.otq --text "A man sleeps." --pair "A man is awake." --json
        otconvert classify ner/ --text "Ada Lovelace lived in London."
        otconvert classify squad.otq --text "Where did she live?" \\
          --pair "Ada Lovelace lived in London."
      """)

  /// Answers in the output of `--json`, at most.
  private static let answerCount = 5

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var model: String
  @Option(help: ArgumentHelp("A text or question; repeatable.", valueName: "text")) var text: [String] = []
  @Option(
    help: ArgumentHelp(
      "The second text of a pair, or that of a question; as many as --text, in the same order.", valueName: "text"))
  var pair: [String] = []
  @OptionGroup var attention: AttentionArguments
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    guard !text.isEmpty else { throw ValidationError("Give one --text or more.") }
    guard pair.isEmpty || pair.count == text.count else {
      throw ValidationError("Give as many --pair as --text, or none.")
    }
  }

  func run() throws {
    let model = try LanguageModel(
      readingText: model, threadCount: threads.threads, attentionBits: attention.quantizeAttention)
    model.file.warnings.forEach(messages.warn)
    if model.answersQuestions { return try answer(with: model) }
    let texts = text.enumerated().map { ($1, pair.isEmpty ? nil : pair[$0]) }
    let results = try model.classifications(of: texts) { doneCount, _ in
      messages.status(doneCount == texts.count ? "" : "classifying, \(doneCount) of \(texts.count) texts")
    }
    let cutCount = results.count(where: \.isCut)
    if cutCount > 0 {
      messages.warn("\(cutCount) of \(texts.count) texts are longer than the model reads, and were cut")
    }
    let tokenizer = try model.tokenizer()
    if messages.json {
      return try StandardOutput.write(json(results, tokenizer).text(pretty: false) + "\n")
    }
    for (index, result) in results.enumerated() {
      if index > 0, result.tokens != nil { try StandardOutput.write("\n") }
      try StandardOutput.write(text(result, tokenizer))
    }
  }

  private func text(_ result: Classification, _ tokenizer: Tokenizer) -> String {
    func line(_ cells: [String]) -> String { cells.map(Refusal.printable).joined(separator: "\t") + "\n" }
    guard let tokens = result.tokens else {
      return line(result.scores.flatMap { [$0.label, fixed(Double($0.score), 5)] })
    }
    return zip(tokens.tokenIDs, tokens.scores).map { id, scores in
      guard !tokenizer.isSpecial(id), let best = scores.first else { return "" }
      return line([tokenizer.token(id) ?? "", best.label, fixed(Double(best.score), 5)])
    }.joined()
  }

  /// Answers to the questions `text` in the texts `pair`.
  private func answer(with model: LanguageModel) throws {
    guard !pair.isEmpty else {
      throw Refusal(
        "answer-no-text", "answers questions about a text", file: model.file.path,
        remedy: "give a question with --text, and with --pair the text that it is about")
    }
    let results = try zip(text, pair).map { question, text in
      try model.answers(to: question, in: text, count: messages.json ? ClassifyCommand.answerCount : 1)
    }
    guard messages.json else {
      return try results.forEach { answers in
        let cells = answers.first.map { [$0.text, fixed(Double($0.score), 5)] } ?? []
        try StandardOutput.write(cells.map(Refusal.printable).joined(separator: "\t") + "\n")
      }
    }
    let texts = results.map { answers in
      let list = answers.map { answer in
        JSONValue.object([
          "answer": .string(answer.text), "score": number(answer.score),
          "tokens": .array([.integer(answer.tokens.lowerBound), .integer(answer.tokens.upperBound)]),
          "startLogit": number(answer.startLogit), "endLogit": number(answer.endLogit),
        ])
      }
      return JSONValue.object(["answers": .array(list)])
    }
    let result = JSONValue.object(["model": .string(self.model), "texts": .array(texts)])
    try StandardOutput.write(result.text(pretty: false) + "\n")
  }

  /// The shortest text that reads back as the same float32.
  private func number(_ value: Float) -> JSONValue { .number(Double("\(value)") ?? Double(value)) }

  private func json(_ results: [Classification], _ tokenizer: Tokenizer) -> JSONValue {
    func labels(_ scores: [LabelScore]) -> JSONValue {
      .array(
        scores.map { score in
          .object([
            "label": .string(score.label), "index": .integer(score.index), "score": number(score.score),
            "logit": number(score.logit),
          ])
        })
    }
    return .object([
      "model": .string(model),
      "texts": .array(
        results.map { result in
          var members: JSONObject = [
            "tokenCount": .integer(result.tokenCount), "truncated": .bool(result.isCut),
          ]
          guard let tokens = result.tokens else {
            members["labels"] = labels(result.scores)
            return .object(members)
          }
          members["tokens"] = .array(
            zip(tokens.tokenIDs, tokens.scores).map { id, scores in
              .object([
                "id": .integer(id), "piece": .string(tokenizer.token(id) ?? ""),
                "special": .bool(tokenizer.isSpecial(id)), "labels": labels(scores),
              ])
            })
          return .object(members)
        }),
    ])
  }
}
