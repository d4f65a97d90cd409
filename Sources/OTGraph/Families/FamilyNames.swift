import OTFoundation

/// The place of a family's tensors in a checkpoint: what tools have put into their names, and the prefix.
///
/// Tools wrap models and with them the names: `module.`, `_orig_mod.`, `model.language_model.`. The family
/// sees the names without that; the finished graph has the checkpoint's own again.
struct FamilyNames {
  /// The checkpoint's tensors under the names that the family knows.
  let tensors: TensorCatalog
  /// One of the family's prefixes.
  let prefix: String
  /// True where the names of the family are behind another part.
  private let isWrapped: Bool
  /// Warnings about the names, for the user.
  let warnings: [String]
  /// The checkpoint's name of each tensor that is seen under another one.
  private let originals: [String: String]

  /// Parts that wrappers of single modules leave within names: anywhere, and behind the model's own wrapper.
  private static let innerWrappers = (
    anywhere: ["_fsdp_wrapped_module.", "_checkpoint_wrapped_module."], behind: ["_orig_mod."]
  )
  /// The tensor that a file keeps, some of them, of an embedding that is tied to it.
  private static let head = "lm_head.weight"

  /// - Parameter isTied: false where the configuration says that embedding and output head are two.
  /// - Throws: `Refusal` (`family-tensors`) where the names of the family are behind several wrappers.
  init(of facts: FamilyFacts, in tensors: TensorCatalog, isTied: Bool = true) throws {
    var names = NameMap(tensors.names)
    var warnings: [String] = []
    func leaveOut(_ parts: [String]) {
      for part in parts where names.seen.contains(where: { $0.hasBytes(of: part) }) {
        names.rename { $0.replacing(part, with: "") }
        warnings.append("the names of the tensors are read without '\(part)'")
      }
    }
    leaveOut(FamilyNames.innerWrappers.anywhere)
    if isTied, let anchor = FamilyNames.tiedAnchor(of: facts, in: names.seen) {
      names.rename { $0 == anchor.head ? anchor.table : $0 }
      warnings.append("the checkpoint has '\(anchor.head)' alone of two tied tensors: it is the embedding, too")
    }
    let places = FamilyNames.places(of: facts, in: names.seen)
    guard places.count < 2 else {
      let list = places.prefix(4).map { "'\($0.wrapper)'" }.joined(separator: ", ")
      throw Refusal(
        "family-tensors", "the checkpoint has several models: behind \(list)", file: tensors.file,
        remedy: "save the one to convert alone; \(Families.withoutGraph)")
    }
    let place = places.first ?? ("", facts.prefixes[0])
    if let other = FamilyNames.family(calledAs: place.wrapper), other != facts.name {
      throw Refusal(
        "family-tensors", "the names of the tensors are those of the family '\(other)', not of '\(facts.name)'",
        file: tensors.file, remedy: "check that config.json belongs to this checkpoint; \(Families.withoutGraph)")
    }
    prefix = place.prefix
    isWrapped = !place.wrapper.isEmpty
    if !place.wrapper.isEmpty {
      names.rename { $0.hasPrefix(place.wrapper) ? String($0.dropFirst(place.wrapper.count)) : $0 }
      warnings.append("the names of the tensors are read without '\(place.wrapper)'")
    }
    leaveOut(FamilyNames.innerWrappers.behind)
    self.warnings = warnings
    let originals = names.originals
    self.originals = originals
    self.tensors =
      originals.isEmpty
      ? tensors
      : TensorCatalog(
        Dictionary(
          names.seen.compactMap { name in tensors[originals[name] ?? name].map { (name, $0) } },
          uniquingKeysWith: { first, _ in first }), file: tensors.file)
  }

  /// The names of a checkpoint's tensors, and what they are seen as.
  private struct NameMap {
    private(set) var seen: Set<String>
    private(set) var originals: [String: String] = [:]

    init(_ names: [String]) { seen = Set(names) }

    /// Changes names; one that would become another tensor's stays.
    mutating func rename(_ change: (String) -> String) {
      for name in seen.sorted() {
        let new = change(name)
        guard new != name, !seen.contains(new) else { continue }
        seen.remove(name)
        seen.insert(new)
        originals[new] = originals.removeValue(forKey: name) ?? name
      }
    }
  }

  /// The output head that stands for the embedding, and the embedding's name; nil where that is there.
  private static func tiedAnchor(
    of facts: FamilyFacts, in names: Set<String>
  ) -> (head: String, table: String)? {
    guard facts.anchor.hasSuffix("embed_tokens.weight") || facts.anchor.hasSuffix("wte.weight"),
      places(of: facts, in: names).isEmpty
    else { return nil }
    let heads = names.filter { $0 == head || $0.hasSuffix("." + head) }
    guard heads.count == 1, let found = heads.first else { return nil }
    let wrapper = found.dropLast(head.count)
    let prefix = facts.prefixes.first { prefix in
      names.contains { $0.hasPrefix(wrapper + prefix + facts.layers + "0.") }
    }
    return prefix.map { (found, wrapper + $0 + facts.anchor) }
  }

  /// How well the checkpoint's names tell the family, more being better; nil: not at all.
  static func recognition(of facts: FamilyFacts, in tensors: TensorCatalog) -> Int? {
    if let names = try? FamilyNames(of: facts, in: tensors) {
      guard facts.signature.allSatisfy({ names.tensors[names.prefix + $0] != nil }) else { return nil }
      return facts.signature.count + (names.isWrapped ? 0 : 100)
    }
    // Several models of it: `init` says so.
    let isThere = places(of: facts, in: Set(tensors.names)).contains { place in
      facts.signature.allSatisfy { tensors[place.wrapper + place.prefix + $0] != nil }
    }
    return isThere ? facts.signature.count : nil
  }

  /// The family whose own name a wrapper ends in: `roberta.` says what is behind it, `model.` does not.
  private static func family(calledAs wrapper: String) -> String? {
    guard let last = wrapper.split(separator: ".").last else { return nil }
    let name = last.replacing("_", with: "").lowercased()
    return Families.all.first { family in
      family.facts.prefixes.contains("\(last).") && family.facts.architectures.contains { $0.lowercased() == name }
    }?.name
  }

  /// Places at which the family's anchor is; the one without a wrapper alone where the anchor is there.
  private static func places(of facts: FamilyFacts, in names: Set<String>) -> [(wrapper: String, prefix: String)] {
    for prefix in facts.prefixes where names.contains(prefix + facts.anchor) { return [("", prefix)] }
    for prefix in facts.prefixes {
      let wanted = prefix + facts.anchor
      let wrappers = names.filter { $0.hasSuffix("." + wanted) }.map { String($0.dropLast(wanted.count)) }.sorted()
      if !wrappers.isEmpty { return wrappers.map { ($0, prefix) } }
    }
    return []
  }

  /// The graph of the family with the checkpoint's own names of its tensors.
  func restored(_ graph: Graph) throws -> Graph {
    guard !originals.isEmpty else { return graph }
    let nodes = graph.nodes.map { node in
      Node(node.name, node.operation.mapTensors { $0.renamed { originals[$0] ?? $0 } }, inputs: node.inputs)
    }
    return try graph.replacing(nodes: nodes)
  }
}

extension String {
  /// True when another string's bytes are within. (All tensors are asked for every family: the standard library's search
  /// makes tables for each.)
  fileprivate func hasBytes(of part: String) -> Bool {
    var (name, part) = (self, part)
    return name.withUTF8 { bytes in
      part.withUTF8 { part in
        guard bytes.count >= part.count else { return false }
        return (0...bytes.count - part.count).contains { bytes[$0...].starts(with: part) }
      }
    }
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
    case .columns(let source, let columns): .columns(of: source.renamed(rename), columns)
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
      return .linear(linear.replacing(weight: map(linear.weight), bias: linear.bias.map(map)))
    case .layerNorm(let norm): return .layerNorm(norm.mapTensors(map))
    case .rmsNorm(let norm): return .rmsNorm(norm.mapTensors(map))
    case .attention(let attention): return .attention(attention.mapTensors(map))
    case .routing(let routing): return .routing(routing.replacing(choiceBias: routing.choiceBias.map(map)))
    default: return self
    }
  }
}

extension Attention {
  fileprivate func mapTensors(_ map: (SourceTensor) -> SourceTensor) -> Attention {
    var positions = positions
    if case .distances(let distances) = positions {
      positions = .distances(DistanceTable(table: map(distances.table), starts: distances.starts))
    }
    return replacing(positions: positions, sinks: sinks.map(map))
  }
}

extension Norm {
  fileprivate func mapTensors(_ map: (SourceTensor) -> SourceTensor) -> Norm {
    Norm(
      gamma: gamma.map(map), beta: beta.map(map), epsilon: epsilon, size: size, groupSize: groupSize,
      hasOwnGains: hasOwnGains, groupGains: groupGains.map(map))
  }
}
