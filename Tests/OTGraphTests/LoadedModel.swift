import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTRuntime
import Testing
import _OTTestSupport

/// A model ready to run: its graph and the checkpoint's parameters.
struct LoadedModel {
  let graph: Graph
  let parameters: CheckpointParameters

  init(_ path: String) throws {
    let checkpoint = try Checkpoint.open(path)
    parameters = CheckpointParameters(checkpoint.tensors)
    graph = try Families.graph(
      configuration: try checkpoint.attachments.json(.configuration),
      tensors: TensorCatalog(checkpoint.tensors, file: path))
  }

  /// The fixture `<family>-mini`, from its safetensors files.
  init(fixture family: String) throws {
    let file = family == "bloom" ? "model.safetensors.index.json" : "model.safetensors"
    try self.init(Fixtures.path("models/\(family)-mini/\(file)"))
  }

  func executor(of migrated: Graph? = nil) throws -> FloatExecutor {
    try FloatExecutor(graph: migrated ?? graph, parameters: parameters, threadCount: 2)
  }
}

/// The reference values of a fixture.
struct Goldens {
  let checkpoint: Checkpoint

  init(_ folder: String) throws {
    checkpoint = try Checkpoint.open(Fixtures.path("models/\(folder)/goldens.safetensors"))
  }

  /// Row `index` of the first dimension, as integers.
  func integers(_ name: String, row index: Int) throws -> [Int] {
    let tensor = try #require(checkpoint[name])
    #expect(tensor.elementType == .i64)
    return tensor.withRowBytes(index..<index + 1) { bytes in
      (0..<bytes.count / 8).map { Int(bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)) }
    }
  }

  /// Row `index` of the first dimension.
  func floats(_ name: String, row index: Int) throws -> [Float] {
    let tensor = try #require(checkpoint[name])
    #expect(tensor.elementType == .f32)
    return tensor.withRowBytes(index..<index + 1) { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
    }
  }
}

/// The largest difference, as a fraction of the range of `expected`.
func relativeError(_ got: some Collection<Float>, _ expected: some Collection<Float>) -> Double {
  guard got.count == expected.count, let low = expected.min(), let high = expected.max() else {
    return .infinity
  }
  var worst = 0.0
  for (a, b) in zip(got, expected) {
    let error = abs(Double(a) - Double(b))
    // A NaN must not look like agreement.
    worst = error.isNaN ? .infinity : max(worst, error)
  }
  return worst / Double(max(high - low, .leastNormalMagnitude))
}
