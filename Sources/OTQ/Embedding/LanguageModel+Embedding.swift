import OTFoundation
import OTRuntime
import OTTokenizer

extension LanguageModel {
  /// Tokens that go through the model together, at most; a longer sentence goes alone.
  private static let batchTokenCount = 4096

  /// The vector of a text, `[channels]`: see ``embed(_:)-([String])``.
  ///
  /// - Throws: as ``embed(_:)-([String])``.
  public func embed(_ text: String) throws(Refusal) -> [Float] { try embed([text])[0] }

  /// Vectors of texts, for comparing meanings: the cosine of two is greater the
  /// closer they are. In the order of the texts, all of one size.
  ///
  /// Pooling, normalization, the default prompt and the most tokens of a text are those of the
  /// model's `modules.json`, its pooling module's `config.json`, `config_sentence_transformers.json` and
  /// `sentence_bert_config.json`; without modules, the mean over the tokens, not
  /// normalized, as sentence-transformers has it. Longer texts are cut. A
  /// vector does not depend on the other texts (a checkpoint's, but for rounding).
  ///
  /// A model that continues texts gives vectors where its modules say how: of its last token, most of them.
  ///
  /// - Throws: ``Refusal`` with rule `embed-causal` for a model that continues
  ///   texts without modules, `embed-empty-text`, `embed-modules` for modules that are not
  ///   supported, `embed-not-finite`, or `tokenizer-…`.
  public func embed(_ texts: [String]) throws(Refusal) -> [[Float]] { try embeddings(of: texts).vectors }

  /// Numbers of a vector of `embed`; nil for a model that makes none.
  package var embeddingSize: Int? {
    guard !isCausal || ((try? file.model.json(.sentenceModules)) ?? nil) != nil,
      let size = graph.hiddenNode.flatMap(graph.channelCount), let recipe = try? SentenceRecipe(self)
    else { return nil }
    return recipe.poolings.count * size
  }

  /// Vectors, and how the texts were read: tokens of each, and which were cut.
  ///
  /// - Parameter share: whose vectors are wanted; those of the others are empty, and no vector depends on the number of
  ///   parts in its last bits.
  package func embeddings(
    of texts: [String], share: WorkShare? = nil,
    progress: ((_ doneCount: Int, _ count: Int) throws -> Void)? = nil
  ) throws(Refusal) -> SentenceEmbeddings {
    if isCausal, try refusing({ try file.model.json(.sentenceModules) }) == nil {
      throw Refusal(
        "embed-causal",
        "is a model that continues texts and has no modules.json, which would say how to make vectors of sentences",
        file: file.path, remedy: "use a model such as BERT, or put the model's modules.json beside it")
    }
    guard let hidden = graph.hiddenNode else {
      throw Refusal("embed-no-hidden", "gives no hidden states of tokens", file: file.path)
    }
    let tokenizer = try tokenizer()
    return try refusing {
      let recipe = try SentenceRecipe(self)
      let sentences = try texts.enumerated().map { index, text in
        try sentence(text, number: index + 1, tokenizer, recipe)
      }
      // Of like lengths together, so that batches are alike in work.
      let order = sentences.indices.sorted {
        (sentences[$0].tokenIDs.count, $0) < (sentences[$1].tokenIDs.count, $1)
      }
      let limit = max(1, min(Self.batchTokenCount, (256 << 20) / max(executor.bytesPerToken, 1)))
      var vectors = [[Float]](repeating: [], count: texts.count)
      let batches = SharedBatches(costs: order.map { sentences[$0].tokenIDs.count }, limit: limit, share)
      for range in batches.own {
        let batch = order[range]
        let results = try Refusal.naming(file.path) {
          try hiddenStates(hidden, of: batch.map { TokenSequence(sentences[$0].tokenIDs) })
        }
        for (index, hidden) in zip(batch, results) {
          let vector = recipe.embedding(hidden)
          guard vector.allSatisfy(\.isFinite) else {
            throw Refusal("embed-not-finite", "text \(index + 1) gives numbers that are not finite", file: file.path)
          }
          vectors[index] = vector
        }
        try progress?(range.upperBound - batches.items.lowerBound, batches.items.count)
      }
      return SentenceEmbeddings(
        vectors: vectors, tokenCounts: sentences.map(\.tokenIDs.count), areCut: sentences.map(\.isCut),
        recipe: recipe)
    }
  }

  /// The values of the node that has them, without what follows where that is another output.
  private func hiddenStates(_ node: String, of sequences: [TokenSequence]) throws -> [Matrix] {
    guard graph.outputs["hidden"] == node else {
      return try executor.run(sequences, from: [:], until: [node], observe: nil).map { try $0.output(node) }
    }
    return try executor.run(sequences, observe: nil).map { try $0.output("hidden") }
  }

  /// The tokens of a text, cut so that the special tokens at its ends are kept.
  private func sentence(
    _ text: String, number: Int, _ tokenizer: Tokenizer, _ recipe: SentenceRecipe
  ) throws -> (tokenIDs: [Int], isCut: Bool) {
    guard text.contains(where: { !$0.isWhitespace }) else {
      throw Refusal("embed-empty-text", "text \(number) is empty")
    }
    var text = Substring(recipe.prompt + text)
    // As sentence-transformers does; some tokenizers see white space.
    while text.first?.isWhitespace ?? false { text.removeFirst() }
    while text.last?.isWhitespace ?? false { text.removeLast() }
    let content = try tokenizer.encode(
      recipe.lowercases ? text.lowercased() : String(text), addSpecialTokens: false)
    let special = tokenizer.specialTokens
    let room = recipe.maximumTokenCount.map { max(0, $0 - special.leading.count - special.trailing.count) }
    let kept = content.prefix(room ?? content.count)
    let tokenIDs = special.leading + kept + special.trailing
    guard !tokenIDs.isEmpty else { throw Refusal("embed-empty-text", "text \(number) has no tokens") }
    return (tokenIDs, kept.count < content.count)
  }
}

/// Vectors of texts, and how the texts were read.
package struct SentenceEmbeddings: Sendable {
  /// `[texts, channels]`.
  package let vectors: [[Float]]
  /// Tokens of each text that were read.
  package let tokenCounts: [Int]
  /// True for each text whose end was cut off.
  package let areCut: [Bool]
  /// The recipe and counts behind the vectors.
  package let recipe: SentenceRecipe
}
