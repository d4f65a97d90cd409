import OTFoundation

/// The place of a family's tensors in a checkpoint: the wrapper's part before all of their names, and the prefix.
///
/// Tools wrap models and with them the names: `module.`, `_orig_mod.`, `model.language_model.`. The family
/// sees the names without that; the finished graph has the checkpoint's own again.
struct FamilyNames {
  /// The checkpoint's tensors, those behind the wrapper under the names without it.
  let tensors: TensorCatalog
  /// One of the family's prefixes.
  let prefix: String
  private let wrapper: String

  /// - Throws: `Refusal` (`family-tensors`) where the names of the family are behind several wrappers.
  init(of facts: FamilyFacts, in tensors: TensorCatalog) throws {
    let places = FamilyNames.places(of: facts, in: tensors)
    guard places.count < 2 else {
      let list = places.prefix(4).map { "'\($0.wrapper)'" }.joined(separator: ", ")
      throw Refusal(
        "family-tensors", "the checkpoint has several models: behind \(list)", file: tensors.file,
        remedy: "save the one to convert alone; \(Families.withoutGraph)")
    }
    (wrapper, prefix) = places.first ?? ("", facts.prefixes[0])
    guard let wrapper = places.first?.wrapper, !wrapper.isEmpty else {
      self.tensors = tensors
      return
    }
    var entries = tensors.entries.filter { !$0.key.hasPrefix(wrapper) }
    for (name, entry) in tensors.entries where name.hasPrefix(wrapper) {
      entries[String(name.dropFirst(wrapper.count))] = entry
    }
    self.tensors = TensorCatalog(entries, file: tensors.file)
    wrapped = Set(tensors.entries.keys.filter { $0.hasPrefix(wrapper) })
  }

  private var wrapped: Set<String> = []

  /// True when the checkpoint has the names that tell the family.
  static func recognizes(_ tensors: TensorCatalog, _ facts: FamilyFacts) -> Bool {
    places(of: facts, in: tensors).contains { place in
      facts.signature.allSatisfy { tensors[place.wrapper + place.prefix + $0] != nil }
    }
  }

  /// Places at which the family's anchor is; the one without a wrapper alone where the anchor is there.
  private static func places(of facts: FamilyFacts, in tensors: TensorCatalog) -> [(wrapper: String, prefix: String)] {
    for prefix in facts.prefixes where tensors[prefix + facts.anchor] != nil { return [("", prefix)] }
    for prefix in facts.prefixes {
      let wanted = prefix + facts.anchor
      let wrappers = tensors.names.filter { $0.hasSuffix("." + wanted) }.map { String($0.dropLast(wanted.count)) }
      if !wrappers.isEmpty { return wrappers.map { ($0, prefix) } }
    }
    return []
  }

  /// Warnings about the names, for the user.
  var warnings: [String] { wrapper.isEmpty ? [] : ["the names of the tensors are read without '\(wrapper)'"] }

  /// The graph of the family with the checkpoint's own names of its tensors.
  func restored(_ graph: Graph) throws -> Graph {
    guard !wrapper.isEmpty else { return graph }
    let nodes = graph.nodes.map { node in
      Node(
        node.name, node.operation.mapTensors { $0.renamed { wrapped.contains(wrapper + $0) ? wrapper + $0 : $0 } },
        inputs: node.inputs)
    }
    return try graph.replacing(nodes: nodes)
  }
}

extension SourceTensor {
  /// The same of another tensor of the checkpoint.
  fileprivate func renamed(_ rename: (String) -> String) -> SourceTensor {
    switch self {
    case .named(let name): .named(rename(name))
    case .transposed(let source): .transposed(source.renamed(rename))
    case .rows(let source, let rows): .rows(of: source.renamed(rename), rows)
    case .element(let source, let index): .element(of: source.renamed(rename), index)
    case .plus(let source, let constant): .plus(source.renamed(rename), constant)
    }
  }
}

extension Operation {
  /// The same operation with other parameters.
  fileprivate func mapTensors(_ map: (SourceTensor) -> SourceTensor) -> Operation {
    switch self {
    case .embedding(let embedding):
      return .embedding(
        Embedding(
          table: map(embedding.table), rowCount: embedding.rowCount, size: embedding.size,
          rowOffset: embedding.rowOffset))
    case .linear(let linear):
      return .linear(
        Linear(
          weight: map(linear.weight), bias: linear.bias.map(map), inFeatures: linear.inFeatures,
          outFeatures: linear.outFeatures, role: linear.role))
    case .layerNorm(let norm): return .layerNorm(norm.mapTensors(map))
    case .rmsNorm(let norm): return .rmsNorm(norm.mapTensors(map))
    default: return self
    }
  }
}

extension Norm {
  fileprivate func mapTensors(_ map: (SourceTensor) -> SourceTensor) -> Norm {
    Norm(gamma: gamma.map(map), beta: beta.map(map), epsilon: epsilon, size: size, groupSize: groupSize)
  }
}
