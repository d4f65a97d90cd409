import OTCheckpoint
import OTFoundation
import OTGraph
import OTQ
import OTRuntime
import OTTensor

/// A file that `eval` writes: one output of the model for every window, float32.
final class EvaluationFile {
  /// The outputs that can be written; raw values are the names of their tensors.
  enum Value: String {
    /// Of tokens `[windows, tokens, vocabulary]`, else of classes `[windows, labels]` or `[windows, tokens, labels]`.
    case logits
    /// `[windows, tokens, channels]`.
    case hidden
    /// `[windows, channels]`.
    case pooled

    /// The node that gives it.
    ///
    /// - Throws: `Refusal` with rule `eval-no-logits` or `eval-no-output` where the model has none.
    func node(of model: LanguageModel) throws -> String {
      let graph = model.graph
      let node =
        switch self {
        case .logits: Graph.scoreOutputs.lazy.compactMap { graph.outputs[$0] }.first
        case .hidden: graph.hiddenNode
        case .pooled: graph.outputs["pooled"]
        }
      guard let node else {
        let known = graph.outputs.keys.sorted().joined(separator: ", ")
        throw Refusal(
          self == .logits ? "eval-no-logits" : "eval-no-output", "gives no \(rawValue), only \(known)",
          file: model.file.path)
      }
      return node
    }
  }

  private let node: String
  private var writer: SafetensorsWriter?

  /// - Throws: `Refusal` as `Value.node`, with rule `eval-logits-size`, or as the writer throws.
  init(
    _ value: Value, to path: String, of model: LanguageModel, on tokens: TokenWindows, force: Bool,
    inputs: [FileIdentity]
  ) throws {
    node = try value.node(of: model)
    let rows = model.graph.rows(of: node) == .sequences ? [] : [tokens.length]
    guard let shape = Shape([tokens.windows.count] + rows + [model.graph.channelCount(of: node) ?? 0]) else {
      throw Refusal("eval-logits-size", "the values are too many for a file", file: path)
    }
    writer = try SafetensorsWriter(
      path: path, entries: [.init(name: value.rawValue, elementType: .f32, shape: shape)], force: force,
      inputs: inputs)
  }

  /// Adds what the nodes of the model gave for the next window.
  func add(_ values: [String: Matrix]) throws {
    // The machines that this runs on are little-endian, as the format is.
    try values[node]?.values.withUnsafeBytes { try writer?.append($0) }
  }

  /// Makes the file appear.
  func commit() throws { try writer.take()?.commit() }
}
