/// How the tensors of a checkpoint are stored.
package enum CheckpointFormat: String, Sendable, Hashable {
  /// One file or shards of safetensors.
  case safetensors = "safetensors"
  /// What `torch.save` wrote, as an archive or in the legacy layout.
  case pyTorch = "pytorch"
}
