import OTCheckpoint
import OTFoundation
import OTJSON

extension LanguageModel {
  /// Continues a text.
  ///
  /// Special tokens are put before it as the tokenizer has it. The text ends at
  /// a token that ends texts (any that `generation_config.json`, `config.json` or
  /// the tokenizer's `eos_token` names), at a stop string, after
  /// `maximumTokenCount` tokens or at the end of the context. A stop string that is
  /// the spelling of a special token ends the text at that token.
  ///
  /// - Throws: ``Refusal`` with rule `run-not-causal` for a model that cannot
  ///   continue a text, `tokenizer-…`, `generate-empty-prompt`, `run-context`
  ///   for a prompt longer than the context, `run-token-id` for a tokenizer of
  ///   another model, `sampling-…` for options out of range. Nothing has been computed then.
  public func generate(
    _ prompt: String, options: GenerationOptions = GenerationOptions()
  ) throws(Refusal) -> TextGeneration {
    try generate(tokenIDs: promptTokenIDs(prompt), options: options)
  }

  /// Continues a text given as tokens, to which none are added.
  ///
  /// - Throws: as ``generate(_:options:)``.
  public func generate(
    tokenIDs: [Int], options: GenerationOptions = GenerationOptions()
  ) throws(Refusal) -> TextGeneration {
    try GenerationLoop.check(self, tokenIDs: tokenIDs, options: options)
    return TextGeneration(
      batch: BatchGeneration(model: self, prompts: [tokenIDs], options: options, sequenceCount: 1))
  }

  /// Continues several texts, some at a time: faster than one after the other, with the same texts.
  ///
  /// - Parameters:
  ///   - prompts: the beginnings, in any number.
  ///   - options: those of each text; each has the seed for itself.
  ///   - sequenceCount: how many are written at a time. Each takes memory for keys and values of the longest.
  /// - Throws: as ``generate(_:options:)`` for any of the prompts; nothing has been computed then.
  public func generate(
    _ prompts: [String], options: GenerationOptions = GenerationOptions(), sequenceCount: Int = 8
  ) throws(Refusal) -> BatchGeneration {
    var tokenIDs: [[Int]] = []
    for (index, prompt) in prompts.enumerated() {
      guard !prompt.isEmpty else { throw GenerationLoop.emptyPrompt(index + 1) }
      tokenIDs.append(try promptTokenIDs(prompt))
    }
    return try generate(tokenIDs: tokenIDs, options: options, sequenceCount: sequenceCount)
  }

  /// Continues several texts given as tokens, to which none are added.
  ///
  /// - Parameters:
  ///   - tokenIDs: the beginnings, in any number.
  ///   - options: those of each text; each has the seed for itself.
  ///   - sequenceCount: how many are written at a time.
  /// - Throws: as ``generate(_:options:sequenceCount:)``.
  public func generate(
    tokenIDs: [[Int]], options: GenerationOptions = GenerationOptions(), sequenceCount: Int = 8
  ) throws(Refusal) -> BatchGeneration {
    for (index, prompt) in tokenIDs.enumerated() {
      try GenerationLoop.check(self, tokenIDs: prompt, options: options, number: index + 1)
    }
    return BatchGeneration(model: self, prompts: tokenIDs, options: options, sequenceCount: sequenceCount)
  }

  /// The tokens of a prompt, special ones included.
  ///
  /// - Throws: `Refusal` as ``generate(_:options:)``.
  package func promptTokenIDs(_ prompt: String) throws(Refusal) -> [Int] {
    try GenerationLoop.checkCausal(self)
    guard !prompt.isEmpty else { throw GenerationLoop.emptyPrompt() }
    return try tokenizer().encodePrompt(prompt)
  }

  /// The tokens that end a text: all that any of the model's files names.
  func endTokenIDs() throws(Refusal) -> Set<Int> {
    let tokenizer = try tokenizer()
    return try refusing {
      var ids: Set<Int> = []
      for kind in [ModelAttachments.Kind.generationConfiguration, .configuration] {
        // One, or several.
        let value = try file.model.json(kind)?["eos_token_id"]
        ids.formUnion(value?.integer.map { [$0] } ?? value?.array?.compactMap(\.integer) ?? [])
      }
      let token = try file.model.json(.tokenizerConfiguration)?["eos_token"]
      if let id = (token?.string ?? token?["content"]?.string).flatMap(tokenizer.id(of:)) { ids.insert(id) }
      return ids
    }
  }
}
