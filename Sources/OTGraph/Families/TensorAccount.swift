import OTFoundation

/// Accounts for every float tensor of a checkpoint: a node uses it, or it is known to have no part in the
/// arithmetic, or it is refused, or named in a warning.
struct TensorAccount {
  /// Warnings about tensors that are stored and not run, a line each.
  let warnings: [String]

  /// - Throws: `Refusal` (`family-unused`) naming the tensors of the body that no node uses.
  init(of names: FamilyNames, facts: FamilyFacts, graph: Graph, builder: GraphBuilder) throws {
    let tensors = names.tensors
    let ignored = Set(builder.ignored)
    let unused = graph.unusedTensors(in: tensors).filter { name in
      guard let entry = tensors[name], !entry.elementType.isInteger else { return false }
      return !ignored.contains(name) && !TensorAccount.isBuffer(name, entry)
    }
    var leftOver: [String] = []
    var surplus: [String] = []
    var outside: [String] = []
    for name in unused {
      switch TensorAccount.place(of: name, prefix: names.prefix, facts: facts, layerCount: builder.layerCount) {
      case .body: leftOver.append(name)
      case .surplusLayer: surplus.append(name)
      case .outside: outside.append(name)
      }
    }
    guard leftOver.isEmpty else {
      let are = leftOver.count == 1 ? "is a tensor" : "are \(leftOver.count) tensors"
      throw Refusal(
        "family-unused",
        "there \(are) of which the family '\(facts.name)' has no use, so this is another model: "
          + TensorAccount.list(leftOver),
        file: tensors.file, remedy: "check that config.json belongs to this checkpoint; \(Families.withoutGraph)")
    }
    var warnings: [String] = []
    if !ignored.isEmpty {
      warnings.append(
        "tensors that the configuration denies are stored and not used: \(TensorAccount.list(ignored.sorted()))")
    }
    if !surplus.isEmpty {
      warnings.append(
        "the configuration has \(builder.layerCount) layers: tensors of further ones are stored and not run: "
          + TensorAccount.list(surplus))
    }
    if !outside.isEmpty {
      warnings.append("tensors that the graph has no use for are stored and not run: \(TensorAccount.list(outside))")
    }
    self.warnings = warnings
  }

  /// - Throws: `Refusal` (`family-adapter`) where the checkpoint has the weights of an adapter.
  static func checkAdapters(_ tensors: TensorCatalog) throws {
    let marks = ["lora_", "ia3_", "adapter"]
    let adapters = tensors.names.filter { name in
      name.split(separator: ".").contains { part in marks.contains(where: part.hasPrefix) }
    }
    guard !adapters.isEmpty else { return }
    let isAlone = adapters.count == tensors.names.count
    throw Refusal(
      "family-adapter",
      (isAlone ? "is an adapter and no model: " : "has an adapter beside the weights, which changes the model: ")
        + list(adapters), file: tensors.file,
      remedy: "merge the adapter into its base model first (with peft, merge_and_unload)")
  }

  private enum Place { case body, surplusLayer, outside }

  private static func place(of name: String, prefix: String, facts: FamilyFacts, layerCount: Int) -> Place {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    if parts.count <= 2, isNorm(parts[0]) { return .body }
    guard name.hasPrefix(prefix) else { return .outside }
    let rest = name.dropFirst(prefix.count)
    if rest.split(separator: ".").count <= 2, isNorm(rest) { return .body }
    if rest.hasPrefix(facts.layers) {
      let index = Int(rest.dropFirst(facts.layers.count).prefix { $0 != "." })
      return index.map { $0 >= layerCount } == true ? .surplusLayer : .body
    }
    return facts.body.contains(where: rest.hasPrefix) ? .body : .outside
  }

  /// A norm at the top of the model or beside it changes the model, wherever it stands.
  private static func isNorm(_ name: Substring) -> Bool { name.contains("norm") || name.hasPrefix("ln_") }

  /// True when a tensor is what the model's code computes anew: frequencies, positions, masks.
  private static func isBuffer(_ name: String, _ entry: TensorCatalog.Entry) -> Bool {
    let buffers = ["inv_freq", "position_ids", "token_type_ids", "masked_bias", "cos_cached", "sin_cached"]
    if let last = name.split(separator: ".").last, buffers.contains(String(last)) { return true }
    // Causal masks, [1, 1, length, length].
    return entry.shape.rank == 4 && [".attn.bias", ".attention.bias"].contains(where: name.hasSuffix)
  }

  /// The first few names, and how many there are.
  private static func list(_ names: [String]) -> String {
    let first = names.prefix(3).map { "'\($0)'" }.joined(separator: ", ")
    return names.count > 3 ? "\(first) and \(names.count - 3) more" : first
  }
}
