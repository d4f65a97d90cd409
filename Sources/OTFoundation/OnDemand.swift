/// A value that is made when it is first asked for; safe to share between threads.
package final class OnDemand<Value: Sendable>: Sendable {
  private let make: @Sendable () throws -> Value
  private let made = Lock<Value?>(nil)

  /// The value that `make` gives.
  package init(_ make: @escaping @Sendable () throws -> Value) { self.make = make }

  /// The value.
  ///
  /// - Throws: what making it throws, each time.
  package func get() throws -> Value {
    try made.withLock { made in
      if let made { return made }
      let value = try make()
      made = value
      return value
    }
  }

  /// Begins to make the value on a thread of its own, so that it is there sooner; who asks for it meanwhile, waits.
  package func prepare() {
    // Without a thread it is made when it is asked for, as is what throws.
    _ = WorkThread.start(stackByteCount: 8 << 20) { _ = try? self.get() }
  }
}
