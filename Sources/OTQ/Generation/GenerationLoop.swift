import OTFoundation
import OTRuntime
import OTTokenizer

/// Continues a text token by token. Not for use by two threads at a time.
package final class GenerationLoop {
  /// Tokens of the prompt that are read before it is asked again whether to go on.
  private static let promptPartLength = 512

  /// The most tokens of a text whose model sets no limit.
  private static let greatestCapacity = 1 << 24

  private let promptTokenIDs: [Int]
  private let options: GenerationOptions
  private let endTokenIDs: Set<Int>
  private let stopTokenIDs: Set<Int>
  private let session: Session
  /// The model's.
  private let path: String
  private var sampler: Sampler
  private var stream: TokenTextStream
  private var stopStrings: StopStrings
  /// Tokens that the session has not read yet.
  private var unread: ArraySlice<Int>
  private var tokenCount = 0
  private var promptSeconds = 0.0
  private var seconds = 0.0
  private var isFinished = false

  /// - Throws: `Refusal` as `LanguageModel.generate`, or with rule `run-memory`.
  package init(_ model: LanguageModel, tokenIDs: [Int], options: GenerationOptions) throws(Refusal) {
    sampler = try Self.check(model, tokenIDs: tokenIDs, options: options)
    let tokenizer = try model.tokenizer()
    // Spaces between prompt and continuation depend on the tokens before.
    stream = TokenTextStream(tokenizer, after: tokenIDs.suffix(16))
    stopStrings = StopStrings(options.stopStrings)
    // Special tokens are no part of the text, in which a stop string is looked for.
    let stops = options.stopStrings.compactMap(tokenizer.id(of:)).filter(tokenizer.isSpecial)
    stopTokenIDs = Set(stops)
    endTokenIDs = try model.endTokenIDs()
    let limit = min(model.contextLength ?? .max, Self.greatestCapacity)
    let (sum, overflow) = tokenIDs.count.addingReportingOverflow(max(options.maximumTokenCount, 0))
    path = model.file.path
    session = try refusing(naming: path) {
      try model.executor.makeSession(tokenCapacity: overflow ? limit : min(sum, limit))
    }
    promptTokenIDs = tokenIDs
    self.options = options
    unread = tokenIDs[...]
  }

  /// Checks what can be known before anything is computed.
  @discardableResult
  static func check(
    _ model: LanguageModel, tokenIDs: [Int], options: GenerationOptions
  ) throws(Refusal) -> Sampler {
    try checkCausal(model)
    guard !tokenIDs.isEmpty else { throw emptyPrompt }
    if let limit = model.contextLength, tokenIDs.count > limit {
      throw Refusal(
        "run-context", "the prompt has \(tokenIDs.count) tokens, the model reads at most \(limit)",
        file: model.file.path, remedy: "shorten it")
    }
    if let size = model.vocabularySize, let id = tokenIDs.first(where: { !(0..<size).contains($0) }) {
      throw Refusal(
        "run-token-id", "the prompt has token \(id), the vocabulary has 0...\(size - 1)", file: model.file.path,
        remedy: "use the tokenizer that belongs to the model")
    }
    return try Sampler(
      temperature: options.temperature, topK: options.topK, topP: options.topP, seed: options.seed)
  }

  static func checkCausal(_ model: LanguageModel) throws(Refusal) {
    guard model.isCausal else {
      throw Refusal(
        "run-not-causal", "tokens of this model see those that follow: it does not continue a text",
        file: model.file.path, remedy: "use its embeddings")
    }
  }

  static var emptyPrompt: Refusal {
    Refusal("generate-empty-prompt", "the prompt is empty, there is nothing to continue")
  }

  /// Chooses the next token.
  ///
  /// - Parameter isCancelled: asked now and then; true ends the text.
  /// - Returns: nil after the last piece, which has a summary.
  /// - Throws: `Refusal` with rule `sampling-not-finite`, or as `Session.append` throws.
  package func next(isCancelled: () -> Bool) throws(Refusal) -> GeneratedPiece? {
    if isFinished { return nil }
    guard options.maximumTokenCount > 0 else { return finish(.tokenCount) }
    let start = ContinuousClock.now
    var chosen: Int?
    while chosen == nil {
      if isCancelled() { return finish(.cancelled) }
      let part = Array(unread.prefix(Self.promptPartLength))
      unread = unread.dropFirst(part.count)
      let isLast = unread.isEmpty
      chosen = try refusing(naming: path) { try session.append(part) { isLast ? try sampler.next($0) : nil } }
    }
    guard let token = chosen else { preconditionFailure("the loop ends with a token") }
    let time = (ContinuousClock.now - start) / .seconds(1)
    if tokenCount == 0 { promptSeconds = time } else { seconds += time }
    tokenCount += 1
    if endTokenIDs.contains(token) { return finish(.endOfText, [token]) }
    if stopTokenIDs.contains(token) { return finish(.stopString, [token]) }
    let found = stopStrings.append(stream.append(token))
    if found.isFound { return finish(.stopString, [token], text: found.text, dropsRest: true) }
    if tokenCount == options.maximumTokenCount { return finish(.tokenCount, [token], text: found.text) }
    // Reading this one would take more than the model can hold.
    if session.tokenCount == session.tokenCapacity { return finish(.contextLength, [token], text: found.text) }
    unread = [token]
    return GeneratedPiece(text: found.text, tokenIDs: [token], summary: nil)
  }

  private func finish(
    _ reason: GeneratedPiece.StopReason, _ tokenIDs: [Int] = [], text: String = "", dropsRest: Bool = false
  ) -> GeneratedPiece {
    isFinished = true
    var text = text
    var stopReason = reason
    if !dropsRest {
      var rest = stopStrings.append(stream.finish())
      text += rest.text
      if !rest.isFound {
        rest = stopStrings.finish()
        text += rest.text
      }
      if rest.isFound { stopReason = .stopString }
    }
    return GeneratedPiece(
      text: text, tokenIDs: tokenIDs,
      summary: .init(
        stopReason: stopReason, promptTokenCount: promptTokenIDs.count, tokenCount: tokenCount,
        promptSeconds: promptSeconds, seconds: seconds))
  }
}
