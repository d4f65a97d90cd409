import ArgumentParser
import Foundation
import OTContainer
import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTRuntime

struct LoadBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "load",
    abstract: "Time opening packed files and loading their weights, until the first product could begin.",
    discussion: """
      A model's folder is converted at 6 bits first, compressed and not, to files
      that are removed at the end. Files are in the system's cache. Values are
      quantized weights: one byte each as int8.

      EXAMPLES
        otbench load smollm2/
        otbench load model.otq --threads 8 --json
      """)

  @Argument(help: "Packed files, or checkpoints to convert.") var models: [String]
  @Option(help: "Counted runs of each, after one that is not.") var runs = 9
  @Option(help: "Threads.") var threads = Machine.processorCount
  @Flag(help: "Also read and check what is used in place.") var check = false
  @Option(help: "Folder for converted files.") var folder = NSTemporaryDirectory()
  @Flag(help: "Print JSON.") var json = false

  func validate() throws {
    guard runs > 0, threads > 0 else { throw ValidationError("--runs and --threads must be positive.") }
  }

  private struct Row {
    let name: String
    let fileByteCount: Int
    let valueCount: Int
    let open: Spread
    let load: Spread
    let total: Spread

    var megabytesPerSecond: Double { Double(valueCount) / 1e6 / total.median }
  }

  func run() throws { try withWorkFolder(in: folder, run) }

  private func run(_ work: String) throws {
    var rows: [Row] = []
    for model in models {
      guard FileContentKind.isCheckpoint(model) else {
        rows.append(try measure(model, name: model.lastPathComponent))
        continue
      }
      let name = model.lastPathComponent
      for (label, compression) in [("zstd", Compression.standard), ("none", .none)] {
        let path = "\(work)/\(name)-\(label).otq"
        var options = ConversionOptions()
        options.bits = 6
        options.compression = compression
        options.threadCount = threads
        try Converter(Conversion(SourceModel(path: model), options: options).plan()).run(to: path)
        rows.append(try measure(path, name: "\(name), 6 bits, \(label)"))
      }
    }
    print(json ? report(rows).text(pretty: true) : text(rows))
  }

  private func measure(_ path: String, name: String) throws -> Row {
    var open: [Double] = [], load: [Double] = []
    var valueCount = 0
    for run in 0...runs {
      var file: PackedModel?
      let opening = try time { file = try PackedModel(path: path) }
      guard let file, let graph = file.graph else {
        throw Refusal("run-no-graph", "has no graph: it cannot be run", file: path)
      }
      valueCount = file.container.tensors.reduce(0) { $0 + ($1.scheme == nil ? 0 : $1.shape.elementCount) }
      let loading = try time {
        _ = try QuantizedExecutor(
          graph: graph, container: file.container, threadCount: threads, checksMappedCodes: check)
      }
      guard run > 0 else { continue }
      open.append(opening)
      load.append(loading)
    }
    return Row(
      name: name, fileByteCount: FileIdentity(path: path)?.byteCount ?? 0, valueCount: valueCount, open: Spread(open),
      load: Spread(load), total: Spread(zip(open, load).map { $0 + $1 }))
  }

  private func text(_ rows: [Row]) -> String {
    var lines = [
      "\(processorName()), \(threads) threads, medians of \(runs) runs (smallest – largest)", "",
      "| file | MB | open, ms | load, ms | both, ms | MB/s of int8 values |",
      "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += rows.map { row in
      "| \(row.name) | \(fixed(Double(row.fileByteCount) / 1e6, 1)) | \(fixed(row.open.median * 1e3, 2)) "
        + "| \(fixed(row.load.median * 1e3, 2)) | \(fixed(row.total.median * 1e3, 2)) "
        + "(\(fixed(row.total.minimum * 1e3, 2)) – \(fixed(row.total.maximum * 1e3, 2))) "
        + "| \(fixed(row.megabytesPerSecond, 0)) |"
    }
    return lines.joined(separator: "\n")
  }

  private func report(_ rows: [Row]) -> JSONValue {
    .object([
      "processor": .string(processorName()), "threads": .integer(threads), "runs": .integer(runs),
      "files": .array(
        rows.map { row in
          .object([
            "name": .string(row.name), "byteCount": .integer(row.fileByteCount),
            "valueCount": .integer(row.valueCount), "openSeconds": row.open.json, "loadSeconds": row.load.json,
            "totalSeconds": row.total.json, "valueMegabytesPerSecond": .number(row.megabytesPerSecond),
          ])
        }),
    ])
  }
}

/// The kind of file at a path of the command line.
enum FileContentKind {
  /// True when it is anything but a packed file.
  static func isCheckpoint(_ path: String) -> Bool {
    guard let handle = FileHandle(forReadingAtPath: path) else { return true }
    defer { try? handle.close() }
    guard let start = try? handle.read(upToCount: ContainerFormat.magic.count) else { return true }
    return Array(start) != ContainerFormat.magic
  }
}
