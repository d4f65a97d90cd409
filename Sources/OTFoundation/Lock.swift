import OTPlatform

/// A value that one thread at a time sees.
///
/// Like `Mutex` of the standard library, but with the system's lock, which ThreadSanitizer knows: what a `Mutex` guards it
/// takes for a race.
package final class Lock<Value>: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private nonisolated(unsafe) var value: Value

  /// A lock that nobody holds.
  package init(_ value: consuming sending Value) {
    self.value = value
    // Fails only where the system has no memory left.
    precondition(pthread_mutex_init(mutex, nil) == 0, "no more locks")
  }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  /// Calls `body` with the value while no other thread does. Within, the same lock must not be asked for.
  ///
  /// - Throws: what `body` throws.
  package func withLock<Result: ~Copyable, Failure>(
    _ body: (inout sending Value) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body(&value)
  }
}
