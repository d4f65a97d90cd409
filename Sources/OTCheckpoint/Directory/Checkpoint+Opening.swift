import OTFoundation
import OTTensor

extension Checkpoint {
  /// Opens a checkpoint: a file of safetensors, of PyTorch or of llama.cpp (GGUF), the index of a
  /// sharded one, or the folder of a model in the layout of Hugging Face.
  ///
  /// The content of a file tells its kind, never its name.
  ///
  /// - Throws: `Refusal`; its rule begins with `file-`, `directory-`, `index-`,
  ///   `json-`, `safetensors-`, `gguf-`, `quantized-`, `checkpoint-` or one of the PyTorch reader's.
  package static func open(_ path: String) throws -> Checkpoint {
    guard let folder = try ModelFolder(path: path) else {
      return try open(MappedFile(path: path))
    }
    let choice = try folder.choose()
    if choice.names[0].hasSuffix(ModelFolder.ggufSuffix) {
      let files = try choice.names.map { try MappedFile(path: folder.path.appendingPathComponent($0)) }
      return try Checkpoint(
        CheckpointContents(gguf: files[0], others: Array(files.dropFirst())), directory: folder.path)
    }
    var contents: CheckpointContents?
    for name in choice.names {
      let part = try Self.contents(of: MappedFile(path: folder.path.appendingPathComponent(name)))
      contents = try contents?.joined(with: part) ?? part
    }
    guard var contents else { preconditionFailure("a choice names a file") }
    contents.warnings = choice.warnings + contents.warnings
    return try Checkpoint(contents, directory: folder.path)
  }

  /// Opens a file that is mapped already; shards, and the files that describe its model, are looked for beside its path.
  ///
  /// - Throws: as `open(_:)` of a path.
  package static func open(_ file: MappedFile) throws -> Checkpoint {
    try Checkpoint(contents(of: file), directory: file.path.parentPath)
  }

  private static func contents(of file: MappedFile) throws -> CheckpointContents {
    let content = FileContent(file.bytes)
    if content == .json { return try ShardedIndex(file).open(openOne) }
    if content == .gguf { return try CheckpointContents(gguf: file) }
    return try openOne(file)
  }

  /// Opens a file that holds tensors itself.
  private static func openOne(_ file: MappedFile) throws -> CheckpointContents {
    let isPyTorch =
      switch FileContent(file.bytes) {
      case .zip, .pickle: true
      case .safetensors: false
      // What is neither has its fault named by the reader of its name's format.
      default: ModelFolder.pyTorchSuffixes.contains(where: file.path.hasSuffix)
      }
    let files = [SourceFile(file)]
    if isPyTorch {
      let pyTorch = try PyTorchFile(mapping: file)
      guard let key = pyTorch.modelKey else {
        return CheckpointContents(
          format: .pyTorch, tensors: pyTorch.tensors, files: files, warnings: pyTorch.warnings)
      }
      let (model, others) = pyTorch.tensors.reduce(into: ([TensorView](), [TensorView]())) { parts, tensor in
        if tensor.name.hasPrefix(key + ".") { parts.0.append(tensor) } else { parts.1.append(tensor) }
      }
      let names = others.prefix(2).map { "'\($0.name)'" }.joined(separator: ", ")
      return CheckpointContents(
        format: .pyTorch, tensors: model, files: files,
        warnings: pyTorch.warnings + [
          Refusal.printable(
            "\(file.path): the model is what '\(key)' holds; \(others.count) tensors beside it are left out: \(names)")
        ])
    }
    return CheckpointContents(
      format: .safetensors, tensors: try SafetensorsFile(mapping: file).tensors, files: files,
      warnings: [])
  }
}
