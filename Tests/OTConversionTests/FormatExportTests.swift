import Foundation
import OTCheckpoint
import OTContainer
import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import OTTensor
import OTTokenizer
import Testing
import _OTModelSupport
import _OTTestSupport

/// Formats of other engines, against the files of their own tools and read back by our readers of them.
@Suite struct FormatExportTests {
  private func writer(
    _ format: String, _ path: String, _ type: ElementType? = nil, shardByteCount: Int? = nil
  ) throws -> any ModelWriter {
    var output = ExportOutput(path: path)
    output.elementType = type
    output.shardByteCount = shardByteCount
    return try #require(Writers.named(format)).init(output)
  }

  private func options(_ change: (inout ConversionOptions) -> Void) -> ConversionOptions {
    var options = ConversionOptions()
    options.avoidsRotation = true
    change(&options)
    return options
  }

  private func logits(_ source: SourceModel, _ output: String = "logits") throws -> [Float] {
    let executor = try FloatExecutor(graph: source.graph(), parameters: source.parameters, threadCount: 2)
    let count = min(40, executor.graph.contextLength ?? 40)
    let size = executor.graph.vocabularySize ?? 100
    return try executor.run(tokenIDs: (0..<count).map { (5 + $0 * 37) % size }).output(output).values
  }

  private func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

  // MARK: Official files

  /// Keys, names, types and bytes are those of the official converter's tables.
  @Test(arguments: [
    "bert", "gemma", "gemma2", "gemma3", "llama", "llama3", "phi3", "phi3-longrope", "qwen2", "qwen3",
  ])
  func ggufFilesAreTheOfficialOnes(_ name: String) throws {
    try withTemporaryFolder { folder in
      let official = Fixtures.path("gguf/models/\(name).gguf")
      let plan = try ConversionPlan(checkpoint: .open(official), options: options { $0.isWeightsOnly = true })
      try Converter(plan).run(into: writer("gguf", folder + "/m.gguf", .f16))
      let (found, wanted) = try (
        GGUFFile(MappedFile(path: folder + "/m.gguf")), GGUFFile(MappedFile(path: official))
      )
      // The name is not ours to give, and the module that pools lies beside no such file.
      for (key, value) in wanted.values where !["general.name", "bert.pooling_type"].contains(key) {
        #expect(found.values[key] == value, "\(key)")
      }
      #expect(Set(found.tensors.map(\.name)) == Set(wanted.tensors.map(\.name)))
      for tensor in wanted.tensors {
        let own = try #require(found.tensors.first { $0.name == tensor.name })
        #expect(own.type == tensor.type && own.shape == tensor.shape, "\(tensor.name)")
        let (a, b) = (found.view(of: own, named: ""), wanted.view(of: tensor, named: ""))
        let isSame = a.withRowBytes(0..<a.shape.rowCount) { a in
          b.withRowBytes(0..<b.shape.rowCount) { a.elementsEqual($0) }
        }
        #expect(isSame, "\(tensor.name)")
      }
    }
  }

  @Test(arguments: [("llama3", "llama-bpe"), ("qwen2", "qwen2"), ("bloom", "bloom"), ("o200k", "gpt-4o")])
  func ggufTokenizersAreTheOfficialOnes(_ name: String, _ pre: String) throws {
    let keys = try tokenizerKeys(Fixtures.path("tokenizers/\(name).json"))
    let wanted = try GGUFFile(MappedFile(path: Fixtures.path("gguf/tokenizers/\(name).gguf"))).values
    for (key, value) in wanted where key.hasPrefix("tokenizer.") { #expect(keys[key] == value, "\(key)") }
    #expect(keys["tokenizer.ggml.pre"] == .string(pre))
  }

  private func tokenizerKeys(_ path: String, count: Int? = nil) throws -> [String: GGUFValue] {
    let root = try JSONValue.parse(contentsOf: MappedFile(path: path))
    let ids =
      (root["model"]?["vocab"]?.object?.members.compactMap(\.value.integer) ?? [])
      + (root["added_tokens"]?.array?.compactMap { $0["id"]?.integer } ?? [])
    let vocabulary = try GGUFVocabulary(
      tokenizer: root, configuration: nil, special: nil, model: nil, template: nil,
      tokenCount: count ?? (ids.max() ?? 0) + 1, file: path)
    return Dictionary(try vocabulary.keys().map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
  }

  /// What our reader of GGUF makes of the keys splits texts as the tokenizer that they were made of.
  @Test(arguments: ["llama2", "mistral", "llama3", "qwen2", "bloom", "bert", "bert-cased", "o200k"])
  func ggufTokenizersReadBack(_ name: String) throws {
    try withTemporaryFolder { folder in
      let source = Fixtures.path("tokenizers/\(name).json")
      let keys = try tokenizerKeys(source).sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
      let file = try GGUFWriter(
        path: folder + "/t.gguf",
        keys: [("general.architecture", .string("llama")), ("llama.block_count", .integer(1))] + keys, tensors: [])
      try file.commit()
      let found = try #require(try Model.source(SourceModel(path: folder + "/t.gguf")).tokenizer())
      let wanted = try Tokenizer(path: source)
      let texts = try JSONValue.parse(contentsOf: MappedFile(path: Fixtures.path("tokenizers/texts.json"))).array ?? []
      #expect(texts.count >= 400)
      // SentencePiece's own way with marks of spaces and special tokens, which llama.cpp has too, is another.
      let isPieces = ["llama2", "mistral"].contains(name)
      for text in texts.compactMap(\.string)
      where !isPieces || !text.contains("<") && !text.contains("▁") && text.first != " " && text.first != "\n" {
        let ids = try found.encode(text, addSpecialTokens: true)
        #expect(try ids == wanted.encode(text, addSpecialTokens: true), Comment(rawValue: Refusal.printable(text)))
      }
    }
  }

  @Test func tokenizersThatLlamaCPPDoesNotHaveAreRefused() throws {
    for name in ["unigram", "wordlevel", "opt", "suffix"] {
      let refusal = #expect(throws: Refusal.self) { try tokenizerKeys(Fixtures.path("tokenizers/\(name).json")) }
      #expect(refusal?.rule == "export-tokenizer")
    }
    let small = #expect(throws: Refusal.self) { try tokenizerKeys(Fixtures.path("tokenizers/bert.json"), count: 9) }
    #expect(small?.rule == "export-tokenizer")
    // Rows of the embedding beyond the tokens have tokens of their own.
    let padded = try tokenizerKeys(Fixtures.path("tokenizers/qwen2.json"), count: 2000)
    guard case .strings(let tokens)? = padded["tokenizer.ggml.tokens"] else { throw Failure() }
    #expect(tokens.count == 2000 && tokens[1999] == "[PAD1999]")
  }

  private struct Failure: Error {}

  /// Bits of a stream, taken one by one.
  private func codes(_ view: TensorView, count: Int, bits: Int) -> [UInt8] {
    (0..<view.shape.rowCount).flatMap { row in
      view.withRowBytes(row..<row + 1) { bytes in
        (0..<count).map { index in
          (0..<bits).reduce(UInt8(0)) { code, bit in
            let place = index * bits + bit
            return code | (bytes[place / 8] >> UInt8(place % 8) & 1) << UInt8(bit)
          }
        }
      }
    }
  }

  /// Streams of bits are those of the official libraries.
  @Test(arguments: ["ct-w2a16", "ct-w3a16", "ct-w4a16", "ct-w5a16", "ct-w6a16", "ct-w7a16", "ct-w8a16"])
  func packedValuesAreTheOfficialOnes(_ name: String) throws {
    let bits = try #require(Int(String(name.dropFirst(4).first ?? " ")))
    let file = try SafetensorsFile(mapping: MappedFile(path: Fixtures.path("quantized/\(name)/model.safetensors")))
    var count = 0
    for view in file.tensors where view.name.hasSuffix(".weight_packed") {
      let shape = try #require(file.tensors.first { $0.name == view.name.dropLast(6) + "shape" })
      let columns = shape.withRowBytes(1..<2) { Int($0.loadUnaligned(as: Int64.self)) }
      let packed = DenseCodes.pack(codes(view, count: columns, bits: bits), columnCount: columns, bits: bits)
      #expect(view.withRowBytes(0..<view.shape.rowCount) { $0.elementsEqual(packed) }, "\(view.name)")
      count += 1
    }
    #expect(count > 0)
  }

  @Test(arguments: [("mlx-lm-q4-g64", 4), ("mlx-lm-q6-g64", 6)])
  func valuesOfMLXAreTheOfficialOnes(_ name: String, _ bits: Int) throws {
    let file = try SafetensorsFile(mapping: MappedFile(path: Fixtures.path("quantized/\(name)/model.safetensors")))
    for view in file.tensors where view.name.hasSuffix(".weight") && view.elementType == .u32 {
      let columns = view.shape.rowElementCount * 32 / bits
      let packed = DenseCodes.pack(codes(view, count: columns, bits: bits), columnCount: columns, bits: bits)
      #expect(view.withRowBytes(0..<view.shape.rowCount) { $0.elementsEqual(packed) }, "\(view.name)")
    }
  }

  /// Names, types and shapes are those that llm-compressor writes.
  @Test func tensorsAreThoseOfLLMCompressor() throws {
    try withTemporaryFolder { folder in
      let plan = try ConversionPlan(
        checkpoint: Fixture.llama.checkpoint(),
        options: options {
          $0.isWeightsOnly = true
          $0.bits = 4
          $0.granularity = .perGroup(size: 32)
        })
      try Converter(plan).run(into: writer("compressed-tensors", folder + "/m"))
      let file = try SafetensorsFile(mapping: MappedFile(path: folder + "/m/model.safetensors"))
      let lines = try String(
        contentsOfFile: Fixtures.path("exports/ct-llmcompressor-w4a16-g32-asym.txt"), encoding: .utf8)
      let found = file.tensors.map { view in
        // The scales are float32 here.
        "\(view.name) \(view.name.hasSuffix("_scale") ? "F16" : view.elementType.rawValue) \(view.shape)"
      }
      #expect(found.sorted() == lines.split(separator: "\n").map(String.init).sorted())
      let configuration = try JSONValue.parse(contentsOf: MappedFile(path: folder + "/m/config.json"))
      let quantization = try #require(configuration["quantization_config"])
      #expect(quantization["dequantize"]?.bool == true && quantization["ignore"]?.array == [.string("lm_head")])
      #expect(FileManager.default.fileExists(atPath: folder + "/m/model.safetensors.index.json"))
    }
  }

  // MARK: Read back

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

  private func export(_ packed: PackedModel, into writer: some ModelWriter) throws {
    try PackedExport(packed, isRestored: false, threadCount: 2).run(into: writer)
  }

  /// All families in floats, whose transformed function is the source's.
  @Test(arguments: [(Fixture.llama, FixtureMethod.outlierTuneWithoutSymmetrization), (.bloom, .outlierTune)])
  func ggufFloatsComputeTheSame(_ fixture: Fixture, _ method: FixtureMethod) throws {
    try withTemporaryFolder { folder in
      let plan = try ConversionPlan(
        checkpoint: fixture.checkpoint(), options: options { _ in }, statistics: fixture.statistics(method))
      try Converter(plan).run(into: writer("gguf", folder + "/m.gguf", .f32))
      let exported = try SourceModel(path: folder + "/m.gguf")
      let source = try fixture.source()
      #expect(relativeError(try logits(exported), try logits(source)) < 1e-5)
      let tokenizers = try (Model.source(exported).tokenizer(), Model.source(source).tokenizer())
      let text = "In the beginning, 1234 é\n\n 漢字 🙂"
      let ids = try tokenizers.0?.encode(text, addSpecialTokens: true)
      #expect(try ids != nil && ids == tokenizers.1?.encode(text, addSpecialTokens: true))
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

  /// What config.json says: bits, and a pattern of the modules that have so many.
  private static func targets(of folder: String) throws -> [(bits: Int, target: String)] {
    let json = try JSONValue.parse(contentsOf: MappedFile(path: folder + "/config.json"))
    let groups = try #require(json["quantization_config"]?["config_groups"]?.object)
    var targets: [(bits: Int, target: String)] = []
    for (_, group) in groups.members {
      let bits = try #require(group["weights"]?["num_bits"]?.integer)
      for target in group["targets"]?.array ?? [] { targets.append((bits, try #require(target.string))) }
    }
    return targets
  }

  /// The modules of a folder and the bits that their words of 32 hold for each column.
  private static func widths(of folder: String) throws -> [(module: String, bits: Int)] {
    let file = try SafetensorsFile(mapping: MappedFile(path: folder + "/model.safetensors"))
    var widths: [(module: String, bits: Int)] = []
    for view in file.tensors where view.name.hasSuffix(".weight_packed") {
      let module = String(view.name.dropLast(".weight_packed".count))
      let shape = try #require(file.tensors.first { $0.name == module + ".weight_shape" })
      let columns = shape.withRowBytes(0..<shape.shape.rowCount) { $0.loadUnaligned(fromByteOffset: 8, as: Int64.self) }
      widths.append((module, view.shape.rowElementCount * 32 / Int(columns)))
    }
    return widths
  }

  /// True where a target's expression is found at the beginning of a name, as Python's `re.match` finds it.
  private static func matches(_ target: String, _ name: String) -> Bool {
    guard target.hasPrefix("re:") else { return false }
    return name.range(of: "^(?:" + target.dropFirst(3) + ")", options: .regularExpression) != nil
  }

  /// In folders of two widths each linear is found by the targets of its own width and by no others, also where its
  /// name ends as another's does.
  @Test func targetsOfCompressedTensorsAreTheirOwn() throws {
    try withTemporaryFolder { folder in
      let pattern = try #require(NamePattern("layer\\.[01]\\.output\\.dense"))
      var options = options {
        $0.isWeightsOnly = true
        $0.isSymmetric = true
        $0.bits = 6
      }
      options.bitsFor = [(pattern, 4)]
      let plan = try ConversionPlan(checkpoint: Fixture.bert.checkpoint(), options: options)
      try Converter(plan).run(into: writer("compressed-tensors", folder + "/m"))
      let targets = try Self.targets(of: folder + "/m")
      #expect(Set(targets.map(\.bits)) == [4, 6])
      let rest = targets.first { $0.target == "Linear" }?.bits
      var counts: [Int: Int] = [:]
      for (module, bits) in try Self.widths(of: folder + "/m") {
        counts[bits, default: 0] += 1
        let matching = Set(targets.filter { Self.matches($0.target, module) }.map(\.bits))
        #expect(matching == (bits == rest ? [] : [bits]), "\(module): \(matching)")
      }
      #expect(counts.count == 2)
    }
  }

  /// The variables of CTranslate2's file, read by the format's rules: sorted, without gaps, bytes times the inverse of
  /// the inverse of a scale; queries, keys and values one after another.
  @Test(arguments: [Fixture.llama, .opt, .bloom]) func variablesOfCTranslate2(_ fixture: Fixture) throws {
    try withTemporaryFolder { folder in
      let options = options {
        ($0.isWeightsOnly, $0.isSymmetric, $0.threadCount) = (true, true, 3)
        // A packed file has its positions quantized, which these have as floats.
        if fixture == .opt { $0.exclude = [NamePattern("embed_positions")].compactMap(\.self) }
      }
      let plan = try ConversionPlan(checkpoint: fixture.checkpoint(), options: options)
      try Converter(plan).run(into: writer("ctranslate2", folder + "/m"))
      try Converter(plan).run(to: folder + "/m.otq")
      let packed = try PackedModel(path: folder + "/m.otq")
      try export(packed, into: writer("ctranslate2", folder + "/n"))
      #expect(try bytes(folder + "/m/model.bin") == bytes(folder + "/n/model.bin"))
      let (variables, aliases) = try read([UInt8](bytes(folder + "/m/model.bin")))
      #expect(variables.map(\.name) == variables.map(\.name).sorted())
      let isTied = try fixture.checkpoint()["lm_head.weight"] == nil
      #expect(aliases["decoder/projection/weight"] == (isTied ? "decoder/embeddings/weight" : nil))
      func variable(_ name: String) throws -> Variable { try #require(variables.first { $0.name == name }) }
      let prefix = "decoder/layer_1/self_attention/"
      let (weight, scales) = try (variable(prefix + "linear_0/weight"), variable(prefix + "linear_0/weight_scale"))
      #expect(weight.type == 1 && scales.type == 0 && weight.dimensions[0] == scales.dimensions[0])
      let names =
        switch fixture {
        case .llama: ["q", "k", "v"].map { "model.layers.1.self_attn.\($0)_proj" }
        case .opt: ["q", "k", "v"].map { "model.decoder.layers.1.self_attn.\($0)_proj" }
        default: ["transformer.h.1.self_attention.query_key_value"]
        }
      var wanted: [Float] = []
      for name in names {
        let stored = try #require(packed.container[name + ".weight"])
        let (all, zeroPoints) = try (packed.container.scales(of: stored), packed.container.zeroPoints(of: stored))
        wanted += try packed.container.dequantized(
          stored, rowTiles: 0..<stored.layout.rowTileCount, scales: all, zeroPoints: zeroPoints)
      }
      let columns = weight.dimensions[1]
      for row in 0..<weight.dimensions[0] {
        // BLOOM's file has head after head, each with its three parts.
        let size = columns / 4
        let own = names.count > 1 ? row : (row / size % 4 * 3 + row / (4 * size)) * size + row % size
        let inverse = scales.bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: row * 4, as: Float.self) }
        for column in 0..<columns {
          let value = Float(Int8(bitPattern: weight.bytes[row * columns + column])) / inverse
          #expect(abs(value - wanted[own * columns + column]) <= 1e-6 * abs(value))
        }
      }
    }
  }

  private struct Variable {
    let name: String
    let dimensions: [Int]
    let type: UInt8
    let bytes: [UInt8]
  }

  private func read(_ file: [UInt8]) throws -> (variables: [Variable], aliases: [String: String]) {
    var place = 0
    func number(_ size: Int) -> Int {
      defer { place += size }
      return (0..<size).reduce(0) { $0 | Int(file[place + $1]) << (8 * $1) }
    }
    func text() -> String {
      let count = number(2)
      defer { place += count }
      #expect(file[place + count - 1] == 0)
      return String(decoding: file[place..<place + count - 1], as: UTF8.self)
    }
    #expect(number(4) == 6 && text() == "TransformerDecoderSpec" && number(4) == 8)
    let variables = (0..<number(4)).map { _ in
      let name = text()
      let dimensions = (0..<number(1)).map { _ in number(4) }
      let type = UInt8(number(1))
      let count = number(4)
      defer { place += count }
      return Variable(name: name, dimensions: dimensions, type: type, bytes: Array(file[place..<place + count]))
    }
    var aliases: [String: String] = [:]
    for _ in 0..<number(4) {
      let name = text()
      aliases[name] = text()
    }
    #expect(place == file.count)
    return (variables, aliases)
  }

  // MARK: Activations

  /// Static sites have a scale of 1, or what makes 8 bits of their 6; those found when the model runs are listed apart.
  @Test(arguments: [(8, Float(1)), (6, Float(31) / 127)])
  func staticScalesAreInTheParameters(_ bits: Int, _ scale: Float) throws {
    try withTemporaryFolder { folder in
      let plan = try ConversionPlan(
        checkpoint: Fixture.opt.checkpoint(),
        options: options { ($0.bits, $0.activationBits, $0.isSymmetric) = (bits, bits, bits == 8) },
        statistics: Fixture.opt.statistics())
      try Converter(plan).run(into: writer("compressed-tensors", folder + "/m", .f32, shardByteCount: 400_000))
      let found = try FileManager.default.contentsOfDirectory(atPath: folder + "/m")
      #expect(found.count { $0.hasSuffix(".safetensors") } > 1)
      var scales: [String: Float] = [:]
      for name in found where name.hasSuffix(".safetensors") {
        for view in try SafetensorsFile(mapping: MappedFile(path: folder + "/m/" + name)).tensors {
          if view.name.hasSuffix(".weight"), view.name.contains("fc") || view.name.contains("_proj") {
            #expect(view.elementType == .i8)
          }
          guard view.name.hasSuffix(".input_scale") else { continue }
          scales[view.name] = view.withRowBytes(0..<1) { $0.loadUnaligned(as: Float.self) }
        }
      }
      let graph = try #require(plan.graph)
      let isStatic = graph.sites.filter { site in
        if case .static? = graph.activations[site.producer] { true } else { false }
      }
      #expect(!isStatic.isEmpty && Set(scales.values) == [scale])
      #expect(Set(scales.keys) == Set(isStatic.flatMap { $0.consumers.map { $0 + ".input_scale" } }))
      let configuration = try JSONValue.parse(contentsOf: MappedFile(path: folder + "/m/config.json"))
      let groups = try #require(configuration["quantization_config"]?["config_groups"]?.object)
      #expect(groups.members.last?.value["targets"]?.array == [.string("Linear")])
      let strategies = groups.members.map { $0.value["input_activations"]?["strategy"]?.string }
      #expect(Set(strategies) == (isStatic.count < graph.sites.count ? ["tensor", "token"] : ["tensor"]))
    }
  }

  // MARK: Refusals

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
