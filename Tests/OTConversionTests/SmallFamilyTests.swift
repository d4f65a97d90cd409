import Foundation
import OTCheckpoint
import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTRuntime
import OTTensor
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// One tiny random model or more of each family of decoders, against the logits that `transformers` gives
/// (scripts/make-family-goldens): windows shorter than the sequences, constants far from 1, heads that do not fill
/// the width, and every kind of rotation.
@Suite struct SmallFamilyTests {
  static let names =
    [
      "gemma", "gemma-untied", "gemma2", "gemma2-uncapped", "gemma3", "gemma3-capped", "granite", "granite-biased",
      "llama-dynamic", "llama-longrope", "llama-yarn", "mistral-sliding", "mistral-yarn", "olmo2", "olmo2-biased",
      "phi3", "phi3-longrope", "phi3-partial", "qwen2-alternating", "qwen2-sliding", "qwen2-yarn", "qwen3-sliding",
      "smollm3", "smollm3-sliding",
    ] + multimodal + otherKinds + experts

  /// Mixtures of experts.
  static let experts = [
    "mixtral", "mixtral-sliding", "qwen2moe", "qwen2moe-sliding", "qwen3moe", "qwen3moe-sparse", "gptoss",
    "gptoss-mxfp4", "gptoss-one", "deepseek2", "deepseek2-groups", "deepseek3", "deepseek3-direct", "deepseek3-fp8",
  ]

  /// Decoders with LayerNorm, attention and MLP side by side, other rotations, biases by position.
  static let otherKinds = [
    "bigcode", "bigcode-heads", "cohere", "cohere-norms", "cohere2", "exaone4", "exaone4-full", "falcon",
    "falcon-alibi", "falcon-alibi-shared", "falcon-new", "falcon-new-one", "glm", "glm4", "gptj", "gptj-whole",
    "granite4", "granite4-unrotated", "ministral3", "mpt", "mpt-clipped", "nemotron", "nemotron-biased", "neox",
    "neox-sequential", "olmo", "olmo-clipped", "phi", "phi-norms", "stablelm", "stablelm-norms", "stablelm-parallel",
    "starcoder2",
    "starcoder2-sliding",
  ]

  /// Models of images and text, of which the language model is read.
  static let multimodal = ["gemma3-images", "llava", "mistral3"]

  private func path(_ name: String) -> String { Fixtures.path("models/families/\(name)") }

  private func goldens(_ name: String) throws -> Goldens { try Goldens(path: path(name) + "/goldens.safetensors") }

  private func model(_ name: String, _ change: (inout JSONObject) -> Void = { _ in }) throws -> FamilyModel {
    let checkpoint = try Checkpoint.open(path(name))
    var configuration = try #require(try checkpoint.attachments.json(.configuration)?.object)
    change(&configuration)
    return try Families.model(
      configuration: .object(configuration), tensors: TensorCatalog(checkpoint.tensors, file: path(name)))
  }

  private func executor(_ name: String) throws -> FloatExecutor {
    try FloatExecutor(
      graph: model(name).graph, parameters: ParameterReader(Checkpoint.open(path(name)).tensors), threadCount: 2,
      cachesParameters: true)
  }

  /// The largest difference of the logits of both sequences, as a fraction of the goldens' range.
  private func error(_ executor: some Executor, _ name: String) throws -> Double {
    let goldens = try goldens(name)
    return try (0..<2).map { row in
      let logits = try executor.run(tokenIDs: goldens.integers("input_ids", row: row)).output("logits")
      return relativeError(logits.values, try goldens.floats("logits_fp32", row: row))
    }.max() ?? .infinity
  }

  /// The largest difference of a token's logits, as a fraction of the goldens' range: of the token in the middle, if
  /// they are ordered by it, where a router's scores that are nearly equal send some tokens to other experts.
  private func packedError(_ executor: some Executor, _ name: String) throws -> Double {
    let hasExperts = executor.graph.nodes.contains { if case .routing = $0.operation { true } else { false } }
    guard hasExperts else { return try error(executor, name) }
    let goldens = try goldens(name)
    let errors = try (0..<2).flatMap { row in
      let logits = try executor.run(tokenIDs: goldens.integers("input_ids", row: row)).output("logits")
      let expected = try goldens.floats("logits_fp32", row: row)
      let range = Double((expected.max() ?? 0) - (expected.min() ?? 0))
      return (0..<logits.rowCount).map { token in
        zip(logits[token], expected[(token * logits.channelCount)...]).reduce(0.0) {
          max($0, abs(Double($1.0) - Double($1.1)))
        } / range
      }
    }
    return errors.sorted()[errors.count / 2]
  }

  /// The fixtures are these, none is forgotten.
  @Test func allAreTested() throws {
    let found = try FileManager.default.contentsOfDirectory(atPath: Fixtures.path("models/families"))
    #expect(found.filter { !$0.hasPrefix(".") }.sorted() == Self.names.sorted())
  }

  @Test(arguments: names) func floatLogitsAreThoseOfTransformers(_ name: String) throws {
    let model = try model(name)
    #expect(model.graph.missing.isEmpty)
    #expect(model.warnings.isEmpty != Self.multimodal.contains(name), "\(model.warnings)")
    let found = try error(executor(name), name)
    #expect(found < 2e-6, "\(name): \(found) of the range")
  }

  /// The names of transformers 5 in memory, and of older files; the towers are named in a warning.
  @Test(arguments: multimodal) func partsOfModelsOfImages(_ name: String) throws {
    let checkpoint = try Checkpoint.open(path(name))
    let configuration = try #require(try checkpoint.attachments.json(.configuration))
    let older = TensorCatalog(checkpoint.tensors, file: path(name))
    let newer = TensorCatalog(
      Dictionary(
        uniqueKeysWithValues: older.entries.map { entry in
          let inside = entry.key.replacingOccurrences(of: "language_model.model.", with: "model.language_model.")
          return (inside.replacingOccurrences(of: "language_model.lm_head", with: "lm_head"), entry.value)
        }), file: path(name))
    for catalog in [older, newer] {
      let model = try Families.model(configuration: configuration, tensors: catalog)
      #expect(model.graph.outputs["logits"] != nil)
      #expect(model.warnings.count == 2 && model.warnings[0].contains("language_model."))
      #expect(model.warnings[1].contains("not run") && model.warnings[1].contains("multi_modal_projector"))
      let unused = model.graph.unusedTensors(in: catalog)
      #expect(unused.allSatisfy { $0.hasPrefix("vision_tower") || $0.hasPrefix("multi_modal_projector") })
    }
    // A tensor of the language model that has no use is refused as ever.
    var entries = older.entries
    entries["language_model.model.layers.0.self_attn.sinks"] = entries["language_model.model.norm.weight"]
    let surplus = try #require(
      #expect(throws: Refusal.self) {
        try Families.model(configuration: configuration, tensors: TensorCatalog(entries))
      })
    #expect(surplus.rule == "family-unused")
    let other = try #require(
      #expect(throws: Refusal.self) {
        try self.model(name) { $0["architectures"] = .array([.string("PaliGemmaForConditionalGeneration")]) }
      })
    #expect(other.rule == "family-architecture")
  }

  /// Tokens one by one, and in pieces, beyond every window.
  @Test(arguments: names) func cachedDecodingGivesWhatThePromptGives(_ name: String) throws {
    let executor = try executor(name)
    let tokens = try goldens(name).integers("input_ids", row: 1)
    let expected = try goldens(name).floats("logits_fp32", row: 1)
    let width = expected.count / tokens.count
    for pieces in [
      [tokens.count], [tokens.count - 8] + [Int](repeating: 1, count: 8), [3, 1, 7, 1, tokens.count - 12],
    ] {
      let session = try executor.makeSession(tokenCapacity: tokens.count)
      var end = 0
      for count in pieces {
        let logits = try session.append(Array(tokens[end..<end + count])) { Array($0) }
        end += count
        // A sequence that is short as yet has another rotation with LongRoPE.
        guard !name.contains("longrope") || end > 32 else { continue }
        let found = relativeError(logits, expected[(end - 1) * width..<end * width])
        #expect(found < 5e-6, "\(name), \(pieces), after \(end): \(found)")
      }
    }
  }

  /// LongRoPE: all tokens are rotated as those of the length that the sequence has.
  @Test(arguments: ["llama-longrope", "phi3-longrope"]) func sequencesGrowBeyondTheShortRotation(_ name: String) throws
  {
    let executor = try executor(name)
    let goldens = try goldens(name)
    let tokens = try goldens.integers("input_ids", row: 0)
    let short = try goldens.floats("short_logits_fp32", row: 0)
    let long = try goldens.floats("logits_fp32", row: 0)
    let width = long.count / tokens.count
    let together = try executor.run([TokenSequence(Array(tokens[..<24])), TokenSequence(tokens)], observe: nil)
    #expect(try relativeError(together[0].output("logits").values, short) < 2e-6)
    #expect(try relativeError(together[1].output("logits").values, long) < 2e-6)

    let session = try executor.makeSession(tokenCapacity: 64)
    func read(_ range: Range<Int>) throws -> [Float] { try session.append(Array(tokens[range])) { Array($0) } }
    #expect(relativeError(try read(0..<24), short.suffix(width)) < 2e-6)
    _ = try read(24..<32)
    for position in 32..<40 {
      let logits = try read(position..<position + 1)
      #expect(relativeError(logits, long[position * width..<(position + 1) * width]) < 2e-6, "\(position)")
    }
    // And back.
    session.truncate(to: 20)
    #expect(relativeError(try read(20..<24), short.suffix(width)) < 2e-6)
    #expect(relativeError(try read(24..<40), long.suffix(width)) < 2e-6)
  }

  @Test(arguments: names, [8, 6]) func packedModelsAreVerifiedAndUnpacked(_ name: String, _ bits: Int) throws {
    try withTemporaryFolder { folder in
      let checkpoint = try Checkpoint.open(path(name))
      var options = ConversionOptions()
      options.bits = bits
      let packed = try convert(checkpoint, options, to: folder + "/model.otq")
      let graph = try #require(packed.graph)
      #expect(try graph.differences(from: model(name).graph).isEmpty)
      let verification = try WeightVerification(of: packed, reference: SourceModel(checkpoint, path: folder))
      #expect(verification.hasPassed, "\(verification.offenders)")
      let limit = bits == 8 ? 0.06 : 0.2
      for attentionBits in [nil, 8] as [Int?] {
        let executor = try QuantizedExecutor(
          graph: graph, container: packed.container, threadCount: 2, attentionBits: attentionBits)
        let found = try packedError(executor, name)
        #expect(found < limit, "\(name), \(bits) bits, attention of \(attentionBits ?? 32): \(found) of the range")
        // Whatever the pieces, the same bits.
        let tokens = try goldens(name).integers("input_ids", row: 0)
        let whole = try executor.run(tokenIDs: tokens).output("logits")
        let session = try executor.makeSession(tokenCapacity: tokens.count)
        _ = try session.append(Array(tokens.dropLast(3))) { _ in }
        for position in tokens.count - 3..<tokens.count {
          let logits = try session.append([tokens[position]]) { Array($0) }
          #expect(logits == Array(whole[position]), "\(name), \(bits) bits, token \(position)")
        }
      }

      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      #expect(unpacked.tensors.map(\.name).sorted() == checkpoint.tensors.map(\.name).sorted())
      for tensor in checkpoint.tensors { #expect(unpacked[tensor.name]?.shape == tensor.shape) }
      let restored = try FloatExecutor(
        graph: model(name).graph, parameters: ParameterReader(unpacked.tensors), threadCount: 2)
      #expect(try packedError(restored, name) < limit)
    }
  }

  /// Scales and shifts of every site, into norms whose gains are 1 + γ, into parts of fused weights, or on the edge.
  @Test(arguments: names) func migrationKeepsTheFunction(_ name: String) throws {
    var generator = SeededGenerator()
    var graph = try model(name).graph
    for site in graph.sites {
      let shared = graph.sharedChannels(of: site)
      func vector(_ range: ClosedRange<Float>) -> [Float] {
        let values = (0..<site.size).map { _ in Float.random(in: range, using: &generator) }
        return shared.map { $0.map { values[$0] } } ?? values
      }
      let scale = vector(0.5...2)
      graph = try graph.migrating(site, by: ChannelTransform(shift: vector(-0.5...0.5), scale: scale))
    }
    #expect(graph.transforms.count >= graph.sites.count)
    let executor = try FloatExecutor(
      graph: graph, parameters: ParameterReader(Checkpoint.open(path(name)).tensors), threadCount: 2)
    let found = try error(executor, name)
    #expect(found < 2e-5, "\(name), seed \(generator.seed): \(found) of the range")
  }

  /// A member that changes arithmetic and that the family does not read is refused; so is a tensor too many or few.
  @Test(arguments: names) func whatIsNotReadIsRefused(_ name: String) throws {
    let isPart = Self.multimodal.contains(name)
    let read = Set(try readMembers(name))
    for member in [
      "embedding_multiplier", "residual_multiplier", "logits_scaling", "attention_multiplier", "attn_logit_softcapping",
      "final_logit_softcapping", "query_pre_attn_scalar", "no_rope_layers", "use_bidirectional_attention",
      "attention_chunk_size", "use_qk_norm", "num_experts_per_tok", "clip_qkv", "qkv_bias",
    ] where !read.contains(member) {
      let refusal = try #require(
        #expect(throws: Refusal.self, "\(member)") {
          try model(name) { configuration in
            guard isPart, var text = configuration["text_config"]?.object else {
              configuration[member] = .integer(3)
              return
            }
            text[member] = .integer(3)
            configuration["text_config"] = .object(text)
          }
        })
      #expect(refusal.rule == "family-member" && refusal.message.contains("'\(member)'"), "\(refusal)")
    }
    let checkpoint = try Checkpoint.open(path(name))
    let configuration = try checkpoint.attachments.json(.configuration)
    let catalog = TensorCatalog(checkpoint.tensors, file: path(name))
    let inside = catalog.names.filter { name in
      ["layers.1.", ".h.1.", ".blocks.1."].contains(where: name.contains) && !name.hasPrefix("vision")
    }
    #expect(inside.count > 5)
    for lost in inside {
      var entries = catalog.entries
      entries[lost] = nil
      let refusal = try #require(
        #expect(throws: Refusal.self, "\(lost)") {
          try Families.model(configuration: configuration, tensors: TensorCatalog(entries))
        })
      #expect(refusal.rule == "family-tensors", "\(refusal)")
      // Of another shape.
      entries[lost] = TensorCatalog.Entry(shape: try #require(Shape([7, 5])), elementType: .f16)
      #expect(throws: Refusal.self, "\(lost)") {
        try Families.model(configuration: configuration, tensors: TensorCatalog(entries))
      }
    }
  }

  /// Members of the kind above that the family understands.
  private func readMembers(_ name: String) throws -> [String] {
    switch try model(name).graph.family {
    case "gemma2": ["attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"]
    case "gemma3": ["final_logit_softcapping", "query_pre_attn_scalar"]
    case "granite": ["embedding_multiplier", "residual_multiplier", "logits_scaling", "attention_multiplier"]
    case "granitemoehybrid":
      [
        "embedding_multiplier", "residual_multiplier", "logits_scaling", "attention_multiplier", "num_experts_per_tok",
      ]
    case "cohere": ["use_qk_norm"]
    case "olmo": ["clip_qkv"]
    case "smollm3": ["no_rope_layers"]
    case "mixtral", "qwen3_moe", "gpt_oss", "deepseek_v2", "deepseek_v3": ["num_experts_per_tok"]
    case "qwen2_moe": ["num_experts_per_tok", "qkv_bias"]
    default: []
    }
  }

  /// Without config.json the family is told from the names, where these differ from a LLaMA's.
  @Test(arguments: [
    ("gemma2", "gemma2"), ("gemma3", "gemma3"), ("phi3", "phi3"), ("olmo2", "olmo2"), ("gemma", "llama"),
  ])
  func namesTellTheFamily(_ name: String, _ family: String) throws {
    let tensors = TensorCatalog(try Checkpoint.open(path(name)).tensors)
    let graph = try Families.graph(configuration: nil, tensors: tensors)
    #expect(graph.family == family && !graph.missing.isEmpty)
    #expect(throws: Refusal.self) {
      try FloatExecutor(graph: graph, parameters: ParameterReader(Checkpoint.open(path(name)).tensors), threadCount: 1)
    }
  }

  /// A checkpoint that says to be of another family is right or refused, also without `architectures`.
  @Test(
    arguments: names,
    [
      "llama", "mistral", "qwen2", "qwen3", "bert", "gemma", "gemma2", "granite", "olmo2", "phi3", "cohere", "exaone4",
      "falcon", "glm", "glm4", "gpt2", "gpt_bigcode", "gpt_neox", "ministral3", "olmo", "stablelm", "mixtral",
      "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v2", "deepseek_v3",
    ])
  func anotherTypeIsRightOrRefused(_ name: String, _ type: String) throws {
    for keepsArchitectures in [true, false] {
      let model: FamilyModel
      do {
        model = try self.model(name) {
          $0["model_type"] = .string(type)
          if !keepsArchitectures { $0["architectures"] = nil }
        }
      } catch let refusal as Refusal {
        #expect(refusal.rule.hasPrefix("family-"), "\(refusal)")
        continue
      }
      let executor = try FloatExecutor(
        graph: model.graph, parameters: ParameterReader(Checkpoint.open(path(name)).tensors), threadCount: 2)
      // Without a word on the architecture, the type alone tells a Gemma from a LLaMA, which a warning says.
      guard keepsArchitectures else {
        let isSaid = model.warnings.contains { $0.contains("architecture") }
        let found = isSaid ? 0 : try error(executor, name)
        #expect(found < 2e-6, "\(name) as \(type), without architectures")
        continue
      }
      let tokens = try goldens(name).integers("input_ids", row: 0)
      // A shorter limit than the sequence's refuses, too.
      guard tokens.count <= model.graph.contextLength ?? .max else { continue }
      let found = try error(executor, name)
      #expect(found < 2e-6, "\(name) as \(type): \(found)")
    }
  }
}
