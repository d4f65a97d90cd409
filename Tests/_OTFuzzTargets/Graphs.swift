import OTFoundation
import OTGraph
import OTJSON
import OTRuntime
import OTTensor

extension FuzzTarget {
  /// Readers of what a model computes.
  static let graphs = [
    // The text of the graph.
    FuzzTarget("graph", maximumByteCount: 4096) { bytes in
      let json = try parse(bytes)
      let graph = try Graph(json: json, file: "\(folder)/graph.json") { name in
        [Float](repeating: name.hasSuffix(".scale") ? 2 : 1, count: 8)
      }
      let again = try Graph(json: parse(Array(graph.json.text().utf8)), file: nil) { name in
        [Float](repeating: name.hasSuffix(".scale") ? 2 : 1, count: 8)
      }
      require(graph == again, "the graph is another one when it is written and read")
      guard isSmall(graph) else { return }
      try run(FloatExecutor(graph: graph, parameters: MadeParameters(), threadCount: 1))
    },
    // config.json, NUL, and the dimensions of each tensor by name.
    FuzzTarget("config", maximumByteCount: 8192) { bytes in
      let parts = bytes.texts(2)
      let shapes = try parse(parts[1]).object?.members ?? []
      var entries: [String: TensorCatalog.Entry] = [:]
      for (name, value) in shapes {
        let dimensions = (value.array ?? []).compactMap(\.integer)
        entries[name] = Shape(dimensions).map { TensorCatalog.Entry(shape: $0, elementType: .f32) }
      }
      let model = try Families.model(
        configuration: parts[0].isEmpty ? nil : parse(parts[0]),
        tensors: TensorCatalog(entries, file: "\(folder)/model.safetensors"),
        configurationFile: "\(folder)/config.json")
      guard isSmall(model.graph) else { return }
      try run(FloatExecutor(graph: model.graph, parameters: MadeParameters(), threadCount: 1))
    },
  ]

  /// Parses as files beside a checkpoint are.
  static func parse(_ bytes: [UInt8]) throws -> JSONValue {
    try bytes.withUnsafeBytes { try JSONValue.parse($0, limits: .configuration, file: "\(folder)/a.json") }
  }

  /// True for a graph that runs in no time.
  static func isSmall(_ graph: Graph) -> Bool {
    guard graph.nodes.count <= 400 else { return false }
    var sum = 0
    for use in graph.parameterUses {
      guard use.shape.elementCount <= 1 << 14 else { return false }
      sum += use.shape.elementCount
    }
    for node in graph.nodes { sum += graph.channelCount(of: node.name) ?? 0 }
    return sum <= 1 << 16
  }

  /// Runs a model on three tokens, and on one token after the other.
  static func run(_ executor: some Executor) throws {
    let tokens = [0, 1, 2].map { $0 % max(1, executor.graph.vocabularySize ?? 3) }
    _ = try executor.run([TokenSequence(tokens), TokenSequence(Array(tokens.prefix(1)))], observe: nil)
    guard executor.graph.isCausal, executor.graph.outputs["logits"] != nil else { return }
    let session = try executor.makeSession(tokenCapacity: 4)
    for token in tokens { try session.append([token]) { _ in } }
  }
}

/// Parameters that are computed.
private struct MadeParameters: ParameterSource {
  func read(_ use: ParameterUse, rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) throws {
    let width = use.shape.rowElementCount
    for (index, row) in rows.enumerated() {
      for column in 0..<width {
        target[index * width + column] = Float((row &* 7 &+ column &* 3) % 11 - 5) / 16
      }
    }
  }
}
