import OTFoundation
import OTJSON

/// Mixtures of experts: a router, and for each expert a gated MLP of its own.
extension GraphBuilder {
  /// The experts of a layer.
  struct Experts {
    /// Channels of the residual stream.
    let hidden: Int
    /// Channels within an expert.
    let inner: Int
    let kind: ActivationKind
    let routing: Routing
    /// The names of an expert's linears where they are tensors of their own; where they are stacked, the first of
    /// gate and up, one below the other, is called `gate_up_proj`.
    var names = (gate: "gate_proj", up: "up_proj", down: "down_proj")
    /// The end of the name, behind the router's linear, of what is added to the values that experts are chosen by;
    /// nil: nothing is.
    var choiceBias: String?
  }

  /// The sum of what `<prefix>experts` give for `input`, chosen by the linear `<prefix>gate`.
  mutating func experts(_ prefix: String, _ input: String, _ experts: Experts) -> String {
    let count = experts.routing.expertCount
    let scores = linear(prefix + "gate", input, experts.hidden, count, bias: .denied, role: .router)
    // Without the scores' weight, which is refused when all is known, there may be any number of experts.
    guard experts.hidden > 0, tensors.dimensions(prefix + "gate.weight") == [count, experts.hidden] else {
      return scores
    }
    let choiceBias = experts.choiceBias.map { required(.named("\(prefix)gate.\($0)"), [count]) }
    let routing = experts.routing.replacing(choiceBias: choiceBias)
    let router = add(prefix + "router", .routing(routing), scores)
    let weights = expertWeights(prefix + "experts.", experts)
    let values = weights.enumerated().map { index, weights in
      expert("\(prefix)experts.\(index).", input, router, index, experts, weights)
    }
    return add(prefix + "experts", .mixture(Mixture(expertCount: count)), inputs: [router] + values)
  }

  /// `down(act(gate(input)) ⊙ up(input))` for the tokens of an expert.
  private mutating func expert(
    _ prefix: String, _ input: String, _ router: String, _ index: Int, _ experts: Experts,
    _ weights: (gate: SourceTensor, up: SourceTensor, down: SourceTensor)
  ) -> String {
    let (hidden, inner, names) = (experts.hidden, experts.inner, experts.names)
    let gate = linear(
      prefix + names.gate, input, hidden, inner, weight: weights.gate, bias: .denied, expert: (index, router))
    let up = linear(
      prefix + names.up, input, hidden, inner, weight: weights.up, bias: .denied, expert: (index, router))
    let active = add(prefix + "act_fn", .activation(experts.kind), gate)
    let gated = add(prefix + "gated", .multiply, active, up)
    return linear(prefix + names.down, gated, inner, hidden, weight: weights.down, bias: .denied)
  }

  /// The weights of each expert: tensors of their own, or parts of two stacks, `[experts, out, in]`.
  private mutating func expertWeights(
    _ prefix: String, _ experts: Experts
  ) -> [(gate: SourceTensor, up: SourceTensor, down: SourceTensor)] {
    let (count, hidden, inner) = (experts.routing.expertCount, experts.hidden, experts.inner)
    guard tensors[prefix + "gate_up_proj"] != nil else {
      return (0..<count).map { index in
        func weight(_ name: String) -> SourceTensor { .named("\(prefix)\(index).\(name).weight") }
        return (weight(experts.names.gate), weight(experts.names.up), weight(experts.names.down))
      }
    }
    let first = required(.named(prefix + "gate_up_proj"), [count, 2 * inner, hidden])
    let second = required(.named(prefix + "down_proj"), [count, hidden, inner])
    return (0..<count).map { index in
      let both = SourceTensor.element(of: first, index)
      return (.rows(of: both, 0..<inner), .rows(of: both, inner..<2 * inner), .element(of: second, index))
    }
  }

  /// An expert that all tokens have: a gated MLP times the sigmoid of the linear `gate`.
  mutating func sharedExpert(_ name: String, gate: String, _ input: String, _ mlp: MLP) -> String {
    let scores = linear(gate, input, mlp.hidden, 1, bias: .denied, role: .router)
    let routing = Routing(expertCount: 1, chosenCount: 1, function: .sigmoid, isNormalized: false)
    let router = add(gate + ".router", .routing(routing), scores)
    let experts = Experts(hidden: mlp.hidden, inner: mlp.inner, kind: mlp.kind, routing: routing)
    func weight(_ linear: String) -> SourceTensor { .named("\(name).\(linear).weight") }
    let value = expert(
      name + ".", input, router, 0, experts, (weight("gate_proj"), weight("up_proj"), weight("down_proj")))
    return add(name, .mixture(Mixture(expertCount: 1)), router, value)
  }
}

extension Configuration {
  /// Refuses a mixture of experts without a configuration: how many experts a token has, no tensor tells.
  ///
  /// - Throws: `Refusal` (`family-configuration`).
  func requireExperts() throws {
    guard !isPresent else { return }
    throw Refusal(
      "family-configuration", "how many experts a token has is told by config.json alone, which is not there",
      file: file, remedy: "put the model's config.json beside the checkpoint; \(Families.withoutGraph)")
  }

  /// The router that `num_experts_per_tok` and the count of experts describe; `keys` are names of that.
  ///
  /// - Throws: `Refusal` (`family-configuration`) where two members differ, or a token has more experts than there are.
  func routing(
    count keys: [String], usual: (count: Int, chosen: Int), isNormalized: Bool
  ) throws -> Routing {
    let counts = try keys.compactMap { try size($0) }
    if Set(counts).count > 1 { throw refusal("\(keys.map { "'\($0)'" }.joined(separator: " and ")) differ") }
    let count = counts.first ?? usual.count
    let chosen = try size("num_experts_per_tok") ?? usual.chosen
    guard chosen <= count else { throw refusal("a token has \(chosen) experts of \(count)") }
    return Routing(expertCount: count, chosenCount: chosen, isNormalized: isNormalized)
  }

  /// Whether each of so many layers of Qwen has experts: every `decoder_sparse_step`-th, but for `mlp_only_layers`.
  ///
  /// - Throws: `Refusal` (`family-configuration`).
  func sparseLayers(count: Int) throws -> [Bool] {
    let step = try size("decoder_sparse_step") ?? 1
    let listed = value("mlp_only_layers")?.array ?? []
    let dense = listed.compactMap(\.integer)
    guard dense.count == listed.count else { throw refusal("'mlp_only_layers' is not a list of integers") }
    return (0..<count).map { ($0 + 1) % step == 0 && !dense.contains($0) }
  }
}
