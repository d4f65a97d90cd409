import OTPlatform

/// Threads of the system.
package enum WorkThread {
  /// Starts a thread that calls `body` once; nobody waits for its end.
  ///
  /// - Returns: false where the system gives no more threads; `body` is not called then.
  package static func start(
    stackByteCount: Int = 1 << 20, _ body: @escaping @Sendable () -> Void
  ) -> Bool {
    var attributes = pthread_attr_t()
    guard pthread_attr_init(&attributes) == 0 else { return false }
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, stackByteCount)
    let start = Unmanaged.passRetained(Start(body))
    #if canImport(Darwin)
      var thread: pthread_t?
      let code = pthread_create(&thread, &attributes, { Start.run($0) }, start.toOpaque())
    #else
      var thread = pthread_t()
      let code = pthread_create(&thread, &attributes, { $0.flatMap(Start.run) }, start.toOpaque())
    #endif
    if code != 0 { start.release() }
    return code == 0
  }

  private final class Start {
    let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) { self.body = body }

    static func run(_ place: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? {
      Unmanaged<Start>.fromOpaque(place).takeRetainedValue().body()
      return nil
    }
  }
}

/// Threads whose end others wait for.
///
/// Dispatch's groups and loops do the same, but ThreadSanitizer does not see them on Linux.
package final class WorkGroup: @unchecked Sendable {
  private let condition = Condition()
  private var runningCount = 0

  /// A group of no threads.
  package init() {}

  /// Starts a thread that calls `body` once.
  ///
  /// - Returns: false where the system gives no more threads; `body` is not called then.
  package func start(_ body: @escaping @Sendable () -> Void) -> Bool {
    count(1)
    let hasStarted = WorkThread.start {
      body()
      self.count(-1)
    }
    if !hasStarted { count(-1) }
    return hasStarted
  }

  private func count(_ change: Int) {
    condition.lock()
    runningCount += change
    if runningCount == 0 { condition.broadcast() }
    condition.unlock()
  }

  /// Returns when every body has returned.
  package func wait() { wait {} }

  /// The same; calls `check` ten times a second meanwhile.
  ///
  /// - Throws: what `check` throws.
  package func wait(_ check: () throws -> Void) rethrows {
    while !isOver(afterMilliseconds: 100) { try check() }
  }

  private func isOver(afterMilliseconds limit: Int) -> Bool {
    condition.lock()
    defer { condition.unlock() }
    if runningCount > 0 { condition.wait(milliseconds: limit) }
    return runningCount == 0
  }
}
