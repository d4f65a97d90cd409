import OTFoundation

extension PyTorchFile {
  /// The refusal of a file that is something else, saying what.
  static func unrecognized(_ mapping: MappedFile) -> Refusal {
    let content = FileContent(mapping.bytes)
    let rule =
      switch content {
      case .empty: "pytorch-empty"
      case .tar: "legacy-tar"
      case .gitLFSPointer: "pytorch-lfs"
      default: "pytorch-other-format"
      }
    let wanted = "a file of torch.save"
    return Refusal(
      rule, content == .unknown ? "is not \(wanted)" : "is \(content.name), not \(wanted)", file: mapping.path,
      byteOffset: 0,
      // Tar is PyTorch's oldest serialization, too.
      remedy: content == .unknown || content == .tar
        ? "load it in PyTorch and save the state dict with torch.save" : content.remedy)
  }
}
