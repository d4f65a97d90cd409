import ArgumentParser
import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTKernels
import OTModel
import OTQ
import OTRuntime
import OTTensor

struct ScaleBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scale",
    abstract: "Time how work grows: with the weights of a model, the tokens of a prompt, and threads.",
    discussion: """
      Models are LLaMAs of random weights, made and removed; they are converted to 6 bits with --effort fast. Figures are
      medians of runs in turn. The exponent e is that of seconds ~ size^e, by least squares of the logarithms: 1 where
      work grows as its size does, −1 where two threads take half as long as one.

      EXAMPLES
        otbench scale
        otbench scale --weights 10000000 --weights 100000000 --runs 3
        otbench scale -o plots/            (also writes weights.svg, length.svg and threads.svg)
      """)

  @Option(help: "Weights of a model; repeatable. [default: 10, 30, 100, 300 and 1,000 million]") var weights: [Int] = []
  @Option(help: "Weights of the model for lengths and threads.") var middle = 100_000_000
  @Option(help: "Tokens of a prompt; repeatable. [default: 128, 256, … 4096]") var lengths: [Int] = []
  @Option(help: "Threads; repeatable. [default: 1, 2, 4, … and all]") var threads: [Int] = []
  @Option(help: "Counted runs of each, after one that is not.") var runs = 3
  @Option(
    name: .shortAndLong, help: ArgumentHelp("A folder for plots.", valueName: "folder"), completion: .directory)
  var output: String?
  @Option(help: "Folder for the models.") var folder = NSTemporaryDirectory()
  @Flag(help: "Print JSON.") var json = false

  func validate() throws {
    guard runs > 0, (weights + [middle]).allSatisfy({ (1_000_000...20_000_000_000).contains($0) }),
      lengths.allSatisfy({ (1...8192).contains($0) }), threads.allSatisfy({ (1...1024).contains($0) })
    else { throw ValidationError("Weights are 1 million to 20 billion, lengths 1 to 8192, threads 1 to 1024.") }
  }

  /// Seconds of some works over one quantity.
  private struct Growth {
    let name: String
    let unit: String
    /// Work → (quantity, seconds of a unit of the work).
    var works: [(name: String, points: [(x: Double, y: Double)])]

    mutating func add(_ work: String, _ x: Int, _ seconds: Double) {
      if let index = works.firstIndex(where: { $0.name == work }) {
        works[index].points.append((Double(x), seconds))
      } else {
        works.append((work, [(Double(x), seconds)]))
      }
    }
  }

  func run() throws {
    try InstructionSet.checkEnvironment()
    if let output {
      try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
    }
    let all = Machine.processorCount
    var growths: [Growth] = []
    try withWorkFolder(in: folder) { work in
      var size = Growth(name: "weights", unit: "weights of the model", works: [])
      for count in (weights.isEmpty ? [10, 30, 100, 300, 1000].map { $0 * 1_000_000 } : weights).sorted() {
        try withModel(count, work) { model, packed in
          try add(to: &size, model.weightCount, model, packed, threads: all, work)
        }
      }
      var length = Growth(name: "length", unit: "tokens of the prompt", works: [])
      var thread = Growth(name: "threads", unit: "threads", works: [])
      try withModel(middle, work) { model, packed in
        let counts = lengths.isEmpty ? (7...12).map { 1 << $0 } : lengths.sorted()
        for (name, bits) in [("prompt", nil), ("prompt, integer attention", 8)] as [(String, Int?)] {
          let loaded = try LanguageModel(path: packed, threadCount: all, attentionBits: bits)
          for count in counts { length.add(name, count, try prompt(loaded, count)) }
        }
        let most = threads.isEmpty ? (0..<11).map { 1 << $0 }.filter { $0 < all } + [all] : threads.sorted()
        for count in most { try add(to: &thread, count, model, packed, threads: count, work) }
      }
      growths = [size, length, thread]
    }
    if let output { for growth in growths { try plot(growth, to: "\(output)/\(growth.name).svg") } }
    print(json ? report(growths).text(pretty: true) : growths.map(table).joined(separator: "\n\n"))
  }

  // MARK: Measuring

  private struct Model {
    let path: String
    let weightCount: Int
    let byteCount: Int
  }

  private func withModel(_ count: Int, _ work: String, _ body: (Model, _ packed: String) throws -> Void) throws {
    let path = "\(work)/model"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try RandomCheckpoint(weightCount: count).write(to: path)
    let tensors = try SourceModel(path: path).checkpoint.tensors
    let model = Model(
      path: path, weightCount: tensors.reduce(0) { $0 + $1.shape.elementCount },
      byteCount: tensors.reduce(0) { $0 + $1.byteCount })
    let packed = "\(work)/model.otq"
    _ = try convert(model, packed, threads: Machine.processorCount)
    try body(model, packed)
  }

  private func add(
    to growth: inout Growth, _ x: Int, _ model: Model, _ packed: String, threads: Int, _ work: String
  ) throws {
    let loaded = try LanguageModel(path: packed, threadCount: threads)
    growth.add("prompt of 512, a token", x, try prompt(loaded, 512) / 512)
    growth.add("decoding, a token", x, try decode(loaded, 32) / 32)
    growth.add(
      "converting", x, try median { try convert(model, "\(work)/again.otq", threads: threads).wallSeconds })
    growth.add("calibrating, 512 tokens", x, try median { try calibrate(model, work, threads: threads).wallSeconds })
  }

  private func median(_ seconds: () throws -> Double) throws -> Double {
    _ = try seconds()
    return Spread(try (0..<runs).map { _ in try seconds() }).median
  }

  private static func tokens(_ count: Int, _ model: LanguageModel) -> [Int] {
    let size = max(2, model.vocabularySize ?? 2)
    return (0..<count).map { $0 * 7919 % (size - 1) + 1 }
  }

  private func prompt(_ model: LanguageModel, _ count: Int) throws -> Double {
    try timed(model, count) { session, tokens in try session.append(tokens) { _ in } }
  }

  private func decode(_ model: LanguageModel, _ count: Int) throws -> Double {
    try timed(model, count) { session, tokens in
      for token in tokens { try session.append([token]) { _ in } }
    }
  }

  /// Seconds of reading so many tokens into an empty sequence.
  private func timed(_ model: LanguageModel, _ count: Int, _ read: (Session, [Int]) throws -> Void) throws -> Double {
    let session = try model.executor.makeSession(tokenCapacity: count)
    let tokens = Self.tokens(count, model)
    return try median {
      session.truncate(to: 0)
      let start = ContinuousClock.now
      try read(session, tokens)
      return (ContinuousClock.now - start) / .seconds(1)
    }
  }

  private static var tool: String {
    URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appendingPathComponent("otconvert").path
  }

  private func convert(_ model: Model, _ output: String, threads: Int) throws -> MeasuredProcess {
    try MeasuredProcess(
      Self.tool,
      [
        model.path, output, "--bits", "6", "--effort", "fast", "--compression", "none", "--quiet", "--force",
        "--threads", "\(threads)",
      ])
  }

  private func calibrate(_ model: Model, _ work: String, threads: Int) throws -> MeasuredProcess {
    let ids = "\(work)/ids.safetensors"
    if !FileManager.default.fileExists(atPath: ids), let shape = Shape([1, 512]) {
      var writer = try SafetensorsWriter(
        path: ids, entries: [.init(name: "input_ids", elementType: .i64, shape: shape)])
      let values = (0..<512).map { Int64($0 * 37 % 251 + 1).littleEndian }
      try values.withUnsafeBytes { try writer.append($0) }
      try writer.commit()
    }
    return try MeasuredProcess(
      Self.tool,
      [
        "calibrate", model.path, "-o", "\(work)/statistics", "--ids", ids, "--quiet", "--force", "--threads",
        "\(threads)",
      ])
  }

  // MARK: Telling

  /// e of seconds ~ x^e.
  private static func exponent(_ points: [(x: Double, y: Double)]) -> Double? {
    guard points.count > 1 else { return nil }
    let logarithms = points.map { (x: log($0.x), y: log($0.y)) }
    let count = Double(points.count)
    let mean = (x: logarithms.reduce(0) { $0 + $1.x } / count, y: logarithms.reduce(0) { $0 + $1.y } / count)
    let square = logarithms.reduce(0) { $0 + ($1.x - mean.x) * ($1.x - mean.x) }
    guard square > 0 else { return nil }
    return logarithms.reduce(0) { $0 + ($1.x - mean.x) * ($1.y - mean.y) } / square
  }

  /// Three digits that count.
  private static func three(_ seconds: Double) -> String {
    guard seconds > 0 else { return "0" }
    let digits = max(0, 2 - Int(log10(seconds).rounded(.down)))
    return fixed(seconds, digits)
  }

  private static func count(_ value: Double) -> String {
    value < 1e6 ? general(value) : "\(fixed(value / 1e6, value < 1e8 ? 1 : 0)) million"
  }

  private func table(_ growth: Growth) -> String {
    let quantities = growth.works.first?.points.map(\.x) ?? []
    var lines = [
      "| seconds by \(growth.unit) | " + quantities.map(Self.count).joined(separator: " | ") + " | exponent |",
      "| --- |" + String(repeating: " ---: |", count: quantities.count + 1),
    ]
    for work in growth.works {
      let seconds = work.points.map { Self.three($0.y) }.joined(separator: " | ")
      let exponent = Self.exponent(work.points).map { fixed($0, 2) } ?? "–"
      lines.append("| \(work.name) | \(seconds) | \(exponent) |")
    }
    return lines.joined(separator: "\n")
  }

  private func report(_ growths: [Growth]) -> JSONValue {
    .object([
      "processor": .string(processorName()), "runs": .integer(runs),
      "growths": .array(
        growths.map { growth in
          .object([
            "over": .string(growth.name),
            "works": .array(
              growth.works.map { work in
                .object([
                  "name": .string(work.name),
                  "exponent": Self.exponent(work.points).map { .number($0) } ?? .null,
                  "points": .array(work.points.map { .array([.number($0.x), .number($0.y)]) }),
                ])
              }),
          ])
        }),
    ])
  }

  private func plot(_ growth: Growth, to path: String) throws {
    let series = growth.works.map { work in
      let exponent = Self.exponent(work.points).map { ", exponent \(fixed($0, 2))" } ?? ""
      return GrowthChart.Series(name: work.name + exponent, points: work.points)
    }
    let chart = GrowthChart(
      title: "\(processorName()): seconds by \(growth.unit)", names: (growth.unit, "seconds"), series: series)
    let file = try AtomicFile(path: path, force: true)
    try file.append(chart.svg.utf8)
    try file.commit()
  }
}
