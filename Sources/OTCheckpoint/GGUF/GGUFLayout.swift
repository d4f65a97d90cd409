import OTJSON
import OTTensor

/// The form that llama.cpp has of a kind of models, for writing: the tables of the reader, the other way.
package struct GGUFLayout: Sendable {
  /// A tensor's place in the file.
  package struct Place: Sendable {
    /// The name in the file.
    package let name: String
    /// Added to each element: gains are stored plus 1.
    package let constant: Float
    fileprivate let order: RearrangedRows.Order?

    /// True where rows stay in their order.
    package var keepsOrder: Bool { order == nil }

    /// The row of the file, of `rowCount`, for the model's `row`.
    package func row(_ row: Int, rowCount: Int) -> Int { order?.source(of: row, rowCount: rowCount) ?? row }
  }

  /// llama.cpp's name of the kind of model.
  package let name: String
  private let architecture: GGUFArchitecture
  private let headCount, keyValueHeadCount: Int

  /// `model_type` of config.json of the kinds that are written, and llama.cpp's names.
  package static let names = [
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2",
    "gemma3_text": "gemma3", "phi3": "phi3", "bert": "bert", "bloom": "bloom",
  ]

  /// Nil for a kind of model that is not written.
  package init?(modelType: String, headCount: Int, keyValueHeadCount: Int) {
    guard let name = Self.names[modelType], let architecture = GGUFArchitecture.all[name], headCount > 0,
      keyValueHeadCount > 0
    else { return nil }
    (self.name, self.architecture) = (name, architecture)
    (self.headCount, self.keyValueHeadCount) = (headCount, keyValueHeadCount)
  }

  /// The place of a tensor of the model, whatever goes before its name; nil where the kind has none.
  ///
  /// - Parameter rowCount: rows of the tensor.
  package func place(of name: String, rowCount: Int) -> Place? {
    let prefix = architecture.layers.split(separator: ".").first.map { "\($0)." } ?? ""
    let names = [name, prefix + name] + (name.hasPrefix("bert.") ? [String(name.dropFirst(5))] : [])
    guard let (stored, stem) = names.lazy.compactMap(architecture.stored).first else { return nil }
    var order: RearrangedRows.Order?
    var constant: Float = 0
    switch architecture.changes[stem] {
    case nil: break
    case .alternating(let key):
      let heads = key == "attention.head_count_kv" ? keyValueHeadCount : headCount
      guard rowCount % heads == 0, rowCount / heads % 2 == 0 else { return nil }
      order = .alternating(headSize: rowCount / heads)
    case .fused:
      guard rowCount % (3 * headCount) == 0 else { return nil }
      order = .byPart(partCount: 3, headSize: rowCount / (3 * headCount))
    case .plusOne: constant = 1
    case .transposed, .grouped, .split, .elements, .row: return nil
    }
    return Place(name: stored, constant: constant, order: order)
  }

  /// True where the kind has this key, without its name.
  package func has(_ key: String) -> Bool { architecture.members[key] != nil || architecture.otherKeys.contains(key) }

  /// The keys that members of config.json say, in order.
  package func keys(of members: JSONObject) -> [(name: String, value: GGUFValue)] {
    architecture.members.sorted { $0.key < $1.key }.compactMap { key, member in
      guard let value = members[member]?.double else { return nil }
      let name = "\(name).\(key)"
      guard !Self.isNumber(key) else { return (name, .number(value)) }
      return Int(exactly: value).map { (name, .integer($0)) }
    }
  }

  private static func isNumber(_ key: String) -> Bool {
    ["epsilon", "freq_base", "freq_base_swa", "softcapping", "scale"].contains { key.hasSuffix($0) }
  }
}
