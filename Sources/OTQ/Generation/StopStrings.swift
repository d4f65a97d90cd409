/// Finds the first of some strings in a text that comes in parts.
///
/// Text that may be the beginning of one is held back. Strings are compared
/// byte by byte; of two that begin at one place either ends the text there.
package struct StopStrings {
  private let strings: [[UInt8]]
  private var held: [UInt8] = []

  /// Empty strings are ignored.
  package init(_ strings: [String]) { self.strings = strings.map { Array($0.utf8) }.filter { !$0.isEmpty } }

  /// Adds text; gives what is certain to precede every stop string, and whether one was found.
  package mutating func append(_ text: String) -> (text: String, isFound: Bool) {
    guard !strings.isEmpty else { return (text, false) }
    held += Array(text.utf8)
    // A stop string is whole scalars, so text is cut only between scalars.
    for start in held.indices {
      if strings.contains(where: { held[start...].starts(with: $0) }) {
        return (release(start), true)
      }
      if strings.contains(where: { $0.starts(with: held[start...]) }) {
        return (release(start), false)
      }
    }
    return (release(held.count), false)
  }

  /// The text that was held back, when no more comes, up to a stop string in it.
  package mutating func finish() -> (text: String, isFound: Bool) {
    for start in held.indices where strings.contains(where: { held[start...].starts(with: $0) }) {
      return (release(start), true)
    }
    return (release(held.count), false)
  }

  private mutating func release(_ count: Int) -> String {
    defer { held.removeFirst(count) }
    return String(decoding: held[..<count], as: UTF8.self)
  }
}
