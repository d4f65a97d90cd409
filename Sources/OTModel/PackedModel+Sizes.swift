import OTContainer
import OTTensor

extension PackedModel {
  /// The quantized weights of the blocks' linears; without a graph all quantized weights.
  package var blockWeights: [StoredTensor] {
    container.tensors.filter { tensor in
      guard tensor.scheme != nil else { return false }
      guard graph != nil else { return true }
      guard let use = uses[tensor.name] else { return false }
      return use.role == .weight && use.linearRole == .block
    }
  }

  /// Bits per weight of the blocks' linears on disk, scales and zero points included.
  package var linearBitsPerWeight: Double {
    let weights = blockWeights
    let byteCount = weights.reduce(0) { $0 + container.storedByteCount(of: $1) }
    return Double(byteCount * 8) / Double(max(weights.reduce(0) { $0 + $1.shape.elementCount }, 1))
  }
}
