import OTFoundation
import OTGraph

/// Keeps the weights that it has been asked for; safe to share between threads and executors.
package final class ParameterCache: Sendable {
  private struct Key: Hashable {
    let name: String
    let rows: Range<Int>
  }

  private let source: any ParameterSource
  private let kept = Lock<[Key: [Float]]>([:])

  /// A cache of the parameters of `source`.
  package init(_ source: any ParameterSource) { self.source = source }
}

extension ParameterCache: ParameterSource {
  /// Reads rows, and keeps nothing.
  ///
  /// - Throws: as the source.
  package func read(_ use: ParameterUse, rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) throws {
    try source.read(use, rows: rows, into: target)
  }

  /// Rows that are kept; those that were not asked for before are read.
  ///
  /// - Throws: as the source.
  package func withValues(
    of use: ParameterUse, rows: Range<Int>, scratch: UnsafeMutableBufferPointer<Float>,
    _ body: (UnsafeBufferPointer<Float>) -> Void
  ) throws {
    // Tied parameters have one name, and so are kept once.
    let key = Key(name: use.outputName, rows: rows)
    let found = kept.withLock { $0[key] }
    // Read outside the lock; a second reader at worst reads the same again.
    let values = try found ?? source.values(of: use, rows: rows)
    if found == nil { kept.withLock { $0[key] = values } }
    values.withUnsafeBufferPointer(body)
  }
}
