import Foundation
import OTFoundation
import OTJSON
import OTKernels

/// One product as timed.
struct KernelTiming {
  let shape: KernelShape
  let rowCount: Int
  /// `int8`, `float32` and the like: the type of the weights.
  let type: String
  /// Bytes of weights that it reads.
  let weightByteCount: Int
  let seconds: Spread

  /// Operations per second, a multiply and an add being two.
  var operations: Spread { seconds.rate(2 * Double(shape.rowCount * shape.columnCount * rowCount)) }
  /// Bytes of weights per second.
  var bandwidth: Spread { seconds.rate(Double(weightByteCount)) }
}

/// The report that `otbench kernels` prints.
struct KernelReport {
  let threadCount: Int
  let runCount: Int
  let peaks: MachinePeaks
  let timings: [KernelTiming]
  /// True when products of other libraries were asked for.
  let hasFloats: Bool

  /// The most that the loops reached: what is in their way is not in the processor.
  private func peak(_ timing: KernelTiming) -> Double? {
    if timing.type == "float32" { return peaks.float32?.maximum }
    guard timing.type.hasPrefix("int") else { return nil }
    return peaks.codes.first { $0.set == .current }?.operations.maximum
  }

  /// The seconds of a product of the same shape by `type`, divided by this one's.
  private func ratio(_ timing: KernelTiming, to type: String) -> Double? {
    timings.first { $0.shape == timing.shape && $0.rowCount == timing.rowCount && $0.type == type }
      .map { $0.seconds.median / timing.seconds.median }
  }

  var text: String {
    func percent(_ value: Double, of whole: Double?) -> String {
      whole.map { fixed(100 * value / $0, 0) + " %" } ?? ""
    }
    func spread(_ value: Spread, _ places: Int) -> String {
      fixed(value.median, places) + " (\(fixed(value.minimum, places)) – \(fixed(value.maximum, places)))"
    }
    var lines = [
      "\(processorName()), \(threadCount) threads, \(InstructionSet.current.rawValue), medians of \(runCount) runs "
        + "(smallest – largest)"
    ]
    if hasFloats {
      lines.append(
        OneDNN.installed.map { "float32 by OpenBLAS; bfloat16 and float16 by oneDNN \($0.version)" }
          ?? "float32 by OpenBLAS; oneDNN is not installed (libdnnl.so.3 or libdnnl.so.2), so there is no bfloat16 "
          + "or float16 to compare with")
    }
    lines += ["", "| peak | |", "| --- | ---: |"]
    lines += peaks.codes.map { "| \($0.set.rawValue), GOP/s | \(spread($0.operations.scaled(by: 1e-9), 0)) |" }
    if let float32 = peaks.float32 { lines.append("| float32, GFLOP/s | \(spread(float32.scaled(by: 1e-9), 0)) |") }
    lines += [
      "| memory, GB/s read | \(spread(peaks.bandwidth.scaled(by: 1e-9), 1)) |", "",
      "| weight | models | rows | type | GOP/s | of peak | weights, GB/s | of memory | × float32 | × bfloat16 |",
      "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for timing in timings {
      lines.append(
        "| \(timing.shape.name) | \(timing.shape.models) | \(timing.rowCount) | \(timing.type) "
          + "| \(spread(timing.operations.scaled(by: 1e-9), 1)) | \(percent(timing.operations.median, of: peak(timing))) "
          + "| \(fixed(timing.bandwidth.median / 1e9, 1)) "
          + "| \(percent(timing.bandwidth.median, of: peaks.bandwidth.maximum)) "
          + "| \(ratio(timing, to: "float32").map { fixed($0, 2) } ?? "") "
          + "| \(ratio(timing, to: "bfloat16").map { fixed($0, 2) } ?? "") |")
    }
    return lines.joined(separator: "\n")
  }

  var json: JSONValue {
    func spread(_ value: Spread) -> JSONValue {
      .object(["minimum": .number(value.minimum), "median": .number(value.median), "maximum": .number(value.maximum)])
    }
    func number(_ value: Double?) -> JSONValue { value.map { .number($0) } ?? .null }
    return .object([
      "processor": .string(processorName()), "threads": .integer(threadCount), "runs": .integer(runCount),
      "instructionSet": .string(InstructionSet.current.rawValue),
      "oneDNN": OneDNN.installed.map { .string($0.version) } ?? .null,
      "peaks": .object([
        "operationsPerSecond": .object(
          peaks.codes.reduce(into: JSONObject()) { $0[$1.set.rawValue] = spread($1.operations) }),
        "float32OperationsPerSecond": peaks.float32.map(spread) ?? .null,
        "bytesReadPerSecond": spread(peaks.bandwidth),
      ]),
      "products": .array(
        timings.map { timing in
          .object([
            "weightRows": .integer(timing.shape.rowCount), "weightColumns": .integer(timing.shape.columnCount),
            "models": .string(timing.shape.models), "rows": .integer(timing.rowCount), "type": .string(timing.type),
            "seconds": spread(timing.seconds), "operationsPerSecond": spread(timing.operations),
            "weightBytesPerSecond": spread(timing.bandwidth),
            "fractionOfPeak": number(peak(timing).map { timing.operations.median / $0 }),
            "fractionOfBandwidth": .number(timing.bandwidth.median / peaks.bandwidth.maximum),
            "timesFloat32": number(ratio(timing, to: "float32")),
            "timesBFloat16": number(ratio(timing, to: "bfloat16")),
          ])
        }),
    ])
  }
}
