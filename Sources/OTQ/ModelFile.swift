import OTFoundation
import OTModel

/// A model on disk: a packed `.otq` file, or a checkpoint (a file of
/// safetensors or of PyTorch, the index of a sharded one, or a folder in the
/// layout of Hugging Face).
///
/// ```swift
/// let file = try ModelFile(path: "model.otq")
/// for tensor in file.tensors { print(tensor.name, tensor.shape, tensor.storage) }
/// ```
///
/// Opening checks structure and reads names, not weights: it takes
/// milliseconds. The file stays mapped; it must not be truncated meanwhile.
public struct ModelFile: Sendable {
  /// The open model.
  package let model: Model

  /// The path as it was given.
  public var path: String { model.path }
  /// Oddities of a checkpoint that do not keep it from being read, a line each.
  public var warnings: [String] {
    if case .source(let source) = model { source.checkpoint.warnings } else { [] }
  }

  /// Opens and checks a model.
  ///
  /// - Throws: ``Refusal`` with a rule `file-…`, `otq-…`, `graph-…`, `json-…`,
  ///   `directory-…`, `safetensors-…` or another of the readers'.
  public init(path: String) throws(Refusal) {
    model = try refusing { try Model(path: path) }
  }

  /// A model that is open already.
  package init(_ model: Model) { self.model = model }

  /// True when it is an `.otq` file.
  public var isPacked: Bool { if case .packed = model { true } else { false } }

  /// The tensors in the order of the file.
  public var tensors: [ModelTensor] {
    switch model {
    case .packed(let file): file.container.tensors.map { ModelTensor(file, $0) }
    case .source(let source): source.checkpoint.tensors.map(ModelTensor.init)
    }
  }

  /// The tensor of that name; nil when there is none.
  public func tensor(named name: String) -> ModelTensor? {
    switch model {
    case .packed(let file):
      file.container.tensors.first { $0.name == name }.map { ModelTensor(file, $0) }
    case .source(let source): source.checkpoint[name].map(ModelTensor.init)
    }
  }

  /// Reads all of a packed file and checks every byte: checksums, frames, codes, scales.
  ///
  /// Opening and loading check all but what is used in place, which they do not
  /// read: the codes of an uncompressed file. Damage there makes wrong numbers and nothing
  /// worse. A checkpoint has no checksums to check.
  /// - Parameter threadCount: the most threads that work at a time. Nil: all cores.
  /// - Throws: ``Refusal`` with a rule `otq-…`.
  public func verify(threadCount: Int? = nil) throws(Refusal) {
    guard case .packed(let file) = model else { return }
    try refusing {
      try file.container.verify(threadCount: threadCount ?? Machine.processorCount)
    }
  }
}
