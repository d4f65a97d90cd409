import OTFoundation

/// The result for one tensor of the source, or for a node of the graph that differs.
package struct TensorFinding: Sendable {
  /// Name in the source.
  package let name: String
  /// Its storage in the file: `6-bit asymmetric`, `F32`, `alias of …`; `graph` for a node.
  package let storage: String
  /// Signal to quantization noise after the transform; nil unless quantized.
  package let sqnrDecibels: Double?
  /// Largest |w − ŵ| in steps where the code is not at an end of its range;
  /// for float parameters, relative to the largest of the tensor.
  package let maximumError: Double
  /// The name of the tensor in the file.
  package let storedName: String
  /// What it loses of its linear's outputs on text; nil where that was not looked at.
  package internal(set) var outputErrors: OutputComparison.Errors?
  /// The faults, in words; empty when there is none.
  package internal(set) var faults: [String]
  /// Count of each quantized value, 2^bits counts; empty unless quantized.
  package let codeCounts: [Int]
  /// Codes that stand for 0 in the mean over the scales; nil unless quantized.
  package let zeroPoint: Double?

  /// Puts the figures together.
  package init(
    name: String, storage: String, sqnrDecibels: Double? = nil, maximumError: Double = 0, faults: [String],
    codeCounts: [Int] = [], zeroPoint: Double? = nil, storedName: String? = nil
  ) {
    (self.name, self.storage, self.sqnrDecibels) = (name, storage, sqnrDecibels)
    self.storedName = storedName ?? name
    (self.maximumError, self.faults) = (maximumError, faults)
    (self.codeCounts, self.zeroPoint) = (codeCounts, zeroPoint)
  }
}
