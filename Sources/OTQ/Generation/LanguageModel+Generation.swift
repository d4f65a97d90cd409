import OTCheckpoint
import OTFoundation
import OTJSON

extension LanguageModel {
  /// Continues a text.
  ///
  /// Special tokens are put before it as the tokenizer has it. The text ends at
  /// a token that ends texts (`generation_config.json`, else `config.json`,
  /// else the tokenizer's `eos_token`), at a stop string, after
  /// `maximumTokenCount` tokens or at the end of the context.
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
    return TextGeneration(model: self, tokenIDs: tokenIDs, options: options)
  }

  /// The tokens of a prompt, special ones included.
  ///
  /// - Throws: `Refusal` as ``generate(_:options:)``.
  package func promptTokenIDs(_ prompt: String) throws(Refusal) -> [Int] {
    try GenerationLoop.checkCausal(self)
    guard !prompt.isEmpty else { throw GenerationLoop.emptyPrompt }
    return try tokenizer().encodePrompt(prompt)
  }

  /// The tokens that end a text.
  func endTokenIDs() throws(Refusal) -> Set<Int> {
    let configured = try refusing { () -> Set<Int> in
      for kind in [ModelAttachments.Kind.generationConfiguration, .configuration] {
        // One, or several.
        let value = try file.model.json(kind)?["eos_token_id"]
        let ids = value?.integer.map { [$0] } ?? value?.array?.compactMap(\.integer) ?? []
        if !ids.isEmpty { return Set(ids) }
      }
      return []
    }
    guard configured.isEmpty else { return configured }
    let tokenizer = try tokenizer()
    let token = try refusing { try file.model.json(.tokenizerConfiguration)?["eos_token"] }
    let spelling = token?.string ?? token?["content"]?.string
    return Set(spelling.flatMap(tokenizer.id(of:)).map { [$0] } ?? [])
  }
}
