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

  /// Of one text.
  let batch: BatchGeneration

  /// Starts the text.
  public func makeAsyncIterator() -> Iterator { Iterator(batch.makeAsyncIterator()) }

  /// Gives the pieces of a text one after the other.
  public struct Iterator: AsyncIteratorProtocol {
    private var batch: BatchGeneration.Iterator

    fileprivate init(_ batch: BatchGeneration.Iterator) { self.batch = batch }

    /// The next piece; nil after the last.
    ///
    /// - Throws: ``Refusal``, as ``TextGeneration/Failure`` says.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(Refusal) -> GeneratedPiece? {
      try await batch.next(isolation: actor)?.piece
    }

    /// The next piece; nil after the last.
    ///
    /// - Throws: ``Refusal``, as ``TextGeneration/Failure`` says.
    public mutating func next() async throws(Refusal) -> GeneratedPiece? { try await batch.next()?.piece }
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
