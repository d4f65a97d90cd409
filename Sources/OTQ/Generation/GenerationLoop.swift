import OTFoundation
import OTRuntime
import OTTokenizer

/// Continues texts token by token, several at a time. Not for use by two threads at a time.
package final class GenerationLoop {
  /// Tokens of a prompt that are read before it is asked again whether to go on.
  private static let promptPartLength = 512

  /// The most tokens of a text whose model sets no limit.
  private static let greatestCapacity = 1 << 24

  private let prompts: [[Int]]
  private let options: GenerationOptions
  private let tokenizer: Tokenizer
  private let endTokenIDs: Set<Int>
  private let stopTokenIDs: Set<Int>
  private let session: Session
  /// The model's.
  private let path: String
  /// The texts that are being written, by the session's sequences.
  private var texts: [WrittenText?]
  /// Prompts that have been begun.
  private var begunCount = 0

  /// - Parameters:
  ///   - prompts: tokens of each text's beginning.
  ///   - sequenceCount: texts that are written at a time, at least 1.
  /// - Throws: `Refusal` as `LanguageModel.generate`, or with rule `run-memory`.
  package init(
    _ model: LanguageModel, prompts: [[Int]], options: GenerationOptions, sequenceCount: Int
  ) throws(Refusal) {
    for (index, prompt) in prompts.enumerated() {
      try Self.check(model, tokenIDs: prompt, options: options, number: prompts.count > 1 ? index + 1 : nil)
    }
    tokenizer = try model.tokenizer()
    // Special tokens are no part of the text, in which a stop string is looked for.
    stopTokenIDs = Set(options.stopStrings.compactMap(tokenizer.id(of:)).filter(tokenizer.isSpecial))
    endTokenIDs = try model.endTokenIDs()
    let limit = min(model.contextLength ?? .max, Self.greatestCapacity)
    let (sum, overflow) = (prompts.map(\.count).max() ?? 0).addingReportingOverflow(
      max(options.maximumTokenCount, 0))
    let count = max(1, min(sequenceCount, prompts.count))
    path = model.file.path
    session = try refusing(naming: path) {
      try model.executor.makeSession(tokenCapacity: overflow ? limit : min(sum, limit), sequenceCount: count)
    }
    texts = [WrittenText?](repeating: nil, count: count)
    self.prompts = prompts
    self.options = options
  }

  /// A loop that writes one text.
  ///
  /// - Throws: as for several.
  package convenience init(_ model: LanguageModel, tokenIDs: [Int], options: GenerationOptions) throws(Refusal) {
    try self.init(model, prompts: [tokenIDs], options: options, sequenceCount: 1)
  }

  /// Checks what can be known before anything is computed.
  ///
  /// - Parameter number: of the prompt, from 1, where there are several.
  static func check(
    _ model: LanguageModel, tokenIDs: [Int], options: GenerationOptions, number: Int? = nil
  ) throws(Refusal) {
    try checkCausal(model)
    guard !tokenIDs.isEmpty else { throw emptyPrompt(number) }
    let prompt = name(number)
    if let limit = model.contextLength, tokenIDs.count > limit {
      throw Refusal(
        "run-context", "\(prompt) has \(tokenIDs.count) tokens, the model reads at most \(limit)",
        file: model.file.path, remedy: "shorten it")
    }
    if let size = model.vocabularySize, let id = tokenIDs.first(where: { !(0..<size).contains($0) }) {
      throw Refusal(
        "run-token-id", "\(prompt) has token \(id), the vocabulary has 0...\(size - 1)", file: model.file.path,
        remedy: "use the tokenizer that belongs to the model")
    }
    _ = try sampler(options)
  }

  private static func sampler(_ options: GenerationOptions) throws(Refusal) -> Sampler {
    try Sampler(
      temperature: options.temperature, topK: options.topK, topP: options.topP, seed: options.seed)
  }

  static func checkCausal(_ model: LanguageModel) throws(Refusal) {
    guard model.isCausal else {
      throw Refusal(
        "run-not-causal", "tokens of this model see those that follow: it does not continue a text",
        file: model.file.path, remedy: "use its embeddings")
    }
  }

  private static func name(_ number: Int?) -> String { number.map { "prompt \($0)" } ?? "the prompt" }

  static func emptyPrompt(_ number: Int? = nil) -> Refusal {
    Refusal("generate-empty-prompt", "\(name(number)) is empty, there is nothing to continue")
  }

  /// Chooses the next token of a loop that writes one text.
  ///
  /// - Parameter isCancelled: asked now and then; true ends the text.
  /// - Returns: nil after the last piece, which has a summary.
  /// - Throws: as `step`.
  package func next(isCancelled: () -> Bool) throws(Refusal) -> GeneratedPiece? {
    try step(isCancelled: isCancelled).first?.piece
  }

  /// Chooses the next token of each text that is being written. Where one has ended the next prompt is begun.
  ///
  /// - Parameter isCancelled: asked now and then; true ends all texts.
  /// - Returns: a piece of each text that has a new token, or has ended; the last of each has a summary. Empty after the
  ///   last of all.
  /// - Throws: `Refusal` with rule `sampling-not-finite`, or as `Session.append` throws.
  package func step(isCancelled: () -> Bool) throws(Refusal) -> [BatchGeneration.Element] {
    var pieces: [BatchGeneration.Element] = []
    while pieces.isEmpty {
      try begin()
      guard texts.contains(where: { $0 != nil }) else { return [] }
      if isCancelled() { return try endAll(.cancelled) }
      if options.maximumTokenCount <= 0 { return try endAll(.tokenCount) }
      let start = ContinuousClock.now
      let parts = texts.enumerated().compactMap { sequence, text in
        text.map { Session.Piece($0.nextPart(of: Self.promptPartLength), of: sequence) }
      }
      var chosen: [(sequence: Int, token: Int)] = []
      try refusing(naming: path) {
        try session.append(parts) { sequence, logits in
          if let token = try texts[sequence]?.choose(logits) { chosen.append((sequence, token)) }
        }
      }
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      for text in texts { text?.waited(seconds) }
      for (sequence, token) in chosen {
        guard let text = texts[sequence] else { continue }
        let piece = text.append(
          token, ends: endTokenIDs, stops: stopTokenIDs,
          isFull: session.tokenCount(of: sequence) == session.tokenCapacity)
        pieces.append(BatchGeneration.Element(index: text.index, piece: piece))
        if piece.summary != nil { texts[sequence] = nil }
      }
    }
    return pieces
  }

  /// Begins prompts where there is room.
  private func begin() throws(Refusal) {
    for sequence in texts.indices where texts[sequence] == nil && begunCount < prompts.count {
      session.truncate(sequence, to: 0)
      texts[sequence] = try nextText()
    }
  }

  private func nextText() throws(Refusal) -> WrittenText {
    begunCount += 1
    return WrittenText(
      begunCount - 1, prompt: prompts[begunCount - 1], options, tokenizer, try Self.sampler(options))
  }

  private func endAll(_ reason: GeneratedPiece.StopReason) throws(Refusal) -> [BatchGeneration.Element] {
    var ended = texts.compactMap { $0 }
    while begunCount < prompts.count { ended.append(try nextText()) }
    texts = texts.map { _ in nil }
    return ended.map { BatchGeneration.Element(index: $0.index, piece: $0.finish(reason)) }
  }
}
