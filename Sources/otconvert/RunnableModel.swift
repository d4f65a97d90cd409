import Foundation
import OTCheckpoint
import OTConversion
import OTGraph
import OTRuntime
import OTTensor
import OTTokenizer

/// A model that a command runs: an `.otq` file as packed, a checkpoint in float32.
struct RunnableModel {
  let path: String
  let executor: any Executor
  /// The files that it is read from.
  let files: [FileIdentity]
  private let source: Source
  /// What is odd about the checkpoint, a line each.
  let warnings: [String]

  var graph: Graph { executor.graph }

  private enum Source {
    case packed(PackedFile)
    case checkpoint(Checkpoint)
  }

  /// The model's tokenizer: attached to the file, or beside the checkpoint.
  ///
  /// - Throws: `Refusal` with rule `tokenizer-missing`, or as `Tokenizer` throws.
  func tokenizer() throws -> Tokenizer {
    switch source {
    case .packed(let file):
      if let tokenizer = try file.tokenizer() { return tokenizer }
    case .checkpoint(let checkpoint):
      if let tokenizer = try checkpoint.tokenizer() { return tokenizer }
    }
    throw Refusal(
      "tokenizer-missing", "has no tokenizer.json, so that text cannot be read", file: path,
      remedy: "give tokens with --ids")
  }

  /// - Parameter family: the family of a checkpoint, instead of what its config.json says.
  /// - Throws: `Refusal` with rule `run-no-graph` for a file of a model of an
  ///   unknown family, or as opening and executors throw.
  init(path: String, family: String? = nil, threadCount: Int) throws {
    self.path = path
    if InspectCommand.isPacked(path) {
      let file = try PackedFile(path: path)
      guard let graph = file.graph else {
        throw Refusal(
          "run-no-graph", "has no graph, since its model's family is unknown: it cannot be run",
          file: path, remedy: "convert a model of a known family, or name it with --family")
      }
      executor = try QuantizedExecutor(
        graph: graph, container: file.container, threadCount: threadCount)
      files = [file.container.file.identity]
      source = .packed(file)
      warnings = []
      return
    }
    let checkpoint = try Checkpoint.open(path)
    warnings = checkpoint.warnings
    let graph = try checkpoint.graph(family: family)
    // In float32 they are kept as long as they take at most half of the memory.
    let byteCount = checkpoint.tensors.reduce(0) { $0 + $1.shape.elementCount * 4 }
    executor = try FloatExecutor(
      graph: graph, parameters: CheckpointParameters(checkpoint.tensors), threadCount: threadCount,
      cachesParameters: byteCount < Int(clamping: ProcessInfo.processInfo.physicalMemory / 2))
    files = checkpoint.files.map(\.mapped.identity)
    source = .checkpoint(checkpoint)
  }
}
