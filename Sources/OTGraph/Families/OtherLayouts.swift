import OTFoundation

/// Layouts whose tensors are not those of the models that families know, told by their names.
enum OtherLayouts {
  /// In every checkpoint as Meta and Mistral publish theirs beside that of Hugging Face.
  private static let makers = ["tok_embeddings.weight", "layers.0.attention.wq.weight"]

  /// - Throws: `Refusal` with rule `family-layout`.
  static func check(_ tensors: TensorCatalog) throws {
    guard makers.allSatisfy({ tensors[$0] != nil }) else { return }
    throw Refusal(
      "family-layout", "the tensors are in the layout of their maker, that of Meta and Mistral ('\(makers[0])')",
      file: tensors.file, remedy: "convert it with the script that transformers has for it; \(Families.withoutGraph)")
  }
}
