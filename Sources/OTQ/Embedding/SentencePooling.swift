import OTRuntime

/// The way from the values of a sentence's tokens to one vector; raw values are the
/// members of a pooling configuration of sentence-transformers that ask for them.
package enum SentencePooling: String, CaseIterable, Sendable {
  // In the order in which sentence-transformers joins several.
  case firstToken = "pooling_mode_cls_token"
  case maximum = "pooling_mode_max_tokens"
  case mean = "pooling_mode_mean_tokens"
  case meanBySquareRoot = "pooling_mode_mean_sqrt_len_tokens"
  case weightedMean = "pooling_mode_weightedmean_tokens"
  case lastToken = "pooling_mode_lasttoken"

  /// Short name, as newer configurations have it under `pooling_mode`.
  package var name: String {
    switch self {
    case .firstToken: "cls"
    case .maximum: "max"
    case .mean: "mean"
    case .meanBySquareRoot: "mean_sqrt_len_tokens"
    case .weightedMean: "weightedmean"
    case .lastToken: "lasttoken"
    }
  }

  /// One vector, `[channels]`, of a sentence's `[tokens, channels]`.
  ///
  /// All tokens count, those of the sentence alone having been run: none is
  /// masked. Sums are float64 in the order of tokens.
  package func pooled(_ hidden: Matrix) -> [Float] {
    switch self {
    case .firstToken: return Array(hidden[0])
    case .lastToken: return Array(hidden[hidden.rowCount - 1])
    case .maximum:
      return (0..<hidden.channelCount).map { channel in
        (0..<hidden.rowCount).reduce(-.infinity) { max($0, hidden.values[$1 * hidden.channelCount + channel]) }
      }
    case .mean, .meanBySquareRoot, .weightedMean:
      var sums = [Double](repeating: 0, count: hidden.channelCount)
      for row in 0..<hidden.rowCount {
        let weight = self == .weightedMean ? Double(row + 1) : 1
        for (channel, value) in hidden[row].enumerated() { sums[channel] += Double(value) * weight }
      }
      let count = Double(hidden.rowCount)
      let divisor =
        switch self {
        case .meanBySquareRoot: count.squareRoot()
        case .weightedMean: count * (count + 1) / 2
        default: count
        }
      return sums.map { Float($0 / divisor) }
    }
  }
}
