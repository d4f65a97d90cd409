import Foundation
import OTFoundation
import OTGraph
import OTJSON
import OTTensor
import Testing

func parsed(_ data: Data) throws -> JSONValue {
  try data.withUnsafeBytes { try JSONValue.parse($0, limits: .configuration, file: "test.json") }
}

func parsed(_ text: String) throws -> JSONValue { try parsed(Data(text.utf8)) }

extension TensorCatalog {
  /// A catalog of F32 tensors, written as `["name": [2, 3]]`.
  init(shapes: [String: [Int]]) throws {
    self.init(
      try shapes.mapValues {
        Entry(shape: try #require(Shape($0)), elementType: .f32)
      })
  }

  /// The same tensors under names that `rename` gives; nil drops one.
  func renamed(_ rename: (String) -> String?) -> TensorCatalog {
    let pairs = entries.compactMap { entry in rename(entry.key).map { ($0, entry.value) } }
    return TensorCatalog(Dictionary(uniqueKeysWithValues: pairs), file: file)
  }
}

/// The refusal that `body` throws; fails the test when it throws none.
func refusal(
  _ body: () throws -> Void, sourceLocation: SourceLocation = #_sourceLocation
) throws -> Refusal {
  try #require(#expect(throws: Refusal.self, sourceLocation: sourceLocation) { try body() })
}

/// A small model around one site, for the rules of migration.
///
/// `tail` are the nodes between the linear `first` (4 channels) and the site;
/// the linear `last` reads the value of `site`.
func smallGraph(
  _ tail: [Node], site: String, size: Int = 4, extra: [Node] = [], missing: [String] = []
) throws -> Graph {
  let norm = Norm(gamma: "norm.weight", beta: nil, epsilon: 1e-5, size: 4)
  func linear(_ name: String, in inFeatures: Int = 4, out: Int = 4) -> OTGraph.Operation {
    .linear(
      Linear(
        weight: "\(name).weight", bias: nil, inFeatures: inFeatures, outFeatures: out, role: .block)
    )
  }
  return try Graph(
    family: "test",
    nodes: [
      Node("ids", .tokenIDs),
      Node(
        "embedding", .embedding(Embedding(table: "table", rowCount: 8, size: 4)), inputs: ["ids"]),
      Node("norm", .rmsNorm(norm), inputs: ["embedding"]),
      Node("first", linear("first"), inputs: ["norm"]),
      Node("second", linear("second"), inputs: ["norm"]),
      Node("third", linear("third"), inputs: ["norm"]),
    ] + tail + [Node("last", linear("last", in: size), inputs: [site])] + extra
      + [Node("result", .add, inputs: ["last", "embedding"])],
    outputs: ["hidden": "result"], missing: missing)
}
