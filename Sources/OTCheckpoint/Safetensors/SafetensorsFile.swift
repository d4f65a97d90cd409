import OTFoundation
import OTTensor

/// A safetensors file whose header has been checked against its bytes.
///
/// The rules are in `formats/accepted-safetensors.md`. Every element type of
/// the format can be opened; whether it can be converted is for the converter
/// to judge. Tensor data are not read.
package struct SafetensorsFile: Sendable {
  /// The tensors in the order of their bytes.
  package let tensors: [TensorView]
  /// The texts under `__metadata__`; empty when there are none.
  package let metadata: [String: String]

  /// Checks the header of `mapping`.
  ///
  /// - Throws: `Refusal` with a rule `safetensors-…` or `json-…`.
  /// - Complexity: O(n log n) in the number of tensors.
  package init(mapping: MappedFile) throws {
    try self.init(mapping: mapping, maximumTensorCount: SafetensorsLimits.tensorCount)
  }

  /// The same with another limit to the number of tensors.
  package init(mapping: MappedFile, maximumTensorCount: Int) throws {
    try SafetensorsFile.checkContent(mapping)
    let header = try SafetensorsHeader(mapping, maximumTensorCount: maximumTensorCount)
    tensors = header.tensors
    metadata = header.metadata
  }

  /// Names what else the file is, since its header's length would only be
  /// called absurd.
  private static func checkContent(_ mapping: MappedFile) throws {
    let content = FileContent(mapping.bytes)
    switch content {
    // Of these the header says more.
    case .safetensors, .unknown, .empty: return
    default: throw content.refusal(reader: "safetensors", wanted: "safetensors", file: mapping.path)
    }
  }
}
