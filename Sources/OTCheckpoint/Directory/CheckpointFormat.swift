/// The format of a checkpoint's files.
package enum CheckpointFormat: String, Sendable, Hashable {
  /// One file or shards of safetensors.
  case safetensors = "safetensors"
  /// A file of `torch.save`, an archive or in the legacy layout.
  case pyTorch = "pytorch"
  /// One GGUF file or a set of them, as llama.cpp reads them.
  case gguf = "gguf"
}
