/// A text that a model is writing, as an asynchronous sequence of its pieces.
///
/// A token is computed when the next piece is asked for, on the concurrent
/// executor and not on the caller's actor; nothing runs ahead. When the task is
/// cancelled the text ends with a last piece whose reason is
/// ``GeneratedPiece/StopReason/cancelled``. Each iteration starts the text anew.
public struct TextGeneration: AsyncSequence, Sendable {
  /// A part of the text.
  public typealias Element = GeneratedPiece
  /// The error of iterating: ``Refusal`` with rule `sampling-not-finite` when the
  /// model gives no numbers, `run-memory` when there is no room for the context.
  public typealias Failure = Refusal

  let model: LanguageModel
  let tokenIDs: [Int]
  let options: GenerationOptions

  /// Starts the text.
  public func makeAsyncIterator() -> Iterator { Iterator(Worker(self)) }

  /// Gives the pieces of a text one after the other.
  public struct Iterator: AsyncIteratorProtocol {
    private let worker: Worker

    fileprivate init(_ worker: Worker) { self.worker = worker }

    /// The next piece; nil after the last.
    ///
    /// - Throws: ``Refusal``, as ``TextGeneration/Failure`` says.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(Refusal) -> GeneratedPiece? {
      try await worker.next()
    }

    /// The next piece; nil after the last.
    ///
    /// - Throws: ``Refusal``, as ``TextGeneration/Failure`` says.
    public mutating func next() async throws(Refusal) -> GeneratedPiece? { try await worker.next() }
  }

  /// The whole text.
  ///
  /// - Throws: ``Refusal``, as ``TextGeneration/Failure`` says.
  public func text() async throws(Refusal) -> String {
    var text = ""
    var iterator = makeAsyncIterator()
    while let piece = try await iterator.next() { text += piece.text }
    return text
  }
}

/// Keeps the state of one text away from the caller's actor.
private actor Worker {
  private let generation: TextGeneration
  private var loop: GenerationLoop?

  init(_ generation: TextGeneration) { self.generation = generation }

  func next() throws(Refusal) -> GeneratedPiece? {
    if loop == nil {
      loop = try GenerationLoop(generation.model, tokenIDs: generation.tokenIDs, options: generation.options)
    }
    return try loop?.next { Task.isCancelled }
  }
}
