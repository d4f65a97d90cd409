/// One sequence of tokens as a model reads it.
public struct TokenSequence: Sendable, Hashable {
  /// The tokens; positions count from 0.
  public var tokenIDs: [Int]
  /// The segment of each token; nil: all 0.
  public var tokenTypeIDs: [Int]?
  /// Whether each token may be attended to; nil: all may. A token that would see none sees itself.
  public var attentionMask: [Bool]?

  /// A sequence; what is left out is nil.
  public init(_ tokenIDs: [Int], tokenTypeIDs: [Int]? = nil, attentionMask: [Bool]? = nil) {
    self.tokenIDs = tokenIDs
    self.tokenTypeIDs = tokenTypeIDs
    self.attentionMask = attentionMask
  }
}
