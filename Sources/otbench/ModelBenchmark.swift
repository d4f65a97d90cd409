import ArgumentParser
import Foundation
import OTFoundation
import OTJSON
import OTKernels
import OTQ
import OTRuntime

struct ModelBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract: "Time whole models: tokens per second of prompts and of decoding, sentences per second of encoders.",
    discussion: """
      Packed files run as packed, checkpoints in float32. Tokens are made up: speed
      does not depend on them. Models are run in turn, run by run. For one model,
      the peak of the process's memory is told too.

      EXAMPLES
        otbench model smollm2-8.otq smollm2-6.otq
        otbench model smollm2.otq --prompt 512 --prompt 4096 --decode 0
        otbench model smollm2.otq --sequences 1 --sequences 8
        otbench model minilm/ minilm.otq --sentences 32 --length 64 --json
        otbench model smollm2-6.otq --profile
      """)

  @Argument(help: "Packed files or checkpoints.") var models: [String]
  @Option(help: "Tokens of a prompt; may be given several times. [default: 512]") var prompt: [Int] = []
  @Option(help: "Tokens to decode, one after the other, from an empty sequence; 0: none.") var decode = 128
  @Option(help: "Sequences that are decoded at once; may be given several times. [default: 1]")
  var sequences: [Int] = []
  @Option(help: "Sentences of a batch, for encoders.") var sentences = 32
  @Option(help: "Tokens of a sentence.") var length = 64
  @Option(help: "Counted runs of each, after one that is not.") var runs = 5
  @Option(help: "Threads.") var threads = Machine.processorCount
  @Option(help: "Attention of packed files in integers of N bits, 2 to 8. [default: float]")
  var quantizeAttention: Int?
  @Flag(
    help: """
      Print what each stage takes: its seconds, operations, and the share of what this machine's processors can do at \
      most.
      """)
  var profile = false
  @Flag(help: "Print JSON.") var json = false

  func validate() throws {
    guard runs > 0, threads > 0, sentences > 0, length > 0, decode >= 0, (prompt + sequences).allSatisfy({ $0 > 0 })
    else {
      throw ValidationError("Counts must be positive.")
    }
    guard !(profile && json) else { throw ValidationError("--profile prints tables; --json is for the rest.") }
    guard (2...8).contains(quantizeAttention ?? 8) else {
      throw ValidationError("--quantize-attention must be 2 to 8.")
    }
  }

  /// One kind of work of one model.
  private struct Task {
    let model: String
    let work: String
    /// The unit that is counted per second.
    let unit: String
    let count: Int
    /// Bytes that keys and values take per token, where they are kept.
    var cachedByteCount: Int?
    let timer: StageTimer
    let run: () throws -> Void
  }

  func run() throws {
    try InstructionSet.checkEnvironment()
    var tasks: [Task] = []
    for path in models {
      let model = try LanguageModel(path: path, threadCount: threads, attentionBits: quantizeAttention)
      let name = path.lastPathComponent
      tasks += try model.isCausal ? generation(model, name) : embedding(model, name)
    }
    for task in tasks { try task.run() }
    var seconds = [[Double]](repeating: [], count: tasks.count)
    for _ in 0..<runs {
      for (index, task) in tasks.enumerated() {
        let start = ContinuousClock.now
        try task.run()
        seconds[index].append((ContinuousClock.now - start) / .seconds(1))
      }
    }
    report(tasks, seconds.map { Spread($0) })
    guard profile else { return }
    let peaks = ProfilePeaks(threadCount: threads)
    for task in tasks {
      let stages = try (0..<runs).map { _ in try task.timer.times(of: task.run) }
      print("\n\(task.model), \(task.work)\n\n\(ModelProfile(of: stages).table(peaks))")
    }
  }

  private func generation(_ model: LanguageModel, _ name: String) throws -> [Task] {
    let size = max(2, model.vocabularySize ?? 2)
    let prompts = prompt.isEmpty ? [min(512, model.contextLength ?? 512)] : prompt
    let capacity = max(prompts.max() ?? 1, decode)
    let session = try model.executor.makeSession(tokenCapacity: capacity)
    let tokens = (0..<capacity).map { $0 * 7919 % (size - 1) + 1 }
    var tasks = prompts.map { count in
      Task(
        model: name, work: "prompt of \(count)", unit: "tokens", count: count, cachedByteCount: session.bytesPerToken,
        timer: model.executor.stageTimer
      ) {
        session.truncate(to: 0)
        try session.append(Array(tokens[..<count])) { _ in }
      }
    }
    guard decode > 0 else { return tasks }
    for sequenceCount in sequences.isEmpty ? [1] : sequences {
      let session =
        try sequenceCount == 1
        ? session : model.executor.makeSession(tokenCapacity: decode, sequenceCount: sequenceCount)
      tasks.append(
        Task(
          model: name, work: "decoding \(decode)" + (sequenceCount > 1 ? ", \(sequenceCount) at once" : ""),
          unit: "tokens", count: decode * sequenceCount, cachedByteCount: session.bytesPerToken,
          timer: model.executor.stageTimer
        ) {
          for sequence in 0..<sequenceCount { session.truncate(sequence, to: 0) }
          // One array for all: what is counted and timed is the session's.
          var step = [0]
          for token in tokens[..<decode] {
            step[0] = token
            if sequenceCount == 1 {
              try session.append(step) { _ in }
            } else {
              try session.append((0..<sequenceCount).map { Session.Piece(step, of: $0) }) { _, _ in }
            }
          }
        })
    }
    return tasks
  }

  private func embedding(_ model: LanguageModel, _ name: String) throws -> [Task] {
    let size = max(2, model.vocabularySize ?? 2)
    let batch = (0..<sentences).map { sentence in
      TokenSequence((0..<length).map { (sentence * length + $0) * 7919 % (size - 1) + 1 })
    }
    return [
      Task(
        model: name, work: "\(sentences) sentences of \(length)", unit: "sentences", count: sentences,
        timer: model.executor.stageTimer
      ) {
        _ = try model.executor.run(batch, observe: nil)
      }
    ]
  }

  private func report(_ tasks: [Task], _ spreads: [Spread]) {
    let peak = models.count == 1 ? peakResidentByteCount() : nil
    if json {
      let rows = zip(tasks, spreads).map { task, seconds -> JSONValue in
        .object([
          "model": .string(task.model), "work": .string(task.work),
          "unit": .string(task.unit), "perSecond": .number(Double(task.count) / seconds.median),
          "cachedByteCountPerToken": task.cachedByteCount.map { .integer($0) } ?? .null,
          "seconds": .object([
            "minimum": .number(seconds.minimum), "median": .number(seconds.median),
            "maximum": .number(seconds.maximum),
          ]),
        ])
      }
      print(
        JSONValue.object([
          "processor": .string(processorName()), "instructionSet": .string(InstructionSet.current.rawValue),
          "threads": .integer(threads), "runs": .integer(runs),
          "peakByteCount": peak.map { .integer($0) } ?? .null, "results": .array(rows),
        ]).text(pretty: true))
      return
    }
    print("\(processorName()), \(InstructionSet.current.rawValue), \(threads) threads, medians of \(runs) runs\n")
    print("| model | work | per second | seconds |")
    print("| --- | --- | ---: | ---: |")
    for (task, seconds) in zip(tasks, spreads) {
      print(
        "| \(task.model) | \(task.work) | \(fixed(Double(task.count) / seconds.median, 1)) \(task.unit) "
          + "| \(fixed(seconds.median, 4)) (\(fixed(seconds.minimum, 4)) – \(fixed(seconds.maximum, 4))) |")
    }
    for model in models.map(\.lastPathComponent) {
      guard let count = tasks.first(where: { $0.model == model })?.cachedByteCount else { continue }
      print("\nkeys and values of \(model): \(count) bytes per token")
    }
    if let peak { print("\npeak memory \(fixed(Double(peak) / 1e6, 0)) MB, the mapped file included") }
  }

  /// The largest resident memory of this process.
  private func peakResidentByteCount() -> Int? {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    return line?.split(separator: " ").compactMap { Int($0) }.first.map { $0 * 1024 }
  }
}
