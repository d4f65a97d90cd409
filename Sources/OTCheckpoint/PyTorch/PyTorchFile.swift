import OTTensor

/// A file written by PyTorch's `torch.save`.
public struct PyTorchFile: Sendable {
  /// The tensors, under dotted paths.
  public let tensors: [TensorView]
  /// What is odd about the file but does not keep it from being read.
  public let warnings: [String]

  /// - Throws: `Refusal`, always: no PyTorch file can be read yet.
  public init(mapping: MappedFile) throws {
    throw Refusal("pytorch-unimplemented", "not built yet", file: mapping.path)
  }
}
