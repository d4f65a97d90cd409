import OTFoundation

/// A reader of untrusted bytes, as the fuzzer runs it, and the tests on the committed corpus.
///
/// A refusal is the answer to damaged bytes. A trap, another error or a wrong value is a fault.
package struct FuzzTarget: Sendable, CustomStringConvertible {
  /// The name by which `scripts/fuzz` takes it, and of the folder of its corpus.
  package let name: String
  /// The longest input that is tried, in bytes.
  package let maximumByteCount: Int
  private let read: @Sendable ([UInt8]) throws -> Void

  init(_ name: String, maximumByteCount: Int, _ read: @escaping @Sendable ([UInt8]) throws -> Void) {
    (self.name, self.maximumByteCount, self.read) = (name, maximumByteCount, read)
  }

  /// A reader of a file with this name.
  init(_ name: String, file: String, maximumByteCount: Int, _ read: @escaping @Sendable (MappedFile) throws -> Void) {
    self.init(name, maximumByteCount: maximumByteCount) { try read(MappedFile(madeOf: $0, path: file)) }
  }

  /// Reads `bytes`; the rule by which they are refused, nil where they are accepted.
  ///
  /// - Throws: whatever is no refusal, which no reader may throw.
  package func run(_ bytes: [UInt8]) throws -> String? {
    do {
      try read(bytes)
      return nil
    } catch let refusal as Refusal {
      return refusal.rule
    }
  }

  package var description: String { name }

  /// Every target.
  package static let all: [FuzzTarget] = checkpoints + decisions + containers + graphs + texts

  /// The folder for files beside what is read: there is none.
  static let folder = "/nonexistent"

  /// Ends the run: what was read is not what it must be.
  static func require(_ condition: Bool, _ message: @autoclosure () -> String) {
    if !condition { fatalError(message()) }
  }
}

extension [UInt8] {
  /// The parts of an input that has several texts, which NUL separates.
  func texts(_ count: Int) -> [[UInt8]] {
    let parts = split(separator: 0, maxSplits: count - 1, omittingEmptySubsequences: false).map(Array.init)
    return parts + [[UInt8]](repeating: [], count: count - parts.count)
  }
}
