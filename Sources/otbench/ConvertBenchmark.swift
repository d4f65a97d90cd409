import ArgumentParser
import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTJSON
import OTModel

struct ConvertBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Time whole conversions: seconds, source per second, peak memory, bits per weight.",
    discussion: """
      Every run is a process of its own; figures are medians, with the smallest and the largest.

      EXAMPLES
        otbench convert smollm2/ minilm/
        otbench convert --large            (makes a LLaMA of 4 GB, converts it, removes it)
      """)

  @Argument(help: "Checkpoints to convert.") var models: [String] = []
  @Option(help: "Counted runs of each, after one that is not.") var runs = 5
  @Option(help: "Threads of a conversion.") var threads = Machine.processorCount
  @Option(help: "Bits of the weights (repeatable).") var bits: [Int] = [6, 8]
  @Flag(help: "Also a generated LLaMA checkpoint of 4 GB.") var large = false
  @Option(help: "Folder for outputs and the generated checkpoint.") var folder = NSTemporaryDirectory()
  @Flag(help: "Print JSON.") var json = false

  func validate() throws {
    guard runs > 0, threads > 0 else { throw ValidationError("--runs and --threads must be positive.") }
    guard large || !models.isEmpty else { throw ValidationError("Name a checkpoint, or use --large.") }
    guard bits.allSatisfy((2...8).contains) else { throw ValidationError("--bits must be 2 to 8.") }
  }

  private struct Row {
    let model: String
    let options: String
    let sourceByteCount: Int
    let fileByteCount: Int
    let bitsPerWeight: Double
    let wall: Spread
    let processor: Spread
    let peak: Spread
  }

  func run() throws { try withWorkFolder(in: folder, run) }

  private func run(_ work: String) throws {
    var rows: [Row] = []
    var stages: [(model: String, stages: ConversionStages)] = []
    for model in models {
      for bits in bits {
        for scheme in ["asymmetric", "symmetric"] {
          rows.append(try measure(model, ["--bits", "\(bits)", "--weight-scheme", scheme], runs: runs, work))
        }
      }
    }
    if large {
      let model = work + "/llama-4gb"
      try FileManager.default.createDirectory(atPath: model, withIntermediateDirectories: true)
      try RandomCheckpoint.large.write(to: model)
      rows.append(try measure(model, ["--bits", "6"], runs: min(runs, 3), work))
    }
    // Last: a child's peak memory begins with what this process held when it was started.
    for model in models {
      var options = ConversionOptions()
      options.bits = 6
      stages.append((model, try ConversionStages(Conversion(SourceModel(path: model), options: options).plan())))
    }
    print(json ? report(rows, stages).text(pretty: true) : text(rows, stages))
  }

  private func measure(_ model: String, _ options: [String], runs: Int, _ work: String) throws -> Row {
    let tool = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
      .appendingPathComponent("otconvert").path
    let output = work + "/out.otq"
    let arguments = [model, output, "--quiet", "--force", "--threads", "\(threads)", "--no-calibration"] + options
    _ = try MeasuredProcess(tool, arguments)
    let results = try (0..<runs).map { _ in try MeasuredProcess(tool, arguments) }
    let file = try PackedModel(path: output)
    let linears = file.container.tensors.filter { tensor in
      file.uses[tensor.name].map { $0.role == .weight && $0.linearRole == .block } ?? false
    }
    let bytes = linears.reduce(0) { $0 + file.container.storedByteCount(of: $1) }
    let weights = linears.reduce(0) { $0 + $1.shape.elementCount }
    return Row(
      model: model.lastPathComponent, options: options.joined(separator: " "),
      sourceByteCount: try Checkpoint.open(model).tensors.reduce(0) { $0 + $1.byteCount },
      fileByteCount: file.container.file.byteCount, bitsPerWeight: Double(bytes * 8) / Double(max(weights, 1)),
      wall: Spread(results.map(\.wallSeconds)), processor: Spread(results.map(\.processorSeconds)),
      peak: Spread(results.map { Double($0.peakByteCount) }))
  }

  private func text(_ rows: [Row], _ stages: [(model: String, stages: ConversionStages)]) -> String {
    var lines = [
      "\(processorName()), \(threads) threads, medians of \(runs) runs (smallest – largest)", "",
      "| model | options | source MB | file MB | bits/weight of linears | seconds | MB/s of source | MB/s per core | peak MB |",
      "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows {
      let megabytes = Double(row.sourceByteCount) / 1e6
      lines.append(
        "| \(row.model) | `\(row.options)` | \(fixed(megabytes, 1)) | \(fixed(Double(row.fileByteCount) / 1e6, 1)) "
          + "| \(fixed(row.bitsPerWeight, 3)) "
          + "| \(fixed(row.wall.median, 3)) (\(fixed(row.wall.minimum, 3)) – \(fixed(row.wall.maximum, 3))) "
          + "| \(fixed(megabytes / row.wall.median, 0)) | \(fixed(megabytes / row.processor.median, 0)) "
          + "| \(fixed(row.peak.median / 1e6, 0)) |")
    }
    for (model, stages) in stages {
      let megabytes = Double(stages.sourceByteCount) / 1e6
      lines += [
        "", "\(model.lastPathComponent) at 6 bits, each stage alone on one core:", "",
        "| stage | seconds | MB/s of source |", "| --- | ---: | ---: |",
      ]
      lines += stages.seconds.map {
        "| \($0.stage) | \(fixed($0.value, 3)) | \(fixed(megabytes / max($0.value, 1e-9), 0)) |"
      }
    }
    return lines.joined(separator: "\n")
  }

  private func report(_ rows: [Row], _ stages: [(model: String, stages: ConversionStages)]) -> JSONValue {
    return .object([
      "processor": .string(processorName()), "threads": .integer(threads), "runs": .integer(runs),
      "conversions": .array(
        rows.map { row in
          .object([
            "model": .string(row.model), "options": .string(row.options),
            "sourceByteCount": .integer(row.sourceByteCount), "fileByteCount": .integer(row.fileByteCount),
            "linearBitsPerWeight": .number(row.bitsPerWeight), "wallSeconds": row.wall.json,
            "processorSeconds": row.processor.json, "peakByteCount": row.peak.json,
          ])
        }),
      "stages": .array(
        stages.map { model, stages in
          .object([
            "model": .string(model), "sourceByteCount": .integer(stages.sourceByteCount),
            "seconds": .object(
              stages.seconds.reduce(into: JSONObject()) { $0[$1.stage] = .number($1.value) }),
          ])
        }),
    ])
  }
}
