import OTCheckpoint
import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTObservation
import OTQuantization
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite struct ConversionPlanTests {
  /// Bits of the quantized tensors of a plan, by name.
  func bits(_ plan: ConversionPlan) -> [String: Int] {
    var bits: [String: Int] = [:]
    for tensor in plan.tensors {
      if case .quantized(let scheme) = tensor.treatment { bits[tensor.outputName] = scheme.bits }
    }
    return bits
  }

  @Test func everySourceTensorHasExactlyOnePlace() throws {
    let checkpoints =
      try Fixture.allCases.map { try $0.checkpoint() } + [try Fixture.bert.checkpoint("pytorch_model.bin")]
    for checkpoint in checkpoints {
      let plan = try ConversionPlan(checkpoint: checkpoint, options: ConversionOptions())
      #expect(plan.tensors.compactMap { $0.view?.name }.sorted() == checkpoint.tensors.map(\.name).sorted())
    }
  }

  @Test func rulesActOnFusedGroupsAndTheLastMatchCounts() throws {
    var options = ConversionOptions()
    options.bits = 6
    options.methods = [PerToken()]
    options.exclude = [try pattern(#"layers\.1\.self_attn\.k_proj"#)]
    options.bitsFor = [
      (try pattern("gate_proj"), 4), (try pattern(#"layers\.2\.mlp\.up_proj"#), 8), (try pattern("embed"), 5),
    ]
    let plan = try ConversionPlan(checkpoint: Fixture.llama.checkpoint(), options: options)
    let bits = bits(plan)
    for part in ["q", "k", "v"] {
      #expect(bits["model.layers.0.self_attn.\(part)_proj.weight"] == 6)
      #expect(bits["model.layers.1.self_attn.\(part)_proj.weight"] == nil)
    }
    for part in ["gate", "up"] {
      #expect(bits["model.layers.0.mlp.\(part)_proj.weight"] == 4)
      #expect(bits["model.layers.2.mlp.\(part)_proj.weight"] == 8)
    }
    #expect(bits["model.layers.1.self_attn.o_proj.weight"] == 6)
    #expect(bits["model.embed_tokens.weight"] == 5)
    #expect(bits["lm_head.weight"] == 8)
    let graph = try #require(plan.graph)
    #expect(graph.activations["model.layers.1.input_layernorm"] == nil)
    #expect(graph.activations["model.layers.0.input_layernorm"] == .dynamic(bits: 6))
    #expect(graph.activations["model.layers.2.post_attention_layernorm"] == .dynamic(bits: 8))
  }

  /// The scales that were asked for, at every site; a method that has others is refused and others are named.
  @Test func scalesOfActivationsAreAsAskedFor() throws {
    func plan(
      _ activations: String, _ change: (inout ConversionOptions) throws -> Void = { _ in }
    ) throws -> ConversionPlan {
      var options = ConversionOptions()
      let scales = try #require(ActivationScales(activations))
      options.activations = scales
      try change(&options)
      return try ConversionPlan(
        checkpoint: Fixture.opt.checkpoint(), options: options, statistics: Fixture.opt.statistics())
    }
    func kinds(_ plan: ConversionPlan) throws -> Set<ActivationQuantization> {
      let graph = try #require(plan.graph)
      return Set(graph.sites.compactMap { graph.activations[$0.producer] })
    }
    #expect(try kinds(plan("group:64") { $0.methods = [PerToken()] }) == [.dynamic(bits: 8, groupSize: 64)])
    #expect(
      try kinds(plan("group:32:asymmetric") { $0.methods = [PerToken()] }) == [.asymmetric(bits: 8, groupSize: 32)])
    #expect(try kinds(plan("token:asymmetric") { $0.methods = [PerToken()] }) == [.asymmetric(bits: 8)])
    #expect(try kinds(plan("token") { $0.methods = [PerToken()] }) == [.dynamic(bits: 8)])
    #expect(try plan("channel").methodName == "outliertune")
    #expect(try kinds(plan("channel")) == [.static(bits: 8), .dynamic(bits: 8)])
    for (asked, method) in [
      ("token", "outliertune"), ("group:32", "outliertune"), ("tensor", "outliertune"), ("channel", "per-token"),
      ("tensor", "per-token"), ("group:32", "smoothquant,activations=symmetric"), ("token", "weights-only"),
    ] {
      let refusal = try #require(
        #expect(throws: Refusal.self) { try plan(asked) { $0.methods = try [Methods.method(method)] } })
      #expect(refusal.rule == "method-activations", "\(asked), \(method)")
      let other = asked == "tensor" ? "minmax" : asked == "channel" ? "outliertune" : "best"
      #expect(refusal.remedy?.contains(other) == true, "\(asked), \(method)")
    }
    let refusal = #expect(throws: Refusal.self) {
      try plan("group:64") {
        $0.methods = [PerToken()]
        $0.granularity = .perGroup(size: 32)
      }
    }
    #expect(refusal?.rule == "activation-groups")
  }

  @Test func scalesOfActivationsByName() {
    for text in ["token", "token:asymmetric", "group:32", "group:64", "group:128", "group:256", "tensor", "channel"] {
      #expect(ActivationScales(text)?.description == text)
    }
    for text in ["", "group", "group:", "group:48", "group:64:", "group:-64", "tokens", "Token", "token:symmetric"] {
      #expect(ActivationScales(text) == nil, "\(text)")
    }
  }

  @Test func statisticsMakeTheSitesOfNormsStatic() throws {
    var options = ConversionOptions()
    options.bits = 6
    let plan = try ConversionPlan(
      checkpoint: Fixture.opt.checkpoint(), options: options, statistics: Fixture.opt.statistics())
    let graph = try #require(plan.graph)
    #expect(plan.methodName == "outliertune")
    for site in graph.sites {
      #expect(graph.activations[site.producer] == (site.isNormFed ? .static(bits: 6) : .dynamic(bits: 6)))
      #expect((graph.transforms[site.producer]?.shift != nil) == site.isNormFed)
    }
    #expect(!graph.nodes.contains { if case .affine = $0.operation { true } else { false } })
  }

  /// σ = max(act_scales_sym, 1e-5) / 31 and z = symmetrizations / 32, and γ, β, W
  /// and b follow, each computed here from the files by the formulas.
  @Test func parametersFollowTheReference() throws {
    try withTemporaryFolder { folder in
      var options = ConversionOptions()
      options.bits = 6
      let checkpoint = try Fixture.opt.checkpoint()
      let file = try convert(checkpoint, options, Fixture.opt.statistics(), to: folder + "/m.otq")
      let maxima = try ForeignStatistics.vectors(path: Fixture.opt.path("act_scales_sym.pt"), kind: .absoluteMaximum)
      let sums = try ForeignStatistics.vectors(path: Fixture.opt.path("symmetrizations.pt"), kind: .midpointSum)
      let linear = "model.decoder.layers.2.fc1", norm = "model.decoder.layers.2.final_layer_norm"
      let steps = try #require(maxima[linear]).map { max($0, 1e-5) / 31 }
      let shifts = try #require(sums[linear]).map { $0 / 32 }
      func source(_ name: String) throws -> [Float] {
        let view = try #require(checkpoint[name])
        return view.withRowBytes(0..<view.shape.rowCount) { bytes in
          (0..<view.shape.elementCount).map {
            Float(Float16(bitPattern: bytes.loadUnaligned(fromByteOffset: $0 * 2, as: UInt16.self)))
          }
        }
      }
      func stored(_ name: String) throws -> [Float] {
        try file.container.floats(of: try #require(file.container[name]))
      }
      let gamma = try source(norm + ".weight"), beta = try source(norm + ".bias")
      #expect(try stored(norm + ".weight") == zip(gamma, steps).map { $0 / $1 })
      #expect(try stored(norm + ".bias") == zip(zip(beta, shifts), steps).map { ($0.0 - $0.1) / $1 })
      let weights = try source(linear + ".weight"), bias = try source(linear + ".bias")
      let storedBias = try stored(linear + ".bias")
      let tensor = try #require(file.container[linear + ".weight"])
      let scales = try file.container.scales(of: tensor)
      for row in 0..<bias.count {
        let original = weights[row * steps.count..<(row + 1) * steps.count]
        let scaled = zip(original, steps).map { $0 * $1 }
        let high = max(scaled.max() ?? 0, 0), low = min(scaled.min() ?? 0, 0)
        #expect(scales[row] == (high - low) / 63)
        let product = zip(original, shifts).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
        #expect(abs(Double(storedBias[row]) - (Double(bias[row]) + product)) < 1e-3)
      }
    }
  }

  @Test func postNormModelsKeepAnExplicitAffine() throws {
    // Scales under the names of bert-mini's linears, as SmoothQuant writes them.
    try withTemporaryFolder { folder in
      let checkpoint = try Fixture.bert.checkpoint()
      let graph = try #require(try ConversionPlan(checkpoint: checkpoint, options: ConversionOptions()).graph)
      var builder = CheckpointBuilder()
      for site in graph.sites {
        for linear in site.consumers {
          builder.add(linear, [site.size], floats: (0..<site.size).map { 1 + Float($0 % 7) })
        }
      }
      _ = try builder.write(to: folder + "/scales.safetensors")
      let file = try convert(
        checkpoint, ConversionOptions(), ForeignStatistics(scales: folder + "/scales.safetensors"),
        to: folder + "/m.otq")
      let affines = try #require(file.graph).nodes.filter { if case .affine = $0.operation { true } else { false } }
      // Two norms feed each of 4 layers: the embeddings' or the layer's before, and the attention's.
      #expect(affines.count == 8)
      for affine in affines { #expect(file.container[affine.name + ".scale"] != nil) }
    }
  }

  @Test func sixteenBitEmbeddingsStayAsTheyAre() throws {
    var options = ConversionOptions()
    options.embeddingBits = 16
    let plan = try ConversionPlan(checkpoint: Fixture.opt.checkpoint(), options: options)
    for tensor in plan.tensors where tensor.use?.role == .table {
      guard case .unchanged = tensor.treatment else {
        Issue.record("\(tensor.outputName) is \(tensor.treatment)")
        continue
      }
    }
  }

  @Test func statisticsMustFitTheModel() throws {
    try withTemporaryFolder { folder in
      let checkpoint = try Fixture.opt.checkpoint()
      let path = folder + "/s.safetensors"
      func rule(_ change: (inout CheckpointBuilder) -> Void) throws -> String? {
        var builder = CheckpointBuilder()
        for layer in 0..<4 {
          for part in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "fc1"] {
            builder.add("model.decoder.layers.\(layer).\(part)", [128], floats: Array(repeating: 1, count: 128))
          }
        }
        change(&builder)
        try? FileManagerFile.remove(path)
        _ = try builder.write(to: path)
        do {
          _ = try ConversionPlan(
            checkpoint: checkpoint, options: ConversionOptions(), statistics: ForeignStatistics(scales: path))
          return nil
        } catch { return (error as? Refusal)?.rule }
      }
      #expect(try rule { _ in } == nil)
      // A linear that the model does not have, and one without statistics.
      #expect(try rule { $0.tensors[0].name = "model.decoder.layers.0.self_attn.x_proj" } == "statistics-unknown-name")
      #expect(try rule { $0.tensors.removeLast() } == "statistics-missing")
      // A vector of another length.
      #expect(
        try rule { $0.add("model.decoder.layers.0.fc2", [128], floats: Array(repeating: 1, count: 128)) }
          == "statistics-length")
      // Maxima that are all zero, and linears of one site that disagree.
      #expect(
        try rule { $0.tensors[3].bytes = [UInt8](repeating: 0, count: 512) } == "scales-all-zero")
      #expect(
        try rule { $0.tensors[0].bytes.replaceSubrange(0..<4, with: [0, 0, 0, 0x40]) } == "statistics-disagree")
    }
  }
}
