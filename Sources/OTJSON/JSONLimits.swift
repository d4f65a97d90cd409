/// What a JSON text may contain, beyond the grammar of RFC 8259.
public struct JSONLimits: Sendable {
  /// The longest text, in bytes.
  public var byteCount: Int
  /// The deepest nesting of arrays and objects.
  public var depth: Int
  /// Whether an integer outside Int is read as a double (as configuration
  /// files need, which write 10^30 for "no limit") instead of refused.
  public var readsLargeIntegersAsDoubles: Bool

  /// Limits; integers outside Int are refused unless told otherwise.
  public init(byteCount: Int, depth: Int = 32, readsLargeIntegersAsDoubles: Bool = false) {
    self.byteCount = byteCount
    self.depth = depth
    self.readsLargeIntegersAsDoubles = readsLargeIntegersAsDoubles
  }

  /// For config.json, tokenizer.json and the like.
  public static let configuration = JSONLimits(
    byteCount: 1 << 28, depth: 64, readsLargeIntegersAsDoubles: true)
}
