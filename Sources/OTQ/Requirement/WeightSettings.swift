/// The bits of weights and how many of them share a scale: what decides about a file's size.
package struct WeightSettings: Sendable, Hashable, CustomStringConvertible {
  /// Bits of a weight.
  package let bits: Int
  /// Weights of a row that share a scale; nil: all.
  package let groupSize: Int?

  /// WeightSettings.
  package init(bits: Int, groupSize: Int?) { (self.bits, self.groupSize) = (bits, groupSize) }

  /// From the smallest file to the largest: rows of 8 bits in groups are left out, since rows alone lose next to
  /// nothing, and so are groups of less than 64 weights, whose scales take more than half a bit.
  package static let ladder: [WeightSettings] = [
    WeightSettings(bits: 4, groupSize: nil), WeightSettings(bits: 4, groupSize: 128),
    WeightSettings(bits: 4, groupSize: 64),
    WeightSettings(bits: 5, groupSize: nil),
    WeightSettings(bits: 5, groupSize: 64), WeightSettings(bits: 6, groupSize: nil),
    WeightSettings(bits: 6, groupSize: 64),
    WeightSettings(bits: 7, groupSize: nil), WeightSettings(bits: 8, groupSize: nil),
  ]

  /// As options of the command.
  package var description: String { "--bits \(bits)" + (groupSize.map { " --group-size \($0)" } ?? "") }
}
