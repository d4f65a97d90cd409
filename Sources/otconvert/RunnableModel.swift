import Foundation
import OTCheckpoint
import OTConversion
import OTGraph
import OTRuntime
import OTTensor

/// A model that a command runs: an `.otq` file as packed, a checkpoint in float32.
struct RunnableModel {
  let path: String
  let executor: any Executor
  /// The files that it is read from.
  let files: [FileIdentity]
  /// What is odd about the checkpoint, a line each.
  let warnings: [String]

  var graph: Graph { executor.graph }

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
        graph: graph, container: file.container, threadCount: threadCount, checksMappedCodes: true)
      files = [file.container.file.identity]
      warnings = []
      return
    }
    let checkpoint = try Checkpoint.open(path)
    warnings = checkpoint.warnings
    let graph = try Families.graph(
      configuration: checkpoint.attachments.json(.configuration),
      tensors: TensorCatalog(checkpoint.tensors, file: checkpoint.files.first?.path),
      override: family)
    // In float32 they are kept as long as they take at most half of the memory.
    let byteCount = checkpoint.tensors.reduce(0) { $0 + $1.shape.elementCount * 4 }
    executor = try FloatExecutor(
      graph: graph, parameters: CheckpointParameters(checkpoint.tensors), threadCount: threadCount,
      cachesParameters: byteCount < Int(clamping: ProcessInfo.processInfo.physicalMemory / 2))
    files = checkpoint.files.map(\.mapped.identity)
  }
}
