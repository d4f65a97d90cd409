import ArgumentParser
import Foundation
import OTCheckpoint
import OTConversion
import OTGraph
import OTJSON
import OTRuntime
import OTTensor

struct ModelBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract: "Time whole models: reading a prompt and decoding, or embedding sentences.",
    discussion: """
      Token ids are random. A causal model reads a prompt from nothing, and then,
      from nothing again, decodes tokens one by one. Another model embeds sentences
      as one batch. A checkpoint runs as float, a packed file with integer products.

      EXAMPLES
        otbench model smollm2.otq --prompt 512 --decode 128
        otbench model minilm.otq minilm/ --sentences 32 --length 64 --json
      """)

  @Argument(help: "Packed files and checkpoints.") var models: [String]
  @Option(help: "Tokens of the prompt; 0 for none.") var prompt = 512
  @Option(help: "Tokens to decode; 0 for none.") var decode = 128
  @Option(help: "Sentences to embed.") var sentences = 32
  @Option(help: "Tokens of a sentence.") var length = 64
  @Option(help: "Counted runs of each, after one that is not.") var runs = 5
  @Option(help: "Threads.") var threads = ProcessInfo.processInfo.activeProcessorCount
  @Flag(help: "Print JSON.") var json = false

  func validate() throws {
    guard runs > 0, threads > 0, length > 0, sentences > 0, prompt >= 0, decode >= 0 else {
      throw ValidationError("--runs, --threads, --sentences and --length must be positive.")
    }
  }

  private struct Row {
    let model: String
    let test: String
    /// Tokens or sentences per second.
    let rate: Spread
  }

  func run() throws {
    let rows = try models.flatMap(measure)
    guard json else {
      var lines = [
        "\(processorName()), \(threads) threads, medians of \(runs) runs (smallest – largest)", "",
        "| model | test | per second |", "| --- | --- | ---: |",
      ]
      lines += rows.map {
        "| \($0.model) | \($0.test) | \(fixed($0.rate.median, 1)) "
          + "(\(fixed($0.rate.minimum, 1)) – \(fixed($0.rate.maximum, 1))) |"
      }
      return print(lines.joined(separator: "\n"))
    }
    let report: JSONValue = .object([
      "processor": .string(processorName()), "threads": .integer(threads), "runs": .integer(runs),
      "tests": .array(
        rows.map { .object(["model": .string($0.model), "test": .string($0.test), "perSecond": $0.rate.json]) }),
    ])
    print(report.text(pretty: true))
  }

  private func measure(_ path: String) throws -> [Row] {
    let name = URL(fileURLWithPath: path).lastPathComponent
    let executor = try executor(path)
    guard let vocabularySize = executor.graph.vocabularySize else {
      throw Refusal("bench-vocabulary", "does not say how many tokens there are", file: path)
    }
    var state: UInt64 = 1
    func tokens(_ count: Int) -> [Int] {
      (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % vocabularySize
      }
    }
    func rate(_ test: String, _ count: Int, _ body: () throws -> Void) throws -> Row {
      try body()
      let seconds = try (0..<runs).map { _ in try time(body) }
      return Row(model: name, test: test, rate: Spread(seconds.map { Double(count) / $0 }))
    }
    guard executor.graph.isCausal else {
      let batch = (0..<sentences).map { _ in TokenSequence(tokens(length)) }
      return [
        try rate("embed \(sentences) × \(length)", sentences) { _ = try executor.run(batch, observe: nil) }
      ]
    }
    var rows: [Row] = []
    if prompt > 0 {
      let session = try executor.makeSession(tokenCapacity: prompt)
      let ids = tokens(prompt)
      rows.append(
        try rate("prompt \(prompt)", prompt) {
          session.truncate(to: 0)
          try session.append(ids) { _ in }
        })
    }
    if decode > 0 {
      let session = try executor.makeSession(tokenCapacity: decode)
      let ids = tokens(decode)
      rows.append(
        try rate("decode \(decode)", decode) {
          session.truncate(to: 0)
          for id in ids { try session.append([id]) { _ in } }
        })
    }
    return rows
  }

  private func executor(_ path: String) throws -> any Executor {
    if !FileContentKind.isCheckpoint(path) {
      let file = try PackedFile(path: path)
      guard let graph = file.graph else {
        throw Refusal("run-no-graph", "has no graph: it cannot be run", file: path)
      }
      return try QuantizedExecutor(graph: graph, container: file.container, threadCount: threads)
    }
    let checkpoint = try Checkpoint.open(path)
    let graph = try Families.graph(
      configuration: checkpoint.attachments.json(.configuration),
      tensors: TensorCatalog(checkpoint.tensors, file: checkpoint.files.first?.path), override: nil)
    return try FloatExecutor(
      graph: graph, parameters: CheckpointParameters(checkpoint.tensors), threadCount: threads, cachesParameters: true)
  }
}

extension Graph {
  /// Whether no token sees those behind it.
  fileprivate var isCausal: Bool {
    nodes.contains { node in
      if case .attention(let attention) = node.operation { attention.isCausal } else { false }
    }
  }
}
