/// Limits of a JSON text, beyond the grammar of RFC 8259.
package struct JSONLimits: Sendable {
  /// The longest text, in bytes.
  package var byteCount: Int
  /// The deepest nesting of arrays and objects.
  package var depth: Int
  /// The most arrays and objects: json-c takes up to 800 bytes for an empty one.
  package var containerCount: Int
  /// True when an integer outside Int is read as a double (as configuration
  /// files need, which write 10^30 for "no limit") instead of refused.
  package var readsLargeIntegersAsDoubles: Bool

  /// Limits; integers outside Int are refused unless told otherwise.
  package init(
    byteCount: Int, depth: Int = 32, containerCount: Int = 1 << 21, readsLargeIntegersAsDoubles: Bool = false
  ) {
    self.byteCount = byteCount
    self.depth = depth
    self.containerCount = containerCount
    self.readsLargeIntegersAsDoubles = readsLargeIntegersAsDoubles
  }

  /// For config.json, tokenizer.json and the like.
  package static let configuration = JSONLimits(
    byteCount: 1 << 28, depth: 64, readsLargeIntegersAsDoubles: true)
}
