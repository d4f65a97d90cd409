/// How the tensors of a checkpoint are stored.
public enum CheckpointFormat: String, Sendable, Hashable {
  case safetensors = "safetensors"
  case pyTorch = "pytorch"
}
