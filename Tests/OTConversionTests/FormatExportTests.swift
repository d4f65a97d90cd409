import Foundation
import OTCheckpoint
import OTConversion
import OTExport
import OTFoundation
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// What all formats of other engines keep, and what each refuses.
@Suite struct FormatExportTests: FormatExportSuite {
  @Test(arguments: [("mlx-lm-q4-g64", 4), ("mlx-lm-q6-g64", 6)])
  func valuesOfMLXAreTheOfficialOnes(_ name: String, _ bits: Int) throws {
    let file = try SafetensorsFile(mapping: MappedFile(path: Fixtures.path("quantized/\(name)/model.safetensors")))
    for view in file.tensors where view.name.hasSuffix(".weight") && view.elementType == .u32 {
      let columns = view.shape.rowElementCount * 32 / bits
      let packed = DenseCodes.pack(codes(view, count: columns, bits: bits), columnCount: columns, bits: bits)
      #expect(view.withRowBytes(0..<view.shape.rowCount) { $0.elementsEqual(packed) }, "\(view.name)")
    }
  }

  /// What a format holds computes what the packed file of the same options does, in floats; and an export of that file
  /// has the same bytes as one of the checkpoint, by any number of threads.
  @Test(
    arguments: [
      ("compressed-tensors", 8, true, nil), ("compressed-tensors", 6, false, nil), ("compressed-tensors", 3, true, 32),
      ("mlx", 8, false, nil), ("mlx", 7, true, nil), ("mlx", 5, false, 32), ("mlx", 2, true, 64),
      ("gguf", 8, true, nil), ("gguf", 6, false, nil), ("gguf", 4, true, 32), ("gguf", 4, false, 64),
    ] as [(String, Int, Bool, Int?)])
  func quantizedValuesReadBack(_ format: String, _ bits: Int, _ isSymmetric: Bool, _ groupSize: Int?) throws {
    try withTemporaryFolder { folder in
      let options = options {
        ($0.bits, $0.isSymmetric, $0.threadCount) = (bits, isSymmetric, 3)
        if let groupSize { $0.granularity = .perGroup(size: groupSize) }
        // Scales are folded, and activations of groups of weights stay float.
        $0.activationBits = groupSize == nil ? nil : 16
        if format == "compressed-tensors" || !isSymmetric { $0.embeddingBits = 16 }
      }
      let plan = try ConversionPlan(
        checkpoint: Fixture.llama.checkpoint(), options: options,
        statistics: Fixture.llama.statistics(.outlierTuneWithoutSymmetrization))
      let type: ElementType? = format == "gguf" ? nil : .f32
      try Converter(plan).run(into: writer(format, folder + "/a", type))
      try Converter(plan).run(to: folder + "/m.otq")
      let packed = try PackedModel(path: folder + "/m.otq")
      try export(packed, into: writer(format, folder + "/b", type))
      if format == "gguf" {
        #expect(try bytes(folder + "/a") == bytes(folder + "/b"))
        try FileManager.default.moveItem(atPath: folder + "/a", toPath: folder + "/a.gguf")
      } else {
        for name in ["model.safetensors", "config.json", "model.safetensors.index.json"] {
          #expect(try bytes(folder + "/a/\(name)") == bytes(folder + "/b/\(name)"), "\(name)")
        }
      }
      try export(packed, into: writer("safetensors", folder + "/floats", .f32))
      let found = try logits(SourceModel(path: folder + (format == "gguf" ? "/a.gguf" : "/a")))
      let error = relativeError(found, try logits(SourceModel(path: folder + "/floats")))
      #expect(error < (format == "gguf" ? 4e-3 : 1e-5), "\(error)")
    }
  }

  /// Gains that are stored less 1 are written so, to the last bit where nothing was done to them.
  @Test(arguments: ["gemma", "gemma2", "gemma3"]) func gainsLessOneStaySo(_ name: String) throws {
    try withTemporaryFolder { folder in
      let path = Fixtures.path("models/families/\(name)")
      let plan = try ConversionPlan(checkpoint: .open(path), options: options { $0.isWeightsOnly = true })
      try Converter(plan).run(into: writer("safetensors", folder + "/m"))
      try Converter(plan).run(to: folder + "/m.otq")
      try export(PackedModel(path: folder + "/m.otq"), into: writer("safetensors", folder + "/packed", .f32))
      let (found, source) = try (Checkpoint.open(folder + "/m"), Checkpoint.open(path))
      for view in source.tensors {
        let other = try #require(found[view.name])
        let isSame = view.withRowBytes(0..<view.shape.rowCount) { a in
          other.withRowBytes(0..<view.shape.rowCount) { a.elementsEqual($0) }
        }
        #expect(isSame, "\(view.name)")
      }
      // By way of 1 + γ, a bit may be lost.
      let packed = try Checkpoint.open(folder + "/packed")
      for view in source.tensors where view.shape.rank == 1 {
        let other = try #require(packed[view.name])
        let values = try (
          TransformedRows(view: view).values(rows: 0..<view.shape.rowCount),
          TransformedRows(view: other).values(rows: 0..<view.shape.rowCount)
        )
        #expect(zip(values.0, values.1).allSatisfy { abs($0 - $1) < 1e-6 }, "\(view.name)")
      }
    }
  }

  /// Gains that are stored less 1 take a scale that is folded into them whole.
  @Test(arguments: ["gemma", "gemma3"]) func foldedScalesReachGainsLessOne(_ name: String) throws {
    try withTemporaryFolder { folder in
      let path = Fixtures.path("models/families/\(name)")
      let source = try SourceModel(path: path)
      var options = options {
        $0.granularity = .perGroup(size: 32)
        $0.isSymmetric = false
      }
      // Their columns are no multiples of 32.
      options.exclude = ["down_proj", "o_proj"].compactMap { NamePattern($0) }
      // Scales as large as the norms' outputs, some times 1.
      options.methods = [try Methods.method("smoothquant,alpha=1,norms-only=true")]
      options.activationBits = 16
      let conversion = try Conversion(source, options: options)
      let tokens = (0..<8).map { sample in TokenSequence((0..<32).map { (5 + $0 * 37 + sample * 11) % 100 }) }
      let samples = Calibration.Samples(
        tokens: tokens, run: CalibrationRun(texts: [], sampleCount: 8, length: 32, seed: nil))
      let observed = try Calibration().run(on: source, samples: samples, kinds: conversion.needs)
      try Converter(conversion.plan(observed)).run(into: writer("mlx", folder + "/m", .f32))
      let (found, wanted) = try (logits(SourceModel(path: folder + "/m")), logits(source))
      let size = wanted.map(abs).max() ?? 0
      let error = zip(found, wanted).map { abs($0 - $1) }.max() ?? 0
      #expect(error < 0.05 * size, "\(error) of \(size)")
    }
  }

  /// mlx-lm reads rotations and windows under the names that config.json had before transformers 5.
  @Test func mlxIsToldOfRotationsAndWindows() throws {
    func exported(_ name: String) throws -> (configuration: JSONObject, notes: [String]) {
      try withTemporaryFolder { folder in
        var options = options {
          $0.isWeightsOnly = true
          $0.isSymmetric = false
        }
        // Their columns are no multiples of 32.
        options.exclude = ["down_proj", "o_proj"].compactMap { NamePattern($0) }
        let plan = try ConversionPlan(
          checkpoint: .open(Fixtures.path("models/families/\(name)")), options: options)
        let writer = try writer("mlx", folder + "/m", .f32)
        try Converter(plan).run(into: writer)
        let json = try JSONValue.parse(contentsOf: MappedFile(path: folder + "/m/config.json"))
        return (try #require(json.object), writer.notes)
      }
    }
    let (gemma, notes) = try exported("gemma3")
    #expect(gemma["rope_theta"]?.double == 50_000 && gemma["rope_local_base_freq"]?.double == 100)
    #expect(gemma["rope_scaling"]?["type"]?.string == "linear" && gemma["rope_scaling"]?["factor"]?.double == 8)
    #expect(gemma["sliding_window_pattern"]?.integer == 3 && gemma["rope_parameters"] == nil && notes.isEmpty)
    // A window of 5 tokens, which mlx-lm's Gemma 2 does not have.
    #expect(try exported("gemma2").notes.first?.contains("more than the 5 before") == true)
    // All layers have one: by `layer_types` mlx-lm would look for one that has not.
    let mistral = try exported("mistral-sliding")
    #expect(mistral.notes.count == 1 && mistral.configuration["layer_types"] == nil)
    for (name, rule) in [
      ("gemma-untied", "export-head"), ("gemma2-uncapped", "export-architecture"),
      ("gemma3-capped", "export-architecture"),
    ] {
      #expect(throws: Refusal.self, "\(name)") { try exported(name) }
      do { _ = try exported(name) } catch let refusal as Refusal { #expect(refusal.rule == rule, "\(refusal)") }
    }
  }

  private func rule(
    _ format: String, _ fixture: Fixture, _ method: FixtureMethod? = nil, by change: (inout ConversionOptions) -> Void
  ) throws -> String? {
    try withTemporaryFolder { folder in
      let plan = try ConversionPlan(
        checkpoint: fixture.checkpoint(), options: options(change), statistics: fixture.statistics(method))
      do {
        try Converter(plan).run(into: writer(format, folder + "/m"))
        return nil
      } catch let refusal as Refusal {
        #expect(refusal.remedy != nil, "\(refusal)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
        return refusal.rule
      }
    }
  }

  @Test func whatAFormatCannotHoldIsRefused() throws {
    func weights(_ granularity: QuantizationScheme.Granularity) -> (inout ConversionOptions) -> Void {
      {
        $0.isWeightsOnly = true
        $0.granularity = granularity
      }
    }
    #expect(try rule("mlx", .opt, by: weights(.perChannel)) == "export-model-type")
    #expect(try rule("ctranslate2", .bert, by: weights(.perChannel)) == "export-model-type")
    #expect(try rule("ctranslate2", .opt, by: weights(.perGroup(size: 32))) == "export-groups")
    #expect(try rule("ctranslate2", .opt, by: weights(.perChannel)) == "export-asymmetric")
    #expect(try rule("gguf", .opt, by: weights(.perChannel)) == "export-model-type")
    for format in ["mlx", "gguf", "compressed-tensors"] {
      #expect(try rule(format, .llama, .outlierTune) { _ in } == "export-bias")
      #expect(try rule(format, .llama, by: weights(.perTensor)) == "export-per-tensor")
    }
    #expect(try rule("mlx", .llama, by: weights(.perGroup(size: 16))) == "export-groups")
    #expect(try rule("gguf", .llama, by: weights(.perGroup(size: 16))) == "export-groups")
    #expect(try rule("gguf", .llama, by: weights(.perChannel)) == "export-asymmetric")
    // llama.cpp's Gemma has no head of its own, and scales products by what its size says.
    for name in ["gemma-untied", "gemma2", "qwen2-sliding", "mistral-yarn"] {
      try withTemporaryFolder { folder in
        let plan = try ConversionPlan(
          checkpoint: .open(Fixtures.path("models/families/\(name)")), options: options(weights(.perChannel)))
        let refusal = #expect(throws: Refusal.self) {
          try Converter(plan).run(into: writer("gguf", folder + "/m.gguf", .f32))
        }
        let rules = ["qwen2-sliding": "export-window", "mistral-yarn": "export-rotary"]
        #expect(refusal?.rule == rules[name] ?? "export-architecture", "\(name)")
      }
    }
    let perToken: (inout ConversionOptions) -> Void = { $0.isCalibrated = false }
    #expect(try rule("compressed-tensors", .llama, by: perToken) == "export-asymmetric")
    #expect(
      try rule("compressed-tensors", .llama) {
        perToken(&$0)
        $0.granularity = .perGroup(size: 32)
        $0.isSymmetric = false
      } == "export-groups")
    #expect(
      try rule("compressed-tensors", .llama) {
        $0.methods = [PerToken()]
        $0.isSymmetric = true
        $0.activations = .group(size: 32)
      } == "export-activation")
    #expect(
      try rule("compressed-tensors", .llama) {
        $0.methods = [PerToken()]
        $0.isSymmetric = true
        $0.activations = .asymmetricToken
      } == "export-activation")
    // compressed-tensors makes no modules for experts.
    try withTemporaryFolder { folder in
      let plan = try ConversionPlan(
        checkpoint: .open(Fixtures.path("models/families/mixtral")), options: options(weights(.perChannel)))
      let refusal = #expect(throws: Refusal.self) {
        try Converter(plan).run(into: writer("compressed-tensors", folder + "/m"))
      }
      #expect(refusal?.rule == "export-architecture")
    }
    #expect(
      try rule("compressed-tensors", .opt, .outlierTune) {
        $0.isSymmetric = true
        $0.granularity = .perGroup(size: 32)
      } == "export-groups")
  }
}
