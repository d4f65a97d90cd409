import Foundation
import OTFoundation
import OTGraph
import OTJSON
import OTTensor
import Testing
import _OTTestSupport

/// A model of the fixtures: its configuration and what its files' headers list.
struct GraphFixture: CustomTestStringConvertible {
  let name: String
  let tensorCount: Int
  let siteCount: Int

  var testDescription: String { name }

  static let opt = GraphFixture(name: "opt", tensorCount: 4 + 4 * 16, siteCount: 4 * 4)
  static let bloom = GraphFixture(name: "bloom", tensorCount: 5 + 4 * 12, siteCount: 4 * 4)
  static let llama = GraphFixture(name: "llama", tensorCount: 3 + 4 * 9, siteCount: 4 * 4)
  static let bert = GraphFixture(name: "bert", tensorCount: 5 + 4 * 16 + 5, siteCount: 4 * 4)
  static let all = [opt, bloom, llama, bert]

  var folder: String { Fixtures.path("models/\(name)-mini") }

  func configuration() throws -> JSONValue {
    let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/config.json"))
    return try parsed(data)
  }

  func catalog() throws -> TensorCatalog {
    var entries: [String: TensorCatalog.Entry] = [:]
    for file in try FileManager.default.contentsOfDirectory(atPath: folder)
    where file.hasPrefix("model") && file.hasSuffix(".safetensors") {
      let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/" + file))
      let length = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
      let header = try parsed(data.dropFirst(8).prefix(length))
      for (name, value) in try #require(header.object).members where name != "__metadata__" {
        let dimensions = try #require(value["shape"]?.array).compactMap(\.integer)
        entries[name] = TensorCatalog.Entry(
          shape: try #require(Shape(dimensions)),
          elementType: try #require(value["dtype"]?.string.flatMap(ElementType.init(rawValue:))))
      }
    }
    return TensorCatalog(entries, file: folder)
  }

  func graph() throws -> Graph {
    try Families.graph(configuration: configuration(), tensors: catalog())
  }
}

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
