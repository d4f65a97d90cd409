import OTKernels

/// Quantizes a row for the linears that multiply integers.
final class QuantizationStep: RowStep {
  private let id: Program.QuantizedID
  private let from: Program.ValueID

  init(_ id: Program.QuantizedID, of from: Program.ValueID) { (self.id, self.from) = (id, from) }

  var written: Program.ValueID? { nil }
  var read: [Program.ValueID] { [from] }
  var quantized: Program.QuantizedID? { id }

  func run(_ pass: Pass, _ block: RowBlock) {
    let value = pass.program.quantizedValues[id]
    let place = pass.workspace.quantized(id, in: block)
    let kernels = pass.kernels
    let width = value.channelCount
    let source = pass.workspace.rows(of: from, in: block)
    for row in block.rows {
      let x = UnsafeBufferPointer(start: source + row * width, count: width)
      let q = place.values(row: row)
      let target = UnsafeMutableBufferPointer(start: q, count: place.limbCount * place.stride)
      // Sums of the whole row; a partition into one run needs no more.
      var sums: (Int32, Int32, Int32) = (0, 0, 0)
      switch value.quantization {
      case .static(let bits):
        sums.0 = kernels.quantizeStatically(x, bits: bits, into: target).sum
      case .dynamic(let bits):
        let result = kernels.quantizeDynamically(x, bits: bits, into: target)
        place.scale(row: row).pointee = result.scale
        sums.0 = result.sum
      case .asymmetric(let bits):
        let result = kernels.quantizeAsymmetrically(x, bits: bits, into: target)
        (place.scale(row: row).pointee, place.zero(row: row).pointee) = (result.scale, result.zero)
        sums.0 = result.sum
      case .groups(let bits, let size, let isAsymmetric):
        let groups = UnsafeMutableBufferPointer(start: place.groups(row: row), count: place.groupCount)
        if isAsymmetric {
          kernels.quantizeGroupsAsymmetrically(
            x, bits: bits, groupSize: size, into: target, groups: groups,
            zeros: UnsafeMutableBufferPointer(start: place.groupZeros(row: row), count: place.groupCount))
        } else {
          kernels.quantizeGroups(x, bits: bits, groupSize: size, into: target, groups: groups)
        }
        // Each group has its sum.
        continue
      case .limbs:
        place.scale(row: row).pointee = withUnsafeMutableBytes(of: &sums) {
          kernels.splitDigits(x, into: target, stride: place.stride, sums: $0.assumingMemoryBound(to: Int32.self))
        }
      }
      var run = 0
      for partition in value.partitions {
        for columns in partition {
          let target = place.sums(row: row, run: run)
          run += 1
          if partition.count == 1 {
            target[0] = sums.0
            if place.limbCount == 3 { (target[1], target[2]) = (sums.1, sums.2) }
          } else {
            for limb in 0..<place.limbCount {
              target[limb] = kernels.sum(
                UnsafeBufferPointer(start: q + limb * place.stride + columns.lowerBound, count: columns.count))
            }
          }
        }
      }
    }
  }
}
