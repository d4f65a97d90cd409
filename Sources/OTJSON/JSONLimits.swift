/// What a JSON text may contain, beyond the grammar of RFC 8259.
public struct JSONLimits: Sendable {
  /// The longest text, in bytes.
  public var byteCount: Int
  /// The deepest nesting of arrays and objects.
  public var depth: Int
  /// The most arrays and objects: json-c takes up to 800 bytes for an empty one.
  public var containerCount: Int
  /// Whether an integer outside Int is read as a double (as configuration
  /// files need, which write 10^30 for "no limit") instead of refused.
  public var readsLargeIntegersAsDoubles: Bool

  /// Limits; integers outside Int are refused unless told otherwise.
  public init(
    byteCount: Int, depth: Int = 32, containerCount: Int = 1 << 21, readsLargeIntegersAsDoubles: Bool = false
  ) {
    self.byteCount = byteCount
    self.depth = depth
    self.containerCount = containerCount
    self.readsLargeIntegersAsDoubles = readsLargeIntegersAsDoubles
  }

  /// For config.json, tokenizer.json and the like.
  public static let configuration = JSONLimits(
    byteCount: 1 << 28, depth: 64, readsLargeIntegersAsDoubles: true)
}
