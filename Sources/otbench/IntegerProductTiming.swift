import OTKernels
import OTTensor
import Synchronization

/// A product of codes by activations, shared by threads in blocks of row tiles as
/// the runtime does it.
struct IntegerProductTiming {
  let kernels: Kernels
  let layout: TileLayout
  let bits: Int
  let rowCount: Int

  /// Bytes of codes that a product reads.
  var weightByteCount: Int { layout.packedByteCount(bits: bits) }

  /// Seconds of one product. Weights alternate between as many copies as `memory`
  /// has room for, so that few rows find none of them in a cache.
  func seconds(_ timer: KernelTimer, memory: BenchmarkMemory) -> Spread {
    let copyCount = max(1, memory.bytes.count / weightByteCount)
    let width = layout.rowTileCount * 16
    let activations = BenchmarkMemory(randomByteCount: rowCount * layout.paddedColumnCount)
    let results = UnsafeMutableBufferPointer<Int32>.allocate(capacity: rowCount * width)
    let scratch = UnsafeMutableBufferPointer<UInt8>.allocate(
      capacity: timer.threadCount * Kernels.productScratchByteCount)
    results.initialize(repeating: 0)
    scratch.initialize(repeating: 0)
    defer {
      activations.free()
      results.deallocate()
      scratch.deallocate()
    }
    // Enough blocks for every thread, as the runtime makes them.
    let preferred = Kernels.preferredRowTiles(rowCount: rowCount, columnCount: layout.columnCount, bits: bits)
    let step = max(1, min(preferred, layout.rowTileCount / (3 * timer.threadCount)))
    let blockCount = (layout.rowTileCount + step - 1) / step
    nonisolated(unsafe) let (allResults, allScratch) = (results, scratch)
    return timer.measure { repetitionCount in
      let next = Atomic(0)
      timer.onEveryThread { thread in
        let ownScratch = UnsafeMutableBufferPointer(
          rebasing: allScratch[
            thread * Kernels.productScratchByteCount..<(thread + 1) * Kernels.productScratchByteCount])
        let codes = activations.bytes.bindMemory(to: Int8.self)
        while true {
          let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
          guard index < blockCount * repetitionCount else { return }
          let start = index / blockCount % copyCount * weightByteCount
          let packed = UnsafeRawBufferPointer(rebasing: memory.bytes[start..<start + weightByteCount])
          let first = index % blockCount * step
          let tiles = first..<min(first + step, layout.rowTileCount)
          kernels.multiply(
            packed.bindMemory(to: UInt8.self), layout: layout, bits: bits, rowTiles: tiles,
            columns: 0..<layout.paddedColumnCount, activations: codes, rowCount: rowCount,
            into: UnsafeMutableBufferPointer(rebasing: allResults[(first * 16)...]), resultStride: width,
            scratch: ownScratch)
        }
      }
    }
  }
}
