import OTRuntime
import OTTokenizer

/// A text that a model is writing: what is chosen of its logits, and where it ends.
final class WrittenText {
  /// Its prompt's place among all.
  let index: Int
  private let promptTokenCount: Int
  private let maximumTokenCount: Int
  private var sampler: Sampler
  private var stream: TokenTextStream
  private var stopStrings: StopStrings
  /// Tokens that the model has not read yet.
  private var unread: ArraySlice<Int>
  private var tokenCount = 0
  private var promptSeconds = 0.0
  private var seconds = 0.0
  /// Seconds since the last token.
  private var waitedSeconds = 0.0

  init(_ index: Int, prompt: [Int], _ options: GenerationOptions, _ tokenizer: Tokenizer, _ sampler: Sampler) {
    self.index = index
    self.sampler = sampler
    // Spaces between prompt and continuation depend on the tokens before.
    stream = TokenTextStream(tokenizer, after: prompt.suffix(16))
    stopStrings = StopStrings(options.stopStrings)
    promptTokenCount = prompt.count
    maximumTokenCount = options.maximumTokenCount
    unread = prompt[...]
  }

  /// The tokens to read next, at most `count`.
  func nextPart(of count: Int) -> [Int] {
    let part = Array(unread.prefix(count))
    unread = unread.dropFirst(part.count)
    return part
  }

  /// The next token; nil while the prompt is not read.
  ///
  /// - Parameter logits: those of the last token read, `[vocabulary]`.
  /// - Throws: `Refusal` with rule `sampling-not-finite`.
  func choose(_ logits: UnsafeBufferPointer<Float>) throws -> Int? {
    unread.isEmpty ? try sampler.next(logits) : nil
  }

  /// Notes that reading took so long.
  func waited(_ seconds: Double) { waitedSeconds += seconds }

  /// Adds a token that was chosen.
  ///
  /// - Parameter isFull: whether reading it would take more than the model can hold.
  func append(_ token: Int, ends: Set<Int>, stops: Set<Int>, isFull: Bool) -> GeneratedPiece {
    if tokenCount == 0 { promptSeconds = waitedSeconds } else { seconds += waitedSeconds }
    waitedSeconds = 0
    tokenCount += 1
    if ends.contains(token) { return finish(.endOfText, [token]) }
    if stops.contains(token) { return finish(.stopString, [token]) }
    let found = stopStrings.append(stream.append(token))
    if found.isFound { return finish(.stopString, [token], text: found.text, dropsRest: true) }
    if tokenCount == maximumTokenCount { return finish(.tokenCount, [token], text: found.text) }
    if isFull { return finish(.contextLength, [token], text: found.text) }
    unread = [token]
    return GeneratedPiece(text: found.text, tokenIDs: [token], summary: nil)
  }

  /// The last piece.
  func finish(
    _ reason: GeneratedPiece.StopReason, _ tokenIDs: [Int] = [], text: String = "", dropsRest: Bool = false
  ) -> GeneratedPiece {
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
        stopReason: stopReason, promptTokenCount: promptTokenCount, tokenCount: tokenCount,
        promptSeconds: promptSeconds, seconds: seconds))
  }
}
