/// The mean over the tokens of each sequence that are not hidden.
struct MeanTokens: SequenceOperation {
  var name: String { "mean_tokens" }
}
