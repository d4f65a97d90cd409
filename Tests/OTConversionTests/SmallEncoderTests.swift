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

/// Tiny random models of each family of encoders, with heads, segments, masks and padding in sight, and decoders with
/// classifiers, against what `transformers` gives (scripts/make-family-goldens).
@Suite struct SmallEncoderTests {
  static let decoders = [
    "bigcode-tokens", "bloom-score", "falcon-score", "gemma-score", "gpt2-score", "gpt2-tokens", "gptj-score",
    "llama-score", "mpt-score", "neox-score", "opt-score", "phi-score", "qwen3-tokens", "stablelm-tokens",
    "gpt2-span", "opt-span", "qwen3-span",
  ]
  /// Heads for answers.
  static let spans = names.filter { $0.hasSuffix("-span") }
  static let names = encoders + decoders
  static let encoders = [
    "bert", "bert-pairs", "bert-tokens", "distilbert", "distilbert-classes", "distilbert-tokens", "electra",
    "electra-classes", "electra-generator", "modernbert", "modernbert-classes", "modernbert-tokens", "mpnet",
    "mpnet-classes", "mpnet-pooled", "nomic", "nomic-classes", "nomic-tokens", "roberta", "roberta-classes",
    "xlm-roberta-pooled", "xlm-roberta-tokens", "bert-span", "roberta-span", "distilbert-span", "electra-span",
    "mpnet-span", "modernbert-span",
  ]

  private func path(_ name: String) -> String { Fixtures.path("models/encoders/\(name)") }

  private func goldens(_ name: String) throws -> Goldens { try Goldens(path: path(name) + "/goldens.safetensors") }

  private func model(_ name: String, _ change: (inout JSONObject) -> Void = { _ in }) throws -> FamilyModel {
    let checkpoint = try Checkpoint.open(path(name))
    var configuration = try #require(try checkpoint.attachments.json(.configuration)?.object)
    change(&configuration)
    return try Families.model(
      configuration: .object(configuration), tensors: TensorCatalog(checkpoint.tensors, file: path(name)))
  }

  private func executor(_ name: String, of graph: Graph? = nil) throws -> FloatExecutor {
    try FloatExecutor(
      graph: graph ?? model(name).graph, parameters: ParameterReader(Checkpoint.open(path(name)).tensors),
      threadCount: 2, cachesParameters: true)
  }

  /// The three rows of tokens, with segments and masks.
  private func sequences(_ name: String) throws -> [TokenSequence] {
    let goldens = try goldens(name)
    return try (0..<3).map { row in
      TokenSequence(
        try goldens.integers("input_ids", row: row),
        tokenTypeIDs: goldens.dimensions("token_type_ids") == nil
          ? nil : try goldens.integers("token_type_ids", row: row),
        attentionMask: try goldens.integers("attention_mask", row: row).map { $0 == 1 })
    }
  }

  /// The outputs that the goldens have.
  private func outputs(_ goldens: Goldens) -> [String] {
    ["hidden", "pooled", "logits", "class_logits", "token_class_logits", "span_logits"].filter {
      goldens.dimensions("\($0)_fp32") != nil
    }
  }

  /// The largest difference of each output, as a fraction of the goldens' range; of tokens that are seen.
  private func errors(_ executor: some Executor, _ name: String) throws -> [String: Double] {
    let goldens = try goldens(name)
    let sequences = try sequences(name)
    let results = try executor.run(sequences, observe: nil)
    var errors: [String: Double] = [:]
    for output in outputs(goldens) {
      var (found, expected): ([Float], [Float]) = ([], [])
      for (row, (sequence, result)) in zip(sequences, results).enumerated() {
        let own = try result.output(output)
        let golden = try goldens.floats("\(output)_fp32", row: row)
        try #require(own.values.count == golden.count, "\(output)")
        for token in 0..<own.rowCount where own.rowCount == 1 || sequence.attentionMask?[token] ?? true {
          found += own[token]
          expected += golden[token * own.channelCount..<(token + 1) * own.channelCount]
        }
      }
      errors[output] = relativeError(found, expected)
    }
    return errors
  }

  /// The fixtures are these, none is forgotten.
  @Test func allAreTested() throws {
    let found = try FileManager.default.contentsOfDirectory(atPath: Fixtures.path("models/encoders"))
    #expect(found.filter { !$0.hasPrefix(".") }.sorted() == Self.names.sorted())
  }

  @Test(arguments: names) func floatOutputsAreThoseOfTransformers(_ name: String) throws {
    let model = try model(name)
    #expect(model.graph.missing.isEmpty && model.graph.isCausal == Self.decoders.contains(name))
    // The base of Qwen3's head for answers has another name than that of its other heads.
    let isWrapped = name == "qwen3-span"
    #expect(
      model.warnings == (isWrapped ? ["the names of the tensors are read without 'transformer.'"] : []),
      "\(model.warnings)")
    let found = try errors(executor(name), name)
    #expect(found.count > 1)
    for (output, error) in found { #expect(error < 2e-6, "\(name), \(output): \(error) of the range") }
  }

  /// What a mask hides at the end can as well not be there.
  @Test(arguments: names) func paddingCanBeLeftOut(_ name: String) throws {
    let executor = try executor(name)
    let sequences = try sequences(name)
    #expect(sequences[1].withoutPadding?.tokenIDs.count == sequences[1].tokenIDs.count - 7)
    for sequence in sequences {
      let short = try #require(sequence.withoutPadding)
      let whole = try executor.run([sequence], observe: nil)[0].output("hidden")
      let cut = try executor.run([short], observe: nil)[0].output("hidden")
      #expect(relativeError(cut.values, whole.values.prefix(cut.values.count)) < 2e-6)
    }
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
        for (output, error) in try errors(executor, name) {
          #expect(
            error < limit,
            "\(name), \(output), \(bits) bits, attention of \(attentionBits ?? 32): \(error) of the range")
        }
        // Together or alone, the same bits.
        let sequences = try sequences(name)
        let together = try executor.run(sequences, observe: nil)
        for (sequence, result) in zip(sequences, together) {
          #expect(try executor.run([sequence], observe: nil)[0].output("hidden") == result.output("hidden"))
        }
      }

      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      #expect(unpacked.tensors.map(\.name).sorted() == checkpoint.tensors.map(\.name).sorted())
      for tensor in checkpoint.tensors { #expect(unpacked[tensor.name]?.shape == tensor.shape) }
    }
  }

  /// Scales and shifts of every site.
  @Test(arguments: names) func migrationKeepsTheFunction(_ name: String) throws {
    var generator = SeededGenerator()
    var graph = try model(name).graph
    for site in graph.sites {
      let shared = graph.sharedChannels(of: site)
      func vector(_ range: ClosedRange<Float>) -> [Float] {
        let values = (0..<site.size).map { _ in Float.random(in: range, using: &generator) }
        return shared.map { $0.map { values[$0] } } ?? values
      }
      graph = try graph.migrating(site, by: ChannelTransform(shift: vector(-0.5...0.5), scale: vector(0.5...2)))
    }
    #expect(graph.transforms.count >= graph.sites.count)
    for (output, error) in try errors(executor(name, of: graph), name) {
      #expect(error < 2e-5, "\(name), \(output), seed \(generator.seed): \(error) of the range")
    }
  }

  /// A member that changes arithmetic and that the family does not read is refused; so is a tensor too many or few.
  @Test(arguments: encoders) func whatIsNotReadIsRefused(_ name: String) throws {
    for member in [
      "embedding_multiplier", "attn_logit_softcapping", "sliding_window", "use_qk_norm", "qkv_bias", "rope_theta",
    ] where member != "rope_theta" || !name.hasPrefix("nomic") {
      let refusal = try #require(
        #expect(throws: Refusal.self, "\(member)") { try model(name) { $0[member] = .integer(3) } })
      #expect(refusal.rule == "family-member" && refusal.message.contains("'\(member)'"), "\(refusal)")
    }
    let checkpoint = try Checkpoint.open(path(name))
    let configuration = try checkpoint.attachments.json(.configuration)
    let catalog = TensorCatalog(checkpoint.tensors, file: path(name))
    for lost in catalog.names {
      var entries = catalog.entries
      entries[lost] = nil
      // A second name of a bias.
      let isOptional = [
        "lm_head.bias", "cls.predictions.bias", "lm_head.decoder.bias", "cls.predictions.decoder.bias",
        "vocab_projector.bias", "generator_lm_head.bias",
      ].contains(lost)
      let isPooler = name.hasSuffix("-pooled") && lost == "pooler.dense.weight"
      if !isOptional, !isPooler {
        let refusal = try #require(
          #expect(throws: Refusal.self, "\(lost)") {
            try Families.model(configuration: configuration, tensors: TensorCatalog(entries))
          })
        #expect(refusal.rule == "family-tensors" || refusal.rule == "family-configuration", "\(refusal)")
      }
      // Of another shape.
      entries[lost] = TensorCatalog.Entry(shape: try #require(Shape([7, 5])), elementType: .f16)
      let model = try? Families.model(configuration: configuration, tensors: TensorCatalog(entries))
      #expect(model == nil || isOptional, "\(lost)")
    }
    var entries = catalog.entries
    let some = try #require(catalog.names.first { $0.contains(".1.") })
    entries[some.replacingOccurrences(of: ".1.", with: ".1.surplus.")] = entries[some]
    let surplus = try #require(
      #expect(throws: Refusal.self) {
        try Families.model(configuration: configuration, tensors: TensorCatalog(entries))
      })
    #expect(surplus.rule == "family-unused")
  }

  /// Labels are as many as the configuration says; a head that nobody names is not run, and a warning says so.
  @Test(arguments: [
    "bert-pairs", "bert-tokens", "roberta-classes", "distilbert-classes", "electra-classes", "modernbert-classes",
    "mpnet-classes", "nomic-classes",
  ])
  func headsAreThoseOfTheArchitecture(_ name: String) throws {
    let labels = try #require(
      #expect(throws: Refusal.self) {
        try model(name) {
          $0["id2label"] = .object(["0": .string("a"), "1": .string("b"), "2": .string("c"), "3": .string("d")])
        }
      })
    #expect(labels.rule == "family-configuration" && labels.message.contains("id2label"), "\(labels)")
    let base = try #require(model(name).graph.outputs.keys.first { $0.hasSuffix("class_logits") })
    let other = try model(name) { configuration in
      let architecture = configuration["architectures"]?.array?.first?.string ?? ""
      let stem = architecture.components(separatedBy: "For")[0]
      configuration["architectures"] = .array([.string(stem + "Model")])
    }
    #expect(other.graph.outputs[base] == nil)
    #expect(other.warnings.contains { $0.contains("classifier") && $0.contains("not run") }, "\(other.warnings)")
  }

  /// Answers have a start and an end; a head that nobody names is not run.
  @Test(arguments: spans) func headsForAnswers(_ name: String) throws {
    let checkpoint = try Checkpoint.open(path(name))
    let configuration = try checkpoint.attachments.json(.configuration)
    let catalog = TensorCatalog(checkpoint.tensors, file: path(name))
    let head = try #require(catalog.names.first { ["qa_outputs.weight", "classifier.weight"].contains($0) })
    var entries = catalog.entries
    let columns = try #require(entries[head]).shape.dimensions[1]
    entries[head] = TensorCatalog.Entry(shape: try #require(Shape([3, columns])), elementType: .f16)
    let refusal = #expect(throws: Refusal.self) {
      try Families.model(configuration: configuration, tensors: TensorCatalog(entries))
    }
    #expect(refusal?.rule == "family-configuration" && refusal?.message.contains("'\(head)'") == true)
    let other = try model(name) { configuration in
      let stem = (configuration["architectures"]?.array?.first?.string ?? "").components(separatedBy: "For")[0]
      configuration["architectures"] = .array([.string(stem + "Model")])
    }
    #expect(other.graph.outputs["span_logits"] == nil)
    #expect(other.warnings.contains { $0.contains("'\(head)'") && $0.contains("not run") }, "\(other.warnings)")
  }

  static let types = [
    "bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "modernbert", "mpnet", "nomic_bert",
    "llama", "gpt2", "opt", "bloom",
  ]

  /// A checkpoint that says to be of another family is right or refused, also without `architectures`.
  @Test(arguments: encoders, types) func anotherTypeIsRightOrRefused(_ name: String, _ type: String) throws {
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
      let executor = try executor(name, of: model.graph)
      let goldens = try goldens(name)
      guard try sequences(name)[0].tokenIDs.count <= model.graph.contextLength ?? .max else { continue }
      for (row, sequence) in try sequences(name).enumerated() {
        let result = try executor.run([sequence], observe: nil)[0]
        let hidden = try result.output("hidden")
        let golden = try goldens.floats("hidden_fp32", row: row)
        let seen = sequence.attentionMask?.count(where: { $0 }) ?? hidden.rowCount
        let error = relativeError(
          hidden.values.prefix(seen * hidden.channelCount), golden.prefix(seen * hidden.channelCount))
        #expect(error < 2e-6, "\(name) as \(type), architectures \(keepsArchitectures): \(error)")
      }
    }
  }

  /// Without config.json the prefix tells the family, and the graph is not run.
  @Test(arguments: [
    ("bert", "bert"), ("roberta", "roberta"), ("distilbert", "distilbert"), ("electra", "electra"),
    ("modernbert", "modernbert"), ("mpnet", "mpnet"), ("nomic", "nomic_bert"),
  ])
  func namesTellTheFamily(_ name: String, _ family: String) throws {
    let graph = try Families.graph(
      configuration: nil, tensors: TensorCatalog(try Checkpoint.open(path(name)).tensors))
    #expect(graph.family == family && !graph.missing.isEmpty)
  }
}
