import OTFoundation
import OTKernels
import OTRuntime

/// What this machine can do at most, with the threads of a profile.
struct ProfilePeaks {
  /// Operations per second of products of codes, and of float32.
  let codes, floats: Double?

  init(threadCount: Int) {
    let timer = KernelTimer(threadCount: threadCount, runCount: 3, seconds: 0.05)
    codes = MachinePeaks.codes(.current, timer)?.median
    floats = MachinePeaks.floats(timer)?.median
  }

  /// The peak for operations of a kind of work; nil where none is known.
  func operations(_ work: StageTime.Work) -> Double? {
    switch work {
    case .codes(let perWeight): codes.map { $0 / Double(perWeight) }
    case .floats: floats
    case .rows: nil
    }
  }
}

/// The stages of one kind of work of a model, by the median of their seconds over runs.
struct ModelProfile {
  private struct Stage {
    let time: StageTime
    let seconds: Double
  }

  private let stages: [Stage]

  /// - Precondition: there is a run.
  init(of runs: [[StageTime]]) {
    let seconds = runs.reduce(into: [String: [Double]]()) { seconds, run in
      for stage in run { seconds[stage.name, default: []].append(stage.seconds) }
    }
    stages = runs[0].map { Stage(time: $0, seconds: Spread(seconds[$0.name] ?? [$0.seconds]).median) }
      .sorted { $0.seconds > $1.seconds }
  }

  /// A row for each stage.
  func table(_ peaks: ProfilePeaks) -> String {
    let total = stages.reduce(0) { $0 + $1.seconds }
    var lines = [
      "| stage | runs | ms | share | operations | G/s | of peak |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    func row(_ name: String, _ count: String, _ seconds: Double, _ operations: Double, _ least: Double?) {
      let rate = operations / max(seconds, 1e-9)
      lines.append(
        "| \(name) | \(count) | \(fixed(seconds * 1e3, 2)) | \(fixed(seconds / max(total, 1e-9) * 100, 1)) % | "
          + (operations > 0 ? "\(fixed(operations / 1e9, 2)) G | \(fixed(rate / 1e9, 0)) | " : " |  | ")
          + (least.map { "\(fixed($0 / max(seconds, 1e-9) * 100, 0)) % |" } ?? " |"))
    }
    // The least seconds that all could take, were there products alone.
    var least = 0.0
    for stage in stages {
      let own = peaks.operations(stage.time.work).map { stage.time.operations / $0 }
      least += own ?? 0
      row(stage.time.name, "\(stage.time.count)", stage.seconds, stage.time.operations, own)
    }
    row("all", "", total, stages.reduce(0) { $0 + $1.time.operations }, least)
    return lines.joined(separator: "\n")
  }
}
