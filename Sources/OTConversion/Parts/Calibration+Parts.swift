import OTFoundation
import OTObservation
import OTRuntime

extension Calibration.Samples {
  /// The samples of one of several parts, in order; the record of their origin stays that of all.
  ///
  /// Parts end where groups of samples end that are multiplied together: values depend on the group in their last bits.
  /// - Throws: `Refusal` with rule `option-value` where there are more parts than groups.
  package func part(_ share: WorkShare) throws -> Calibration.Samples {
    let used = tokens.filter { !$0.tokenIDs.isEmpty }
    let blocks = TokenSequence.productBlocks(lengths: used.map(\.tokenIDs.count))
    guard share.count <= blocks.count else {
      throw Refusal(
        "option-value",
        "--of must be at most \(blocks.count): so many groups of samples, of 512 tokens or one sample, are there")
    }
    let own = blocks[share.range(of: blocks.count)]
    let range = (own.first?.lowerBound ?? 0)..<(own.last?.upperBound ?? 0)
    return Calibration.Samples(tokens: Array(used[range]), run: run, note: note)
  }
}
