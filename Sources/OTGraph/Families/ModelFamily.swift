import OTFoundation
import OTJSON

/// How a family of models is written as a graph; one file each.
package protocol ModelFamily: Sendable {
  /// The name for `--family` and `Graph.family`.
  static var name: String { get }
  /// Values of `model_type` in config.json.
  static var modelTypes: [String] { get }
  /// Whether a checkpoint with these tensors, and no config.json, is of this family.
  static func recognizes(tensorNames: Set<String>) -> Bool
  /// The graph of a checkpoint.
  ///
  /// Without a configuration, sizes come from the tensors' shapes and what
  /// they do not tell is listed in `Graph.missing`.
  ///
  /// - Throws: `Refusal`: `family-configuration` for a configuration that is
  ///   not to be understood or not supported, `family-tensors` naming
  ///   missing tensors and wrong shapes together.
  static func graph(configuration: JSONValue?, tensors: TensorCatalog) throws -> Graph
}

/// The families that are known.
package enum Families {
  /// Every family, in the order in which tensor names are tried.
  package static let all: [any ModelFamily.Type] = [
    OPTFamily.self, BLOOMFamily.self, LLaMAFamily.self, BERTFamily.self,
  ]

  /// The graph of a checkpoint: of the family called `override`, else of the
  /// configuration's `model_type`, else of the family that knows the tensor names.
  ///
  /// - Throws: `Refusal`: `family-unknown`, or what the family refuses.
  package static func graph(
    configuration: JSONValue?, tensors: TensorCatalog, override: String? = nil
  ) throws -> Graph {
    try family(configuration: configuration, tensors: tensors, override: override)
      .graph(configuration: configuration, tensors: tensors)
  }

  private static func family(
    configuration: JSONValue?, tensors: TensorCatalog, override: String?
  ) throws -> any ModelFamily.Type {
    if let override {
      // A model type ("mistral") is as good as the family's name.
      let wanted = override.lowercased()
      if let family = all.first(where: { $0.name == wanted || $0.modelTypes.contains(wanted) }) {
        return family
      }
      throw unknown("there is no family '\(override)'", file: nil)
    }
    if let type = configuration?["model_type"]?.string {
      if let family = all.first(where: { $0.modelTypes.contains(type) }) { return family }
      throw unknown("models of type '\(type)' are not known", file: tensors.file)
    }
    let names = Set(tensors.entries.keys)
    if let family = all.first(where: { $0.recognizes(tensorNames: names) }) { return family }
    throw unknown("the names of the tensors are of no known family", file: tensors.file)
  }

  private static func unknown(_ message: String, file: String?) -> Refusal {
    let known = all.map { $0.name }.joined(separator: ", ")
    return Refusal(
      "family-unknown", "\(message); known families: \(known)", file: file,
      remedy: "give --family, or --weights-only to pack every 2-D weight without a graph")
  }
}
