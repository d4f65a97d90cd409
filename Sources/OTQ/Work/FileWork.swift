import OTFoundation

/// A long work on files, as an asynchronous sequence of its progress whose last element is its result.
///
/// The work begins when the first element is asked for, on a thread of its own, and each iteration does it anew. It
/// does not wait for whoever iterates: of the progress made meanwhile only the latest is given. When the task is
/// cancelled, or the iterator is given up, the work ends soon and leaves no output; the task gets a ``Refusal`` with
/// rule `cancelled`, once nothing of the work is left.
public struct FileWork<Output: Sendable>: AsyncSequence, Sendable {
  /// Progress, or at the end the result.
  public enum Element: Sendable {
    /// How far the work is.
    case progress(WorkProgress)
    /// The work is done.
    case finished(Output)
  }

  /// The error of iterating: ``Refusal``, as the function that made the work says, or with rule `cancelled`.
  public typealias Failure = Refusal

  private let work: @Sendable (WorkObserver) throws -> Output

  /// A work that tells an observer how far it is.
  package init(_ work: @escaping @Sendable (WorkObserver) throws -> Output) { self.work = work }

  /// Starts the work.
  public func makeAsyncIterator() -> Iterator { Iterator(FileWorkRun(work)) }

  /// Gives the work's progress and its result.
  public struct Iterator: AsyncIteratorProtocol {
    private let holder: Holder

    fileprivate init(_ run: FileWorkRun<Output>) { holder = Holder(run) }

    /// What is new; nil after the result.
    ///
    /// - Throws: ``Refusal``, as ``FileWork/Failure`` says.
    public mutating func next(
      isolation actor: isolated (any Actor)? = #isolation
    ) async throws(Refusal) -> Element? {
      let run = holder.run
      return try await withTaskCancellationHandler {
        await withCheckedContinuation { run.wait($0) }
      } onCancel: {
        run.cancel()
      }.get()
    }

    /// What is new; nil after the result.
    ///
    /// - Throws: ``Refusal``, as ``FileWork/Failure`` says.
    public mutating func next() async throws(Refusal) -> Element? { try await next(isolation: nil) }

    /// Ends the work when nobody iterates any more.
    private final class Holder: Sendable {
      let run: FileWorkRun<Output>
      init(_ run: FileWorkRun<Output>) { self.run = run }
      deinit { run.cancel() }
    }
  }

  /// The result, without what comes before it.
  ///
  /// - Throws: ``Refusal``, as ``FileWork/Failure`` says.
  public func result() async throws(Refusal) -> Output {
    var iterator = makeAsyncIterator()
    while let element = try await iterator.next() {
      if case .finished(let output) = element { return output }
    }
    throw .cancelled
  }
}

extension Refusal {
  /// The refusal of a work that its caller has ended.
  package static var cancelled: Refusal { Refusal("cancelled", "was cancelled, and has left nothing") }
}

/// One run of a work.
private final class FileWorkRun<Output: Sendable>: Sendable {
  typealias Answer = Result<FileWork<Output>.Element?, Refusal>

  private struct State {
    var hasBegun = false
    var isCancelled = false
    var latest: WorkProgress?
    var outcome: Result<Output, Refusal>?
    var isOver = false
    var waiting: CheckedContinuation<Answer, Never>?

    /// What whoever waits is to get; nil: nothing yet.
    mutating func answer() -> Answer? {
      if let progress = latest.take() { return .success(.progress(progress)) }
      if isOver { return .success(nil) }
      guard let outcome else { return nil }
      isOver = true
      return outcome.map { .finished($0) }
    }
  }

  private let state = Lock(State())
  private let work: @Sendable (WorkObserver) throws -> Output

  init(_ work: @escaping @Sendable (WorkObserver) throws -> Output) { self.work = work }

  /// Ends the work soon.
  func cancel() { state.withLock { $0.isCancelled = true } }

  /// Gives `continuation` what is new as soon as there is something.
  func wait(_ continuation: CheckedContinuation<Answer, Never>) {
    let (answer, begins) = state.withLock { state in
      let answer = state.answer()
      if answer == nil { state.waiting = continuation }
      defer { state.hasBegun = true }
      return (answer, !state.hasBegun)
    }
    if let answer { continuation.resume(returning: answer) }
    guard begins, !WorkThread.start(stackByteCount: 8 << 20, { self.run() }) else { return }
    answerWaiting { $0.outcome = .failure(Refusal("system", "there is no thread for it")) }
  }

  private func run() {
    let observer = WorkObserver(
      begin: { stage in
        { done, total in
          try self.tell { $0.latest = WorkProgress(stage: stage, doneCount: done, totalCount: total) }
        }
      }, warn: { _ in }, note: { _ in })
    var outcome: Result<Output, Refusal>
    do throws(Refusal) {
      try tell { _ in }
      outcome = .success(try refusing { try work(observer) })
    } catch {
      outcome = .failure(error)
    }
    answerWaiting {
      // What was before the end is no news.
      $0.latest = nil
      $0.outcome = outcome
    }
  }

  /// - Throws: `Refusal.cancelled` where the work is to end.
  private func tell(_ change: (inout State) -> Void) throws(Refusal) {
    answerWaiting(change)
    if state.withLock({ $0.isCancelled }) { throw .cancelled }
  }

  private func answerWaiting(_ change: (inout State) -> Void) {
    let (waiting, answer) = state.withLock { state -> (CheckedContinuation<Answer, Never>?, Answer?) in
      change(&state)
      guard state.waiting != nil, let answer = state.answer() else { return (nil, nil) }
      return (state.waiting.take(), answer)
    }
    if let answer { waiting?.resume(returning: answer) }
  }
}
