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

extension SafetensorsFile {
  /// Checks that the metadata name a format of this package's, and the version that is read.
  ///
  /// - Parameters:
  ///   - rules: the beginning of the rules.
  ///   - command: the command that writes such files.
  ///   - remedy: for a file of another format.
  /// - Throws: `Refusal` with rule `RULES-format` or `RULES-version`.
  package func check(
    format: String, version: String, rules: String, writtenBy command: String, remedy: String, file path: String
  ) throws {
    guard metadata["format"] == format else {
      throw Refusal("\(rules)-format", "is not a file of '\(command)'", file: path, remedy: remedy)
    }
    guard let found = metadata["version"], found == version else {
      throw Refusal(
        "\(rules)-version", "has version \(metadata["version"] ?? "none"), this program reads \(version)", file: path)
    }
  }
}
