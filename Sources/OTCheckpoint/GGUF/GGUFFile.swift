import OTFoundation
import OTTensor

/// A GGUF file whose header has been checked against its bytes.
///
/// The rules are in `formats/accepted-gguf.md`. Tensor data are not read.
package struct GGUFFile: Sendable {
  /// A tensor in the file: its name there, its shape outermost first, its type and the place of its data.
  package struct Tensor: Sendable {
    /// The name in the file.
    package let name: String
    /// The dimensions, outermost first.
    package let shape: Shape
    /// The type of the elements.
    package let type: GGUFType
    /// The place of the data in the file.
    package let byteOffset: Int
  }

  let mapping: MappedFile
  /// The values of the keys.
  package let values: [String: GGUFValue]
  /// The tensors in the order of their data.
  package let tensors: [Tensor]

  /// Checks the header of `mapping`.
  ///
  /// - Throws: `Refusal` with a rule `gguf-…`, `gguf-is-…` for a file of another kind.
  package init(_ mapping: MappedFile) throws {
    let content = FileContent(mapping.bytes)
    guard content == .gguf else {
      throw content.refusal(reader: "gguf", wanted: "a GGUF file", file: mapping.path)
    }
    self.mapping = mapping
    var header = GGUFHeader(mapping)
    (values, tensors) = try header.read()
  }

  func refusal(_ rule: String, _ message: String, tensor: String? = nil, remedy: String? = nil) -> Refusal {
    Refusal(rule, message, file: mapping.path, tensor: tensor, remedy: remedy)
  }

  /// The tensor's values, as they lie in the file or as they are decoded, under another name.
  package func view(of tensor: Tensor, named name: String) -> TensorView {
    if let type = tensor.type.elementType {
      return TensorView(
        name: name, elementType: type, shape: tensor.shape, file: mapping, byteOffset: tensor.byteOffset)
    }
    return TensorView(
      decoded: name, shape: tensor.shape,
      by: GGUFBlockRows(file: mapping, byteOffset: tensor.byteOffset, type: tensor.type, shape: tensor.shape),
      file: mapping, byteOffset: tensor.byteOffset)
  }
}
