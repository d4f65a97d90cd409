/// Texts that a model is writing, several at a time, as an asynchronous sequence of their pieces.
///
/// Every parameter is read once for all texts of a step, so that several take little longer than one. As a text ends, the
/// next prompt takes its place. Each text is what ``LanguageModel/generate(_:options:)`` gives for its prompt: of a packed
/// model bit for bit, of a checkpoint unless rounding decides between two tokens.
///
/// Tokens are computed when the next piece is asked for, on the concurrent executor and not on the caller's actor;
/// nothing runs ahead of a step. When the task is cancelled every text ends with a last piece whose reason is
/// ``GeneratedPiece/StopReason/cancelled``. Each iteration starts the texts anew.
public struct BatchGeneration: AsyncSequence, Sendable {
  /// A part of one of the texts.
  public struct Element: Sendable, Hashable {
    /// The place of the text's prompt among all, from 0.
    public let index: Int
    /// The next part of the text; the last of each has a summary.
    public let piece: GeneratedPiece
  }

  /// The error of iterating, as ``TextGeneration/Failure``.
  public typealias Failure = Refusal

  let model: LanguageModel
  let prompts: [[Int]]
  let options: GenerationOptions
  let sequenceCount: Int

  /// Starts the texts.
  public func makeAsyncIterator() -> Iterator { Iterator(Worker(self)) }

  /// Gives the pieces of the texts as they come.
  public struct Iterator: AsyncIteratorProtocol {
    private let worker: Worker

    fileprivate init(_ worker: Worker) { self.worker = worker }

    /// The next piece of any text; nil after the last.
    ///
    /// - Throws: ``Refusal``, as ``BatchGeneration/Failure`` says.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(Refusal) -> Element? {
      try await worker.next()
    }

    /// The next piece of any text; nil after the last.
    ///
    /// - Throws: ``Refusal``, as ``BatchGeneration/Failure`` says.
    public mutating func next() async throws(Refusal) -> Element? { try await worker.next() }
  }

  /// The whole texts, in the order of their prompts.
  ///
  /// - Throws: ``Refusal``, as ``BatchGeneration/Failure`` says.
  public func texts() async throws(Refusal) -> [String] {
    var texts = [String](repeating: "", count: prompts.count)
    var iterator = makeAsyncIterator()
    while let element = try await iterator.next() { texts[element.index] += element.piece.text }
    return texts
  }
}

/// Keeps the state of the texts away from the caller's actor.
private actor Worker {
  private let generation: BatchGeneration
  private var loop: GenerationLoop?
  /// Pieces of a step that have not been asked for.
  private var pieces: ArraySlice<BatchGeneration.Element> = []

  init(_ generation: BatchGeneration) { self.generation = generation }

  func next() throws(Refusal) -> BatchGeneration.Element? {
    if loop == nil {
      loop = try GenerationLoop(
        generation.model, prompts: generation.prompts, options: generation.options,
        sequenceCount: generation.sequenceCount)
    }
    if pieces.isEmpty { pieces = try loop?.step { Task.isCancelled }[...] ?? [] }
    return pieces.popFirst()
  }
}
