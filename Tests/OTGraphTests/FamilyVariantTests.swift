import OTFoundation
import OTGraph
import OTJSON
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite("Families: variants of the published models")
struct FamilyVariantTests {
  private func configured(
    _ fixture: Fixture, _ changes: [String: JSONValue]
  ) throws -> JSONValue {
    var object = try #require(try fixture.configuration().object)
    for (key, value) in changes { object[key] = value }
    return .object(object)
  }

  private func operation(_ graph: Graph, _ name: String) throws -> OTGraph.Operation {
    try #require(graph[name]).operation
  }

  private func linear(_ graph: Graph, _ name: String) throws -> Linear {
    let operation = try operation(graph, name)
    let linear: Linear? = if case .linear(let linear) = operation { linear } else { nil }
    return try #require(linear)
  }

  /// The inputs of the node called `name`.
  private func inputs(_ graph: Graph, _ name: String) -> [String] { graph[name]?.inputs ?? [] }

  // MARK: OPT

  @Test func optPositionsStartAtRowTwo() throws {
    let graph = try Fixture.opt.graph()
    let expected = Embedding(
      table: "model.decoder.embed_positions.weight", rowCount: 258, size: 128, rowOffset: 2)
    #expect(try operation(graph, "model.decoder.embed_positions") == .embedding(expected))
    #expect(graph.contextLength == 256)
    let head = try linear(graph, "lm_head")
    #expect(head.weight == "model.decoder.embed_tokens.weight" && head.role == .head)
  }

  /// opt-350m: norms after the sums, narrower embeddings, no final norm.
  @Test(arguments: [true, false])
  func optWithNormsAfterAndProjections(_ hasConfiguration: Bool) throws {
    var shapes: [String: [Int]] = [
      "decoder.embed_tokens.weight": [20, 6], "decoder.embed_positions.weight": [12, 8],
      "decoder.project_in.weight": [8, 6], "decoder.project_out.weight": [6, 8],
    ]
    for index in 0..<2 {
      let layer = "decoder.layers.\(index)."
      for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        shapes[layer + "self_attn.\(name).weight"] = [8, 8]
        shapes[layer + "self_attn.\(name).bias"] = [8]
      }
      for name in ["self_attn_layer_norm", "final_layer_norm"] {
        shapes[layer + "\(name).weight"] = [8]
        shapes[layer + "\(name).bias"] = [8]
      }
      shapes[layer + "fc1.weight"] = [32, 8]
      shapes[layer + "fc1.bias"] = [32]
      shapes[layer + "fc2.weight"] = [8, 32]
      shapes[layer + "fc2.bias"] = [8]
    }
    let catalog = try TensorCatalog(shapes: shapes)
    let configuration = try parsed(
      """
      {"model_type": "opt", "hidden_size": 8, "word_embed_proj_dim": 6, "vocab_size": 20,
       "max_position_embeddings": 10, "ffn_dim": 32, "num_hidden_layers": 2,
       "num_attention_heads": 2, "do_layer_norm_before": false, "activation_function": "relu"}
      """)
    let graph = try Families.graph(
      configuration: hasConfiguration ? configuration : nil, tensors: catalog)
    #expect(graph.unusedTensors(in: catalog).isEmpty)
    #expect(graph.missing.isEmpty == hasConfiguration)
    let layer = "decoder.layers.0."
    #expect(
      inputs(graph, "decoder.embeddings") == ["decoder.project_in", "decoder.embed_positions"])
    #expect(inputs(graph, layer + "self_attn.q_proj") == ["decoder.embeddings"])
    #expect(inputs(graph, layer + "self_attn_layer_norm") == [layer + "attention_sum"])
    #expect(inputs(graph, layer + "fc1") == [layer + "self_attn_layer_norm"])
    #expect(
      inputs(graph, layer + "mlp_sum") == [layer + "self_attn_layer_norm", layer + "fc2"])
    #expect(inputs(graph, layer + "final_layer_norm") == [layer + "mlp_sum"])
    #expect(inputs(graph, "decoder.project_out") == ["decoder.layers.1.final_layer_norm"])
    #expect(inputs(graph, "lm_head") == ["decoder.project_out"])
    // Projections are never quantized activations.
    #expect(!graph.sites.contains { $0.consumers.contains("decoder.project_in") })
    // A norm that feeds a residual takes its transform on the edge.
    let site = try #require(graph.site(producedBy: layer + "self_attn_layer_norm"))
    #expect(site.isNormFed && graph.pushability(of: site) == SitePushability(shift: false, scale: false))
  }

  @Test func optWithoutFinalNorm() throws {
    let fixture = Fixture.opt
    let graph = try Families.graph(
      configuration: try configured(fixture, ["_remove_final_layer_norm": .bool(true)]),
      tensors: try fixture.catalog())
    #expect(inputs(graph, "lm_head") == ["model.decoder.layers.3.mlp_sum"])
  }

  @Test func optWithoutBiasesAndWithGELU() throws {
    let fixture = Fixture.opt
    let catalog = try fixture.catalog().renamed { name in
      let isLinear = ["_proj.bias", "fc1.bias", "fc2.bias"].contains(where: name.hasSuffix)
      return isLinear ? nil : name
    }
    let changes: [String: JSONValue] = ["activation_function": .string("gelu")]
    #expect(throws: Refusal.self) {
      try Families.graph(configuration: try configured(fixture, changes), tensors: catalog)
    }
    let graph = try Families.graph(
      configuration: try configured(
        fixture, changes.merging(["enable_bias": .bool(false)]) { $1 }),
      tensors: catalog)
    #expect(graph.unusedTensors(in: catalog).isEmpty)
    #expect(
      try operation(graph, "model.decoder.layers.0.activation_fn") == .activation(.gelu))
  }

  // MARK: BLOOM

  @Test(arguments: [true, false])
  func bloomResiduals(_ isNormed: Bool) throws {
    let fixture = Fixture.bloom
    let graph = try Families.graph(
      configuration: try configured(
        fixture, ["apply_residual_connection_post_layernorm": .bool(isNormed)]),
      tensors: try fixture.catalog())
    let layer = "transformer.h.1."
    let first = isNormed ? layer + "input_layernorm" : "transformer.h.0.mlp_sum"
    let second = isNormed ? layer + "post_attention_layernorm" : layer + "attention_sum"
    #expect(inputs(graph, layer + "attention_sum") == [first, layer + "self_attention.dense"])
    #expect(inputs(graph, layer + "mlp_sum") == [second, layer + "mlp.dense_4h_to_h"])
    let norm = try #require(graph.site(producedBy: layer + "input_layernorm"))
    #expect(graph.pushability(of: norm) == SitePushability(shift: !isNormed, scale: !isNormed))
    #expect(try operation(graph, layer + "mlp.gelu_impl") == .activation(.geluTanh))
  }

  @Test func channelSlicesTakeApartEachHead() {
    let slice = ChannelSlice(part: 2, partCount: 3, blockSize: 2)
    #expect((0..<4).map(slice.inputChannel) == [4, 5, 10, 11])
  }

  // MARK: LLaMA

  private let layer = "model.layers.0."

  private func attention(_ graph: Graph) throws -> Attention {
    let operation = try operation(graph, layer + "self_attn")
    let attention: Attention? = if case .attention(let attention) = operation { attention } else { nil }
    return try #require(attention)
  }

  private func rotary(_ changes: [String: JSONValue]) throws -> (Rotary, Graph) {
    let fixture = Fixture.llama
    let graph = try Families.graph(
      configuration: try configured(fixture, changes), tensors: try fixture.catalog())
    let positions = try attention(graph).positions
    let rotary: Rotary? = if case .rotary(let rotary) = positions { rotary } else { nil }
    return (try #require(rotary), graph)
  }

  @Test func llamaAttention() throws {
    let attention = try attention(try Fixture.llama.graph())
    #expect(attention.headCount == 4 && attention.keyValueHeadCount == 2)
    #expect(attention.headSize == 32 && attention.scale == 1 / Float(32).squareRoot())
    #expect(attention.isCausal)
    #expect(attention.positions == .rotary(Rotary(theta: 10000, dimensions: 32)))
  }

  @Test func llamaRotaryParameters() throws {
    let old: [String: JSONValue] = ["rope_parameters": .null, "rope_theta": .integer(500)]
    #expect(try rotary(old).0 == Rotary(theta: 500, dimensions: 32))
    var changes = old
    changes["rope_scaling"] = try parsed(#"{"type": "linear", "factor": 4.0}"#)
    #expect(try rotary(changes).0.scaling == .linear(factor: 4))
    changes["rope_scaling"] = try parsed(
      """
      {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
       "original_max_position_embeddings": 8192}
      """)
    let llama3 = Rotary.Scaling.llama3(factor: 8, low: 1, high: 4, contextLength: 8192)
    #expect(try rotary(changes).0.scaling == llama3)
  }

  @Test func rotaryFrequencies() {
    #expect(Rotary(theta: 10000, dimensions: 4).frequencies == [1, 0.01])
    #expect(
      Rotary(theta: 10000, dimensions: 4, scaling: .linear(factor: 4)).frequencies
        == [0.25, 0.0025])
    // Wavelengths 2π, 200π and 2·10⁴π against 8192/4 = 2048 and 8192/1.
    let scaled = Rotary(
      theta: 1e6, dimensions: 6,
      scaling: .llama3(factor: 8, low: 1, high: 4, contextLength: 8192)
    ).frequencies
    #expect(scaled[0] == 1)
    #expect(abs(scaled[1] - 0.01) < 1e-12)
    #expect(abs(scaled[2] - 0.0001 / 8) < 1e-12)
  }

  @Test func llamaTiedHead() throws {
    let fixture = Fixture.llama
    let catalog = try fixture.catalog().renamed { $0 == "lm_head.weight" ? nil : $0 }
    #expect(throws: Refusal.self) {
      try Families.graph(configuration: try fixture.configuration(), tensors: catalog)
    }
    let graph = try Families.graph(
      configuration: try configured(fixture, ["tie_word_embeddings": .bool(true)]),
      tensors: catalog)
    let uses = graph.parameterUses.filter { $0.tensor == "model.embed_tokens.weight" }
    #expect(uses.map(\.node) == ["model.embed_tokens", "lm_head"])
    #expect(uses.map(\.role) == [.table, .weight])
  }

  @Test func llamaWithoutHead() throws {
    let fixture = Fixture.llama
    let catalog = try fixture.catalog().renamed { $0 == "lm_head.weight" ? nil : $0 }
    let graph = try Families.graph(
      configuration: try configured(fixture, ["architectures": .array([.string("LlamaModel")])]),
      tensors: catalog)
    #expect(graph.outputs == ["hidden": "model.norm"])
  }

  @Test func qwenNeedsBiasesOfQueriesKeysAndValues() throws {
    let fixture = Fixture.llama
    let configuration = try configured(fixture, ["model_type": .string("qwen2")])
    let catalog = try fixture.catalog()
    let error = try refusal {
      _ = try Families.graph(configuration: configuration, tensors: catalog)
    }
    #expect(error.message.contains("'model.layers.0.self_attn.q_proj.bias' is missing"))
    var entries = catalog.entries
    for index in 0..<4 {
      for (name, size) in [("q", 128), ("k", 64), ("v", 64)] {
        entries["model.layers.\(index).self_attn.\(name)_proj.bias"] = .init(
          shape: try #require(Shape([size])), elementType: .bf16)
      }
    }
    let full = TensorCatalog(entries)
    let graph = try Families.graph(configuration: configuration, tensors: full)
    #expect(graph.unusedTensors(in: full).isEmpty && graph.contextLength == 256)
  }

  @Test(arguments: [
    ("llama", JSONValue.integer(16), 16, nil), ("llama", .null, 256, nil), ("mistral", .integer(16), 256, 16),
    ("mistral", .null, 256, nil), ("mistral", .integer(4096), 256, nil),
  ])
  func slidingWindows(_ type: String, _ window: JSONValue, _ limit: Int, _ used: Int?) throws {
    let fixture = Fixture.llama
    let graph = try Families.graph(
      configuration: try configured(
        fixture, ["model_type": .string(type), "sliding_window": window]),
      tensors: try fixture.catalog())
    #expect(graph.contextLength == limit)
    #expect(try attention(graph).window == used)
  }

  // MARK: BERT

  @Test func bertOutputsFollowTheTensors() throws {
    let fixture = Fixture.bert
    let configuration = try fixture.configuration()
    let catalog = try fixture.catalog()
    let graph = try fixture.graph()
    #expect(
      graph.outputs == [
        "hidden": "bert.encoder.layer.3.output.LayerNorm", "logits": "cls.predictions.decoder",
      ])
    let decoder = try linear(graph, "cls.predictions.decoder")
    #expect(decoder.weight == "bert.embeddings.word_embeddings.weight")
    #expect(decoder.bias == "cls.predictions.bias" && decoder.role == .head)

    var entries = catalog.renamed { $0.hasPrefix("cls.") ? nil : String($0.dropFirst(5)) }.entries
    entries["pooler.dense.weight"] = .init(
      shape: try #require(Shape([128, 128])), elementType: .f32)
    entries["pooler.dense.bias"] = .init(shape: try #require(Shape([128])), elementType: .f32)
    var members = try #require(configuration.object)
    members["architectures"] = .array([.string("BertModel")])
    let pooled = try Families.graph(configuration: .object(members), tensors: TensorCatalog(entries))
    #expect(
      pooled.outputs == [
        "hidden": "encoder.layer.3.output.LayerNorm", "pooled": "pooler.activation",
      ])
    #expect(pooled["pooler.first_token"]?.operation == .firstToken)
    #expect(pooled.unusedTensors(in: TensorCatalog(entries)).isEmpty)
  }

  @Test func bertWithOldNormNames() throws {
    let fixture = Fixture.bert
    let catalog = try fixture.catalog().renamed { name in
      guard name.contains("LayerNorm") else { return name }
      return name.hasSuffix("weight")
        ? String(name.dropLast(6)) + "gamma" : String(name.dropLast(4)) + "beta"
    }
    let graph = try Families.graph(
      configuration: try fixture.configuration(), tensors: catalog)
    #expect(graph.unusedTensors(in: catalog).isEmpty)
  }
}
