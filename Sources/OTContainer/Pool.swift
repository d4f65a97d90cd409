import OTFoundation

/// Objects of a C library that are expensive to create and used by one thread at a time.
final class Pool<Element>: @unchecked Sendable {
  private let lock = Lock(())
  private var idle: [Element] = []
  private let free: (Element) -> Void

  init(free: @escaping (Element) -> Void) { self.free = free }
  deinit { idle.forEach(free) }

  /// An idle object, now the caller's; nil when there is none.
  func take() -> Element? { lock.withLock { _ in idle.popLast() } }

  /// Takes an object back.
  func give(_ element: Element) { lock.withLock { _ in idle.append(element) } }
}
