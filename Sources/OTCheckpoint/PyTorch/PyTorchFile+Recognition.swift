import OTFoundation

extension PyTorchFile {
  /// The refusal of a file that is something else, saying what.
  static func unrecognized(_ mapping: MappedFile) -> Refusal {
    let bytes = mapping.bytes
    func starts(_ text: String, at offset: Int = 0) -> Bool { starts(Array(text.utf8), at: offset) }
    func starts(_ prefix: [UInt8], at offset: Int = 0) -> Bool {
      bytes.count >= offset + prefix.count && bytes.dropFirst(offset).starts(with: prefix)
    }
    func refuse(_ rule: String, _ what: String, _ remedy: String) -> Refusal {
      Refusal(rule, what, file: mapping.path, byteOffset: 0, remedy: remedy)
    }
    let resave = "load it in PyTorch and save the state dict with torch.save"
    let fetch = "fetch the file itself"
    if bytes.isEmpty { return refuse("pytorch-empty", "is empty", fetch) }
    if starts("ustar", at: 257) {
      return refuse(
        "legacy-tar", "is a tar archive, the oldest serialisation, which is not read", resave)
    }
    if starts("version https://git-lfs") {
      return refuse("pytorch-lfs", "is a Git LFS pointer", "run git lfs pull")
    }
    let known: [([UInt8], String)] = [
      ([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], "a 7z archive"),
      ([0x1F, 0x8B], "compressed with gzip"),
      ([0x89, 0x48, 0x44, 0x46], "an HDF5 file"),
      (Array("PYTORCH1".utf8), "an early PyTorch mobile file"),
      ([0x28, 0xB5, 0x2F, 0xFD], "compressed with zstd"),
      ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "compressed with xz"),
      (Array("BZh".utf8), "compressed with bzip2"),
      ([0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59], "a NumPy file"),
      (Array("GGUF".utf8), "a GGUF file"), (Array("<".utf8), "an HTML or XML page"),
    ]
    for (prefix, what) in known where starts(prefix) {
      return refuse("pytorch-other-format", "is \(what), not a file of torch.save", resave)
    }
    if starts("{", at: 8) {
      return refuse(
        "pytorch-other-format", "is a safetensors file, not one of torch.save",
        "name it .safetensors")
    }
    return refuse("pytorch-other-format", "is not a file of torch.save", resave)
  }
}
