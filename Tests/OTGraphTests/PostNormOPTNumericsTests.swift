import Foundation
import OTConversion
import OTGraph
import OTJSON
import OTModel
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// OPT as opt-350m has it: norms after the residual additions, embeddings
/// narrower than the blocks. Random weights, and a forward pass written from
/// the model's description, in float64.
@Suite struct PostNormOPTNumericsTests {
  static let hidden = 24
  static let narrow = 16
  static let inner = 40
  static let vocabulary = 48
  static let heads = 3
  static let layers = 2

  static let shapes: [String: [Int]] = {
    var shapes = [
      "embed_tokens.weight": [vocabulary, narrow],
      // Two rows come before that of position 0.
      "embed_positions.weight": [34, hidden],
      "project_in.weight": [hidden, narrow],
      "project_out.weight": [narrow, hidden],
    ]
    for layer in 0..<layers {
      let prefix = "layers.\(layer)."
      for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        shapes[prefix + "self_attn.\(name).weight"] = [hidden, hidden]
        shapes[prefix + "self_attn.\(name).bias"] = [hidden]
      }
      for name in ["self_attn_layer_norm", "final_layer_norm"] {
        shapes[prefix + name + ".weight"] = [hidden]
        shapes[prefix + name + ".bias"] = [hidden]
      }
      shapes[prefix + "fc1.weight"] = [inner, hidden]
      shapes[prefix + "fc1.bias"] = [inner]
      shapes[prefix + "fc2.weight"] = [hidden, inner]
      shapes[prefix + "fc2.bias"] = [hidden]
    }
    return Dictionary(uniqueKeysWithValues: shapes.map { ("model.decoder." + $0.key, $0.value) })
  }()

  static let configuration = """
    {"model_type": "opt", "hidden_size": 24, "word_embed_proj_dim": 16, "ffn_dim": 40,
     "vocab_size": 48, "max_position_embeddings": 32, "num_hidden_layers": 2,
     "num_attention_heads": 3, "do_layer_norm_before": false, "activation_function": "relu",
     "enable_bias": true, "layer_norm_elementwise_affine": true, "tie_word_embeddings": true}
    """

  @Test func logitsAgreeBeforeAndAfterMigration() throws {
    var generator = SeededGenerator()
    let comment = "seed \(generator.seed)"
    let tensors = try RandomTensors.views(Self.shapes, seed: generator.seed)
    let parameters = ParameterReader(tensors)
    let graph = try Families.graph(
      configuration: JSONValue.parse(Self.configuration), tensors: TensorCatalog(tensors))
    let tokens = (0..<32).map { _ in Int.random(in: 0..<Self.vocabulary, using: &generator) }

    let direct = DirectOPT(tensors).logits(tokens).flatMap { $0.map { Float($0) } }
    let original = try Trace(graph, parameters, tokens: tokens)
    let error = relativeError(original.outputs["logits"] ?? [], direct)
    #expect(error < 1e-5, "\(comment): \(error) of the range")

    for parts in TransformParts.allCases {
      var migrated = graph
      for site in graph.sites {
        migrated = try migrated.migrating(
          site, by: parts.transform(of: site, in: graph, using: &generator))
      }
      // Its norms feed residuals, so that a shift or scale of theirs stays on the edge.
      let affine = migrated.nodes.filter { $0.operation == .affine }
      // The first site, the sum of embeddings, is no norm's, but cannot be transformed either.
      #expect(affine.count == (parts == .scale ? 2 : 3) * Self.layers)
      try Trace(migrated, parameters, tokens: tokens)
        .expectOutputs(of: original, tolerance: 2e-5, "\(comment), \(parts)")
    }
  }
}

/// OPT with norms after the additions, token by token.
private struct DirectOPT {
  private var values: [String: [Double]] = [:]

  init(_ tensors: [TensorView]) {
    for tensor in tensors {
      values[String(tensor.name.dropFirst("model.decoder.".count))] =
        tensor.withRowBytes(0..<tensor.shape.rowCount) { bytes in
          bytes.bindMemory(to: Float.self).map { Double($0) }
        }
    }
  }

  private func row(_ table: String, _ index: Int, _ size: Int) -> [Double] {
    Array(values[table + ".weight"]![index * size..<(index + 1) * size])
  }

  private func linear(_ name: String, _ x: [Double]) -> [Double] {
    let weight = values[name + ".weight"]!
    let rows = weight.count / x.count
    let bias = values[name + ".bias"] ?? [Double](repeating: 0, count: rows)
    return (0..<rows).map { row in
      x.indices.reduce(bias[row]) { $0 + weight[row * x.count + $1] * x[$1] }
    }
  }

  private func norm(_ name: String, _ x: [Double]) -> [Double] {
    let mean = x.reduce(0, +) / Double(x.count)
    let variance = x.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Double(x.count)
    return x.indices.map {
      (x[$0] - mean) / sqrt(variance + 1e-5) * values[name + ".weight"]![$0]
        + values[name + ".bias"]![$0]
    }
  }

  private func sum(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }

  func logits(_ tokens: [Int]) -> [[Double]] {
    typealias Test = PostNormOPTNumericsTests
    let size = Test.hidden / Test.heads
    var x = tokens.enumerated().map { position, token in
      sum(
        linear("project_in", row("embed_tokens", token, Test.narrow)),
        row("embed_positions", position + 2, Test.hidden))
    }
    for layer in 0..<Test.layers {
      let prefix = "layers.\(layer)."
      let queries = x.map {
        linear(prefix + "self_attn.q_proj", $0).map { $0 / sqrt(Double(size)) }
      }
      let keys = x.map { linear(prefix + "self_attn.k_proj", $0) }
      let values = x.map { linear(prefix + "self_attn.v_proj", $0) }
      x = x.indices.map { i in
        var mixed = [Double](repeating: 0, count: Test.hidden)
        for head in 0..<Test.heads {
          let channels = head * size..<(head + 1) * size
          let weights = (0...i).map { j in
            exp(channels.reduce(0) { $0 + queries[i][$1] * keys[j][$1] })
          }
          let total = weights.reduce(0, +)
          for channel in channels {
            mixed[channel] = (0...i).reduce(0) { $0 + weights[$1] / total * values[$1][channel] }
          }
        }
        let attended = sum(x[i], linear(prefix + "self_attn.out_proj", mixed))
        let normed = norm(prefix + "self_attn_layer_norm", attended)
        let inner = linear(prefix + "fc1", normed).map { max($0, 0) }
        return norm(prefix + "final_layer_norm", sum(normed, linear(prefix + "fc2", inner)))
      }
    }
    return x.map { x in
      let projected = linear("project_out", x)
      return (0..<Test.vocabulary).map { token in
        zip(projected, row("embed_tokens", token, Test.narrow)).map { $0 * $1 }.reduce(0, +)
      }
    }
  }
}
