import Foundation
import OTGraph
import OTJSON
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite("Families: what all of them do")
struct FamilyTests {
  @Test(arguments: Fixture.allCases)
  func everyTensorIsUsedInItsShape(_ fixture: Fixture) throws {
    let catalog = try fixture.catalog()
    #expect(catalog.names.count == fixture.tensorCount)
    let graph = try fixture.graph()
    #expect(graph.family == fixture.family && graph.missing.isEmpty)
    #expect(graph.unusedTensors(in: catalog).isEmpty)
    #expect(Set(graph.parameterUses.compactMap(\.tensor?.name)) == Set(catalog.names))
    for use in graph.parameterUses {
      #expect(use.tensor == .named(use.outputName) && use.isUnchanged)
      #expect(catalog[use.outputName]?.shape == use.shape)
    }
    #expect(graph.vocabularySize == 2048)
    #expect(graph.channelCount(of: graph.outputs["logits"] ?? "") == 2048)
  }

  @Test(arguments: Fixture.allCases)
  func buffersAreCarriedThrough(_ fixture: Fixture) throws {
    var entries = try fixture.catalog().entries
    entries["embeddings.position_ids"] = .init(
      shape: try #require(Shape([1, 512])), elementType: .i64)
    entries["rotary_emb.inv_freq"] = .init(shape: try #require(Shape([16])), elementType: .f32)
    let catalog = TensorCatalog(entries)
    let graph = try Families.graph(
      configuration: try fixture.configuration(), tensors: catalog)
    #expect(
      graph.unusedTensors(in: catalog) == ["embeddings.position_ids", "rotary_emb.inv_freq"])
  }

  @Test(arguments: Fixture.allCases)
  func withoutConfigurationTheFamilyAndSizesComeFromTheTensors(_ fixture: Fixture) throws {
    let catalog = try fixture.catalog()
    let known = try fixture.graph()
    let graph = try Families.graph(configuration: nil, tensors: catalog)
    #expect(graph.family == fixture.family)
    #expect(graph.missing.contains(fixture == .bloom ? "n_head" : "num_attention_heads"))
    #expect(graph.nodes.map(\.name) == known.nodes.map(\.name))
    #expect(graph.parameterUses == known.parameterUses)
    #expect(graph.sites == known.sites)
    #expect(graph.unusedTensors(in: catalog).isEmpty)
  }

  @Test(arguments: Fixture.allCases)
  func prefixesAreOptional(_ fixture: Fixture) throws {
    let prefixes = ["opt": "model.", "bloom": "transformer.", "llama": "model.", "bert": "bert."]
    let prefix = try #require(prefixes[fixture.family])
    let catalog = try fixture.catalog().renamed {
      $0.hasPrefix(prefix) ? String($0.dropFirst(prefix.count)) : $0
    }
    let graph = try Families.graph(
      configuration: try fixture.configuration(), tensors: catalog)
    #expect(graph.unusedTensors(in: catalog).isEmpty)
    #expect(try Families.graph(configuration: nil, tensors: catalog).family == fixture.family)
    // Names of statistics match with and without the prefix, both ways.
    let full = try fixture.graph()
    for name in full.sites.flatMap(\.consumers) {
      let bare = String(name.dropFirst(prefix.count))
      #expect(full.matches(statisticsName: name) == name)
      #expect(full.matches(statisticsName: bare) == name)
      #expect(graph.matches(statisticsName: name) == bare)
      #expect(full.matches(statisticsName: name + "x") == nil)
    }
  }

  @Test(arguments: Fixture.allCases)
  func absentTensorsAreNamedTogether(_ fixture: Fixture) throws {
    let configuration = try fixture.configuration()
    let catalog = try fixture.catalog()
    let layer = fixture == .bloom ? ".h.1." : fixture == .bert ? ".layer.1." : ".1."
    let weights = catalog.names.filter { $0.contains(layer) && $0.hasSuffix("weight") }
    #expect(weights.count >= 6)
    let two = Set(weights.prefix(2))
    let error = try refusal {
      _ = try Families.graph(
        configuration: configuration, tensors: catalog.renamed { two.contains($0) ? nil : $0 })
    }
    #expect(error.rule == "family-tensors" && error.file == fixture.folder)
    #expect(two.allSatisfy { error.message.contains("'\($0)' is missing") })
  }

  @Test func noMoreThanEightFaultsAreListed() throws {
    let fixture = Fixture.opt
    let catalog = try fixture.catalog().renamed { $0.hasSuffix("_proj.weight") ? nil : $0 }
    let error = try refusal {
      _ = try Families.graph(configuration: try fixture.configuration(), tensors: catalog)
    }
    #expect(error.message.components(separatedBy: "is missing").count - 1 == 8)
    #expect(error.message.hasSuffix("and 8 more"))
  }

  @Test(arguments: Fixture.allCases)
  func wrongShapesAndTypes(_ fixture: Fixture) throws {
    let configuration = try fixture.configuration()
    let catalog = try fixture.catalog()
    let matrices = catalog.names.filter { catalog[$0]?.shape.dimensions == [128, 128] }
    let name = try #require(matrices.first)
    for (dimensions, type, word) in [
      ([128, 127], ElementType.f32, "[128, 127]"), ([128, 128], .i8, "I8"),
    ] {
      var entries = catalog.entries
      entries[name] = .init(shape: try #require(Shape(dimensions)), elementType: type)
      let error = try refusal {
        _ = try Families.graph(configuration: configuration, tensors: TensorCatalog(entries))
      }
      #expect(error.rule == "family-tensors")
      #expect(error.message.contains(name) && error.message.contains(word))
    }
  }

  @Test func unknownFamilies() throws {
    let catalog = try Fixture.opt.catalog()
    let nothing = try TensorCatalog(shapes: ["a.weight": [2, 2]])
    for (configuration, tensors, override) in [
      (try parsed(#"{"model_type": "perceiver"}"#), catalog, String?.none),
      (nil, nothing, nil), (nil, catalog, "mamba"),
    ] {
      let error = try refusal {
        _ = try Families.graph(configuration: configuration, tensors: tensors, override: override)
      }
      #expect(error.rule == "family-unknown")
      #expect(error.message.contains("known families: opt, bloom, llama, bert"))
      #expect(error.remedy?.contains("--weights-only") == true)
    }
  }

  @Test(
    arguments: Fixture.allCases,
    [
      ("num_hidden_layers", "-1"), ("n_layer", "0"), ("hidden_size", "1e3"),
      ("hidden_size", "9223372036854775807"), ("vocab_size", #""many""#), ("vocab_size", "2047"),
      ("num_attention_heads", "3"), ("n_head", "7"), ("num_hidden_layers", "2147483648"),
      ("n_layer", "1000000"), ("hidden_act", #""snake""#), ("activation_function", "1"),
      ("layer_norm_eps", "-1"), ("rms_norm_eps", #""x""#), ("layer_norm_epsilon", "1e300"),
      ("position_embedding_type", #""relative_key""#), ("enable_bias", "1"),
      ("rope_parameters", "3"), ("head_dim", "31"), ("rope_parameters", #"{"rope_type": "linear"}"#),
      ("rope_parameters", #"{"rope_theta": 0}"#), ("num_key_value_heads", "3"),
    ])
  func unusableConfigurations(_ fixture: Fixture, _ member: (String, String)) throws {
    var configuration = try #require(try fixture.configuration().object)
    // BLOOM's configuration has its own names for some members.
    let isRead =
      configuration[member.0] != nil || (fixture == .bert && member.0.hasPrefix("position_"))
    guard isRead else { return }
    configuration[member.0] = try parsed("[\(member.1)]").array?[0]
    let error = try refusal {
      _ = try Families.graph(
        configuration: .object(configuration), tensors: try fixture.catalog())
    }
    #expect(["family-configuration", "family-tensors", "graph-channels"].contains(error.rule))
  }
}
