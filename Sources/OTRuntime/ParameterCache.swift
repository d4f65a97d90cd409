import Foundation
import OTGraph

/// Keeps the parameters that it has been asked for; safe to share between threads.
final class ParameterCache: @unchecked Sendable {
  private struct Key: Hashable {
    let name: String
    let rows: Range<Int>
  }

  private let source: any ParameterSource
  private let lock = NSLock()
  private var kept: [Key: [Float]] = [:]

  init(_ source: any ParameterSource) { self.source = source }
}

extension ParameterCache: ParameterSource {
  func values(of use: ParameterUse, rows: Range<Int>) throws -> [Float] {
    // Tied parameters have one name, and so are kept once.
    let key = Key(name: use.outputName, rows: rows)
    if let values = lock.withLock({ kept[key] }) { return values }
    // Read outside the lock; a second reader at worst reads the same again.
    let values = try source.values(of: use, rows: rows)
    lock.withLock { kept[key] = values }
    return values
  }
}
