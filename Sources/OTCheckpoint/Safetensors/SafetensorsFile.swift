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
    func refusal(_ kind: String, _ message: String, _ remedy: String) -> Refusal {
      Refusal("safetensors-is-\(kind)", message, file: mapping.path, byteOffset: 0, remedy: remedy)
    }
    switch FileContent(mapping.bytes) {
    case .safetensors, .unknown: return
    case .zip:
      throw refusal(
        "zip", "is a ZIP archive, not safetensors", "open it as a PyTorch checkpoint")
    case .pickle:
      throw refusal(
        "pickle", "is a Python pickle, not safetensors", "open it as a PyTorch checkpoint")
    case .json:
      throw refusal(
        "json", "is JSON text, not safetensors", "an index is opened by its own path")
    case .gguf:
      throw refusal(
        "gguf", "is a GGUF file, not safetensors", "convert from the original checkpoint")
    case .otq:
      throw refusal(
        "otq", "is a packed .otq file already, not safetensors", "'otconvert unpack' writes safetensors")
    case .gitLFSPointer:
      throw refusal(
        "git-lfs-pointer", "is a Git LFS pointer, not the file it stands for",
        "run 'git lfs pull' in its repository")
    case .html:
      throw refusal(
        "html", "is a web page, not safetensors", "download the file itself, not its page")
    }
  }
}
