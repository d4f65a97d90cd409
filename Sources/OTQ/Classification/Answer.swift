/// A part of a text that may answer a question.
public struct Answer: Sendable, Hashable {
  /// The part as the text has it, widened to whole words.
  public let text: String
  /// The product of two probabilities: that an answer begins where this one does, and that it ends where this one
  /// does, among the tokens of the text that were read together.
  public let score: Float
  /// Its tokens, counted in the text without special tokens.
  public let tokens: Range<Int>
  /// The model's own score of its first token.
  public let startLogit: Float
  /// The model's own score of its last token.
  public let endLogit: Float
}
