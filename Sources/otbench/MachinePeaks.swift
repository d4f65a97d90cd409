import OTKernels
import Synchronization

/// The peaks of this machine, with all threads at once.
struct MachinePeaks {
  /// Operations per second by instruction set, for codes.
  let codes: [(set: InstructionSet, operations: Spread)]
  /// Operations per second of float32 multiply-adds; nil where not known.
  let float32: Spread?
  /// Bytes per second read from memory, out of cache.
  let bandwidth: Spread

  init(_ timer: KernelTimer, memory: BenchmarkMemory) {
    codes = InstructionSet.available.compactMap { set in MachinePeaks.codes(set, timer).map { (set, $0) } }
    float32 = MachinePeaks.floats(timer)
    let pieceByteCount = 1 << 20
    let pieceCount = memory.bytes.count / pieceByteCount
    let seconds = timer.measure { repetitionCount in
      let next = Atomic(0)
      timer.onEveryThread { _ in
        while true {
          let piece = next.wrappingAdd(1, ordering: .relaxed).oldValue
          guard piece < pieceCount * repetitionCount else { return }
          let start = piece % pieceCount * pieceByteCount
          _ = Kernels.read(UnsafeRawBufferPointer(rebasing: memory.bytes[start..<start + pieceByteCount]))
        }
      }
    }
    bandwidth = seconds.rate(Double(pieceCount * pieceByteCount))
  }

  /// Operations per second of an instruction set, for codes; nil where it is not known.
  static func codes(_ set: InstructionSet, _ timer: KernelTimer) -> Spread? {
    guard let kernels = Kernels(set) else { return nil }
    return operations(timer) { kernels.runPeakLoop(stepCount: $0) }
  }

  /// Operations per second of float32 multiply-adds; nil where it is not known.
  static func floats(_ timer: KernelTimer) -> Spread? {
    operations(timer) { Kernels.runFloat32PeakLoop(stepCount: $0) }
  }

  private static func operations(_ timer: KernelTimer, _ loop: @Sendable (Int) -> Int) -> Spread? {
    let stepCount = 20_000
    let count = loop(stepCount)
    guard count > 0 else { return nil }
    return timer.measure { repetitionCount in
      timer.onEveryThread { _ in
        for _ in 0..<repetitionCount { _ = loop(stepCount) }
      }
    }.rate(Double(count * timer.threadCount))
  }
}

extension Spread {
  /// `amount` per second, of seconds.
  func rate(_ amount: Double) -> Spread { Spread([amount / maximum, amount / median, amount / minimum]) }

  func scaled(by factor: Double) -> Spread { Spread([minimum * factor, median * factor, maximum * factor]) }
}

/// Memory that products take their weights from, larger than a cache.
///
/// Immutable once filled, so that threads may share it.
struct BenchmarkMemory: @unchecked Sendable {
  let bytes: UnsafeRawBufferPointer

  /// Memory of `byteCount` bytes, rounded up to 4 KiB, written by `fill`.
  init(byteCount: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void) {
    let memory = UnsafeMutableRawBufferPointer.allocate(
      byteCount: (byteCount + 4095) / 4096 * 4096, alignment: 4096)
    fill(memory)
    bytes = UnsafeRawBufferPointer(memory)
  }

  /// Bytes of any value.
  init(randomByteCount: Int) {
    self.init(byteCount: randomByteCount) { memory in
      let words = memory.bindMemory(to: UInt64.self)
      var state: UInt64 = 1
      for index in words.indices {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        words[index] = state ^ state >> 32
      }
    }
  }

  func free() { bytes.deallocate() }
}
