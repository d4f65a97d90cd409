/// A label of a classifier, and how well it fits a text or a token.
public struct LabelScore: Sendable, Hashable {
  /// The label's name in the model's configuration (`id2label`), else `LABEL_3`.
  public let label: String
  /// The label's number.
  public let index: Int
  /// The model's own output.
  public let logit: Float
  /// The logit as the model's kind of problem reads it: a probability among all labels (softmax), of each label
  /// alone (sigmoid: several may fit, or there is only one), or for a regression the logit itself.
  public let score: Float
}

/// The class of each token of a text.
package struct TokenLabels: Sendable {
  /// The tokens, special ones among them.
  package let tokenIDs: [Int]
  /// The scores of each token, the best first.
  package let scores: [[LabelScore]]
}

/// The labels of one text or pair, and how it was read.
package struct Classification: Sendable {
  /// Of the whole, the best first; empty for a classifier of tokens.
  package let scores: [LabelScore]
  /// Of each token; nil for a classifier of sequences.
  package let tokens: TokenLabels?
  /// Tokens that were read.
  package let tokenCount: Int
  /// True where an end was cut off.
  package let isCut: Bool
}
