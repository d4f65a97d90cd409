import ArgumentParser
import Foundation
import OTFoundation
import OTJSON
import OTKernels
import OTTensor

struct KernelsBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels",
    abstract: "Time matrix products against what this machine can do at most.",
    discussion: """
      First the peak of each instruction set (a loop over registers) and memory bandwidth, with all threads. Then \
      products of 8, 6 and 4-bit codes by 8-bit activations on the shapes of known models, float32 by OpenBLAS, and \
      bfloat16 and float16 by oneDNN where it is installed and has kernels for them. Few rows read weights that are in no cache.

      EXAMPLES
        otbench kernels
        otbench kernels --shapes OPT-6.7B --rows 1 --rows 512
        OTQ_ISA=avx2 otbench kernels --shapes 4096x4096 --json
      """)

  @Option(help: "Threads.") var threads = Machine.processorCount
  @Option(help: "Shapes whose model or size contains this (repeatable).") var shapes: [String] = []
  @Option(help: "Activation rows (repeatable).") var rows: [Int] = [1, 8, 64, 512]
  @Option(help: "Bits of the codes (repeatable).") var bits: [Int] = [8, 6, 4]
  @Option(help: "Counted runs of each.") var runs = 7
  @Flag(help: "Short runs over less memory: to see that it works.") var quick = false
  @Flag(help: "Leave out the floats of other libraries.") var integersOnly = false
  @Flag(help: "Print JSON.") var json = false

  func validate() throws {
    guard runs > 0, threads > 0 else { throw ValidationError("--runs and --threads must be positive.") }
    guard rows.allSatisfy((1...65_536).contains) else { throw ValidationError("--rows must be 1 to 65,536.") }
    guard bits.allSatisfy((2...8).contains) else { throw ValidationError("--bits must be 2 to 8.") }
    guard !chosenShapes.isEmpty else { throw ValidationError("No shape matches --shapes.") }
  }

  private var chosenShapes: [KernelShape] {
    KernelShape.all.filter { shape in shapes.isEmpty || shapes.contains(where: shape.matches) }
  }

  func run() throws {
    try InstructionSet.checkEnvironment()
    let timer = KernelTimer(
      threadCount: threads, runCount: quick ? 1 : runs, seconds: quick ? 0.002 : 0.05)
    let largest = chosenShapes.map { $0.rowCount * $0.columnCount }.max() ?? 0
    // Several times what caches hold, and one copy of the largest weight in float32.
    let byteCount = max(quick ? 1 << 24 : 1 << 29, largest * 4)
    let memory = BenchmarkMemory(randomByteCount: byteCount)
    defer { memory.free() }
    let peaks = MachinePeaks(timer, memory: memory)
    FloatProductTiming.setThreadCount(threads)
    // One after the other for each shape: what changes with time changes for all.
    let floatTypes: [ElementType] = integersOnly ? [] : OneDNN.installed == nil ? [.f32] : [.f32, .bf16, .f16]
    let floats = floatTypes.map { type in
      (type: type, weights: FloatProductTiming.memory(byteCount: byteCount, type: type))
    }
    defer { for (_, weights) in floats { weights.free() } }
    var timings: [KernelTiming] = []
    for shape in chosenShapes {
      for rowCount in rows {
        // The other libraries' threads wait awake for a while after their last product.
        if !integersOnly && !timings.isEmpty { Thread.sleep(forTimeInterval: quick ? 0 : 0.3) }
        timings += bits.map { timing(timer, shape, rowCount: rowCount, bits: $0, memory: memory) }
        timings += floats.compactMap { timing(timer, shape, rowCount: rowCount, $0.type, weights: $0.weights) }
      }
    }
    let report = KernelReport(
      threadCount: threads, runCount: timer.runCount, peaks: peaks, timings: timings, hasFloats: !integersOnly)
    print(json ? report.json.text(pretty: true) : report.text)
  }

  private func timing(
    _ timer: KernelTimer, _ shape: KernelShape, rowCount: Int, bits: Int, memory: BenchmarkMemory
  ) -> KernelTiming {
    let product = IntegerProductTiming(
      kernels: .current, layout: TileLayout(rowCount: shape.rowCount, columnCount: shape.columnCount),
      bits: bits, rowCount: rowCount)
    return KernelTiming(
      shape: shape, rowCount: rowCount, type: "int\(bits)", weightByteCount: product.weightByteCount,
      seconds: product.seconds(timer, memory: memory))
  }

  /// Nil where there is no kernel for the type.
  private func timing(
    _ timer: KernelTimer, _ shape: KernelShape, rowCount: Int, _ type: ElementType, weights: BenchmarkMemory
  ) -> KernelTiming? {
    let seconds =
      type == .f32
      ? FloatProductTiming.openBLAS(shape, rowCount: rowCount, timer, weights: weights)
      : FloatProductTiming.oneDNN(type, shape, rowCount: rowCount, timer, weights: weights)
    return seconds.map {
      KernelTiming(
        shape: shape, rowCount: rowCount, type: type == .f32 ? "float32" : type == .bf16 ? "bfloat16" : "float16",
        weightByteCount: shape.rowCount * shape.columnCount * type.bitWidth / 8, seconds: $0)
    }
  }
}
