import OTFoundation

extension Checkpoint {
  /// Opens a checkpoint: a file of safetensors or of PyTorch, the index of a
  /// sharded one, or the folder of a model in the layout of Hugging Face.
  ///
  /// The content of a file tells its kind, never its name.
  ///
  /// - Throws: `Refusal`; its rule begins with `file-`, `directory-`, `index-`,
  ///   `json-`, `safetensors-`, `checkpoint-` or one of the PyTorch reader's.
  package static func open(_ path: String) throws -> Checkpoint {
    var path = path
    var warnings: [String] = []
    if let folder = try ModelFolder(path: path) {
      let choice = try folder.choose()
      path = path.appendingPathComponent(choice.name)
      warnings = choice.warnings
    }
    let contents = try open(MappedFile(path: path))
    return try Checkpoint(
      CheckpointContents(
        format: contents.format, tensors: contents.tensors, files: contents.files,
        warnings: warnings + contents.warnings), directory: path.parentPath)
  }

  private static func open(_ file: MappedFile) throws -> CheckpointContents {
    if FileContent(file.bytes) == .json { return try ShardedIndex(file).open(openOne) }
    return try openOne(file)
  }

  /// Opens a file that holds tensors itself.
  private static func openOne(_ file: MappedFile) throws -> CheckpointContents {
    let isPyTorch =
      switch FileContent(file.bytes) {
      case .zip, .pickle: true
      // What is neither has its fault named by the reader of its name's format.
      case .unknown: [".bin", ".pt", ".pth"].contains(where: file.path.hasSuffix)
      case .safetensors, .json, .gguf, .otq, .gitLFSPointer, .html: false
      }
    let files = [SourceFile(file)]
    if isPyTorch {
      let pyTorch = try PyTorchFile(mapping: file)
      return CheckpointContents(
        format: .pyTorch, tensors: pyTorch.tensors, files: files, warnings: pyTorch.warnings)
    }
    return CheckpointContents(
      format: .safetensors, tensors: try SafetensorsFile(mapping: file).tensors, files: files,
      warnings: [])
  }
}
