import OTFoundation
import OTJSON
import OTRuntime
import OTTokenizer

extension LanguageModel {
  /// Tokens that go through the model together, at most; a longer text goes alone.
  private static let batchTokenCount = 4096

  /// The labels of a text, or of a pair of texts (a question and an answer, a premise and a hypothesis), the best
  /// first: of a model with a classifier of sequences.
  ///
  /// Texts are put together as the model's tokenizer has it, and what is longer than the model reads is cut at the
  /// ends, the longer text first.
  ///
  /// - Throws: ``Refusal`` with rule `classify-no-classes` for a model without such a classifier,
  ///   `classify-not-finite`, or `tokenizer-…`.
  public func classify(_ text: String, pair: String? = nil) throws(Refusal) -> [LabelScore] {
    guard graph.outputs["class_logits"] != nil else { throw withoutClasses("sequences") }
    return try classifications(of: [(text, pair)])[0].scores
  }

  /// The names of a classifier's labels, in the order of its outputs; nil for a model that is none.
  ///
  /// - Throws: ``Refusal`` as reading its configuration throws.
  package func labelNames() throws(Refusal) -> [String]? {
    let (sequences, tokens) = (graph.outputs["class_logits"], graph.outputs["token_class_logits"])
    guard let node = sequences ?? tokens, let count = graph.channelCount(of: node) else { return nil }
    return try refusing { try Labels(file.model, count: count, isOfTokens: sequences == nil).names }
  }

  /// How texts and pairs are read: the most tokens, and whether segments count.
  ///
  /// - Throws: as reading tokenizer_config.json throws.
  func pairReading() throws -> (limit: Int?, readsTypes: Bool) {
    let configuration = try file.model.json(.tokenizerConfiguration)
    // A tokenizer without limit says 10^30.
    let limits = [configuration?["model_max_length"]?.double, contextLength.map(Double.init)]
    let inputs = configuration?["model_input_names"]?.array?.compactMap(\.string)
    return (
      limits.compactMap { $0 }.filter { $0 >= 1 && $0 < 0x1p31 }.min().map { Int($0) },
      graph.readsTokenTypes && inputs?.contains("token_type_ids") ?? true
    )
  }

  private func withoutClasses(_ what: String) -> Refusal {
    let outputs = graph.outputs.keys.sorted().joined(separator: ", ")
    return Refusal(
      "classify-no-classes", "has no classifier of \(what): the model gives \(outputs)", file: file.path,
      remedy: "use a model whose config.json names an architecture such as BertForSequenceClassification")
  }

  /// The labels of texts or pairs, or of their tokens, and how the texts were read.
  ///
  /// - Throws: as `classify`.
  package func classifications(
    of texts: [(text: String, pair: String?)], progress: ((_ doneCount: Int, _ count: Int) throws -> Void)? = nil
  ) throws(Refusal) -> [Classification] {
    try classifications(of: texts, share: nil, progress: progress).compactMap { $0 }
  }

  /// The same of a share of the texts, nil for the others: none depends on the number of parts in its last bits.
  func classifications(
    of texts: [(text: String, pair: String?)], share: WorkShare?,
    progress: ((_ doneCount: Int, _ count: Int) throws -> Void)?
  ) throws(Refusal) -> [Classification?] {
    let (sequences, tokens) = (graph.outputs["class_logits"], graph.outputs["token_class_logits"])
    guard let node = sequences ?? tokens, let count = graph.channelCount(of: node) else {
      throw withoutClasses("sequences or tokens")
    }
    let output = sequences == nil ? "token_class_logits" : "class_logits"
    let tokenizer = try tokenizer()
    return try refusing {
      let labels = try Labels(file.model, count: count, isOfTokens: sequences == nil)
      let (limit, readsTypes) = try pairReading()
      let encodings = try texts.map { try tokenizer.encode($0.text, pair: $0.pair, limit: limit) }
      var results = [Classification?](repeating: nil, count: texts.count)
      let batches = SharedBatches(costs: encodings.map(\.tokenIDs.count), limit: Self.batchTokenCount, share)
      for range in batches.own {
        let batch = encodings[range].map {
          TokenSequence($0.tokenIDs, tokenTypeIDs: readsTypes ? $0.types : nil)
        }
        let outputs = try Refusal.naming(file.path) {
          try executor.run(batch, observe: nil).map { try $0.output(output) }
        }
        for (index, logits) in zip(range, outputs) {
          guard logits.values.allSatisfy(\.isFinite) else {
            throw Refusal(
              "classify-not-finite", "text \(index + 1) gives numbers that are not finite", file: file.path)
          }
          let encoding = encodings[index]
          let rows = (0..<logits.rowCount).map { labels.scores(logits[$0]) }
          results[index] = Classification(
            scores: sequences == nil ? [] : rows[0],
            tokens: sequences == nil ? TokenLabels(tokenIDs: encoding.tokenIDs, scores: rows) : nil,
            tokenCount: encoding.tokenIDs.count, isCut: encoding.isCut)
        }
        try progress?(range.upperBound - batches.items.lowerBound, batches.items.count)
      }
      return results
    }
  }
}
