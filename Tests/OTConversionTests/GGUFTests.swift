import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTRuntime
import OTTensor
import OTTokenizer
import OTVerify
import Testing
import _OTCSupport
import _OTModelSupport
import _OTTestSupport

/// Files of llama.cpp's format, against what ggml, the official converter and `transformers` say of them
/// (scripts/make-gguf-goldens).
@Suite struct GGUFTests {
  static let models = [
    "bert", "chatglm", "cohere2", "command-r", "deepseek2", "deepseek3", "exaone4", "exaone4-full", "falcon",
    "falcon-new", "gemma", "gemma2", "gemma3", "glm4", "gpt-oss", "gpt2", "gptneox", "granite", "llama", "llama-yarn",
    "llama3",
    "mistral3", "mixtral", "mpt", "nemotron", "nomic-bert", "olmo", "olmo2", "phi2", "phi3", "phi3-longrope", "qwen2",
    "qwen2moe",
    "qwen3", "qwen3moe", "qwen3moe-q8", "smollm3", "stablelm", "stablelm-parallel", "starcoder", "starcoder2",
  ]
  static let files = ["bloom-mini-q4_0.gguf", "llama-wide-q2_k.gguf"]

  private func path(_ name: String) -> String { Fixtures.path("gguf/\(name)") }

  private func floats(_ view: TensorView) throws -> [Float] {
    try TransformedRows(view: view).values(rows: 0..<view.shape.rowCount)
  }

  // MARK: Values

  @Test func everyTypeHasTheValuesOfGGML() throws {
    let file = try GGUFFile(MappedFile(path: path("types.gguf")))
    let goldens = try Goldens(path: path("types.expected.safetensors"))
    #expect(Set(file.tensors.map { "\($0.type)" }).count == 19)
    for tensor in file.tensors {
      let view = file.view(of: tensor, named: tensor.name)
      #expect(goldens.dimensions(tensor.name) == view.shape.dimensions)
      let wanted = try goldens.floats(tensor.name)
      #expect(try floats(view).map(\.bitPattern) == wanted.map(\.bitPattern), "\(tensor.type)")
      // Rows alone are those of the whole.
      let part = try TransformedRows(view: view).values(rows: 1..<3)
      #expect(part == Array(wanted[view.shape.rowElementCount..<3 * view.shape.rowElementCount]), "\(tensor.type)")
    }
  }

  /// ggml gives numbers also where the standards of these scales have NaN, and zero no sign (`ggml_e8m0_to_fp32_half`,
  /// `ggml_ue4m3_to_fp32`); the values are worked out by hand.
  @Test func scalesAtTheirEndsAreThoseOfGGML() throws {
    func row(_ type: UInt32, _ block: [UInt8], columns: UInt64) throws -> [Float] {
      var file = GGUFBuilder()
      file.addLlama()
      file.tensors = [("blk.0.attn_q.weight", [columns, 1], type)]
      var bytes = file.bytes()
      let start = bytes.count - Int(columns) * 4
      bytes.replaceSubrange(start..<start + block.count, with: block)
      let read = try GGUFFile(MappedFile(madeOf: bytes, path: "a.gguf"))
      return try floats(read.view(of: #require(read.tensors.first), named: "w"))
    }
    let fours = [UInt8](repeating: 0x98, count: 16)
    let huge = try row(39, [255] + fours, columns: 32)
    #expect(huge[0].bitPattern == 0 && huge[16] == -0x1p127)
    #expect(try row(39, [0] + [UInt8](repeating: 0x21, count: 16), columns: 32)[16] == 0x1p-127)
    let mixed = try row(40, [0x7F, 0xFF, 0x80, 0x38] + [UInt8](repeating: 0x18, count: 32), columns: 64)
    #expect(mixed[0].bitPattern == 0 && mixed[8] == 0 && mixed[24] == 240 && mixed[40] == 0 && mixed[56] == 0.5)
  }

  @Test(arguments: files) func tensorsAreThoseOfTheOriginal(_ name: String) throws {
    let checkpoint = try Checkpoint.open(path(name))
    let json = try JSONValue.parse(contentsOf: MappedFile(path: path("expected.json")))
    let expected = try #require(json[name]?.object)
    #expect(checkpoint.tensors.map(\.name).sorted() == expected.keys.sorted())
    for tensor in checkpoint.tensors {
      let digest = try floats(tensor).withUnsafeBytes {
        try SHA256Digest.hex(of: MappedFile(madeOf: Array($0), path: tensor.name))
      }
      #expect(digest == expected[tensor.name]?.string, "\(tensor.name)")
    }
    #expect(checkpoint.quantization?.hasPrefix("GGUF, ") == true && checkpoint.format == .gguf)
  }

  // MARK: Models

  @Test func allModelsAreTested() throws {
    let found = try FileManager.default.contentsOfDirectory(atPath: path("models")).filter { $0.hasSuffix(".gguf") }
    #expect(found.map { String($0.dropLast(5)) }.sorted() == Self.models)
  }

  @Test(arguments: models) func outputsAreThoseOfTransformers(_ name: String) throws {
    let model = try SourceModel(path: path("models/\(name).gguf"))
    let warnings = try model.warnings()
    #expect(warnings.isEmpty, "\(warnings)")
    #expect(model.checkpoint.quantization == (name == "qwen3moe-q8" ? "GGUF, Q8_0" : nil))
    let goldens = try Goldens(path: path("models/\(name).safetensors"))
    let executor = try FloatExecutor(graph: model.graph(), parameters: model.parameters, threadCount: 2)
    for row in 0..<2 {
      let output = try executor.run(tokenIDs: goldens.integers("input_ids", row: row))
      let found = try output.output(name.hasSuffix("bert") ? "hidden" : "logits").values
      let error = relativeError(found, try goldens.floats("values", row: row))
      #expect(error < 3e-6, "\(name): \(error)")
    }
  }

  /// Experts are packed one by one, and what the graph reads of stacks and halves is unpacked as the original has it.
  @Test(arguments: ["mixtral", "qwen2moe", "deepseek2", "deepseek3", "gpt-oss", "falcon-new", "chatglm", "stablelm"])
  func otherFormsAreConvertedAndVerified(_ name: String) throws {
    try withTemporaryFolder { folder in
      let source = try SourceModel(path: path("models/\(name).gguf"))
      let packed = try convert(source.checkpoint, to: folder + "/m.otq")
      let verification = try WeightVerification(of: packed, reference: source)
      #expect(verification.hasPassed, "\(verification.offenders)")
      let experts = packed.container.tensors.filter { $0.name.contains(".experts.") }
      #expect(experts.isEmpty == ["falcon-new", "chatglm", "stablelm"].contains(name))
      #expect(experts.allSatisfy { $0.name.hasSuffix("bias") || ($0.shape.rank == 2 && $0.scheme != nil) })
      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      #expect(unpacked.tensors.map(\.name).sorted() == source.checkpoint.tensors.map(\.name).sorted())
    }
  }

  /// Keys of latent attention without values, or of another rank.
  @Test func partsOfLatentAttentionBelongTogether() throws {
    func latent(_ tensors: [(String, [UInt64])]) throws -> String? {
      var file = GGUFBuilder()
      file.add("general.architecture", .text("deepseek2"))
      file.tensors = tensors.map { ($0.0, $0.1, 0) }
      return try rule(file.bytes())
    }
    let keys = ("blk.0.attn_k_b.weight", [4, 6, 2] as [UInt64])
    #expect(try latent([keys]) == "gguf-shape")
    #expect(try latent([keys, ("blk.0.attn_v_b.weight", [5, 3, 2])]) == "gguf-shape")
    #expect(try latent([keys, ("blk.0.attn_v_b.weight", [6, 3, 1])]) == "gguf-shape")
    #expect(try latent([("blk.0.attn_k_b.weight", [4, 6])]) == "gguf-shape")
    #expect(try latent([keys, ("blk.0.attn_v_b.weight", [6, 3, 2])]) != "gguf-shape")
  }

  /// Experts that an older file has one by one are those of a stack.
  @Test func expertsOneByOneHaveTheSameNames() throws {
    func names(_ tensors: [(String, [UInt64])]) throws -> [String] {
      try withTemporaryFolder { folder in
        var file = GGUFBuilder()
        file.addLlama()
        file.add("llama.expert_count", .int(2))
        file.add("llama.expert_used_count", .int(1))
        file.tensors = tensors.map { ($0.0, $0.1, 0) }
        try Data(file.bytes()).write(to: URL(fileURLWithPath: folder + "/m.gguf"))
        return try Checkpoint.open(folder + "/m.gguf").tensors.map(\.name)
      }
    }
    let wanted = (0..<2).map { "model.layers.0.block_sparse_moe.experts.\($0).w2.weight" }
    #expect(try names([("blk.0.ffn_down_exps.weight", [8, 4, 2])]) == wanted)
    #expect(try names([("blk.0.ffn_down.0.weight", [8, 4]), ("blk.0.ffn_down.1.weight", [8, 4])]) == wanted)
  }

  /// The pooling that the file states is that of the module that would lie beside it.
  @Test func poolingIsThatOfTheFile() throws {
    let checkpoint = try Checkpoint.open(path("models/bert.gguf"))
    #expect(try checkpoint.attachments.json(.pooling)?["pooling_mode_cls_token"]?.bool == true)
  }

  /// A whole model: opened by file and by folder, converted, verified, with the tokenizer that it had.
  @Test func aModelIsConvertedAndVerified() throws {
    try withTemporaryFolder { folder in
      let file = folder + "/model.gguf"
      try FileManager.default.createSymbolicLink(atPath: file, withDestinationPath: path("bloom-mini-q4_0.gguf"))
      let checkpoint = try Checkpoint.open(folder)
      let packed = try convert(checkpoint, to: folder + "/m.otq")
      #expect(packed.container.metadata["sourceFormat"]?.string == "gguf")
      #expect(packed.container.metadata["sourceQuantization"]?.string == "GGUF, Q4_0, Q8_0")
      let verification = try WeightVerification(of: packed, reference: SourceModel(path: file))
      #expect(verification.hasPassed, "\(verification.offenders)")
      let tokenizer = try #require(try Model.packed(packed).tokenizer())
      let original = try #require(try Model.source(Fixture.bloom.source()).tokenizer())
      for text in ["In the beginning God created the heaven and the earth.", "  two spaces\n\nlines 1234 é 漢字 🙂"] {
        #expect(try tokenizer.encode(text, addSpecialTokens: true) == original.encode(text, addSpecialTokens: true))
      }
    }
  }

  @Test(arguments: [
    ("llama3", "llama3", true), ("qwen2", "qwen2", true), ("bloom", "bloom", true), ("o200k", "o200k", true),
    ("llama-legacy", "folders/llama-legacy", false), ("spm-bpe", "folders/spm-bpe", false),
    ("bert", "folders/bert", false),
  ])
  func tokenizersAreThoseThatWerePutIn(_ name: String, _ original: String, _ isFile: Bool) throws {
    let source = Fixtures.path("tokenizers/\(original)")
    let found = try #require(try Model.source(SourceModel(path: path("tokenizers/\(name).gguf"))).tokenizer())
    let wanted: Tokenizer? =
      isFile
      ? try Tokenizer(path: source + ".json")
      : try TokenizerFiles(
        json: { name in
          let path = "\(source)/\(name)"
          guard FileManager.default.fileExists(atPath: path) else { return nil }
          return try JSONValue.parse(contentsOf: MappedFile(path: path))
        }, bytes: { try? Array(Data(contentsOf: URL(fileURLWithPath: "\(source)/\($0)"))) }, path: { $0 }
      ).tokenizer()
    let tokenizer = try #require(wanted)
    let texts = try JSONValue.parse(contentsOf: MappedFile(path: Fixtures.path("tokenizers/texts.json"))).array ?? []
    #expect(texts.count >= 400)
    // A file has SentencePiece's own way with marks of spaces; the class of LLaMA puts none before one that is there,
    // and none behind a special token.
    func isAlike(_ text: String) -> Bool {
      guard name == "llama-legacy" else { return true }
      return !text.contains("<") && text.unicodeScalars.first.map { !" ▁".unicodeScalars.contains($0) } ?? true
    }
    for text in texts.compactMap(\.string).filter(isAlike) {
      for special in [false, true] {
        let ids = try found.encode(text, addSpecialTokens: special)
        let wanted = try tokenizer.encode(text, addSpecialTokens: special)
        #expect(ids == wanted, Comment(rawValue: Refusal.printable(text)))
        #expect(found.decode(ids, skipSpecialTokens: true) == tokenizer.decode(ids, skipSpecialTokens: true))
      }
    }
  }

  /// Ways to split texts that no tokenizer of the fixtures has, against `tokenizers`.
  @Test(arguments: ["deepseek-v3", "exaone4", "glm4"]) func textsAreSplitAsTheFileSays(_ name: String) throws {
    let tokenizer = try #require(
      try Model.source(SourceModel(path: path("tokenizers/\(name).gguf"))).tokenizer())
    let texts = try JSONValue.parse(contentsOf: MappedFile(path: Fixtures.path("tokenizers/texts.json"))).array ?? []
    let all = try JSONValue.parse(contentsOf: MappedFile(path: path("tokenizers/splits.json")))
    let expected = all[name]?.array ?? []
    #expect(expected.count == texts.count && texts.count >= 400)
    for (text, ids) in zip(texts.compactMap(\.string), expected) {
      let found = try tokenizer.encode(text, addSpecialTokens: false)
      #expect(found == ids.array?.compactMap(\.integer), Comment(rawValue: Refusal.printable(text)))
    }
  }

  // MARK: Sets

  /// Splits a file as llama-gguf-split does: the keys in the first part.
  @Test func setsAreReadFromTheirFirstFile() throws {
    try withTemporaryFolder { folder in
      for (index, tensors) in [["token_embd.weight"], ["output_norm.weight"], ["output.weight"]].enumerated() {
        var file = GGUFBuilder()
        file.add("split.no", .half(UInt16(index)))
        file.add("split.count", .half(3))
        file.add("split.tensors.count", .int(3))
        if index == 0 { file.addLlama() }
        for name in tensors { file.tensors.append((name, name.contains("norm") ? [4] : [4, 6], 0)) }
        try Data(file.bytes()).write(to: URL(fileURLWithPath: "\(folder)/m-0000\(index + 1)-of-00003.gguf"))
      }
      for path in [folder, folder + "/m-00001-of-00003.gguf"] {
        let checkpoint = try Checkpoint.open(path)
        #expect(checkpoint.tensors.map(\.name) == ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"])
        #expect(checkpoint.files.count == 3)
      }
      func rule(_ path: String) -> String? {
        do { _ = try Checkpoint.open(path) } catch { return (error as? Refusal)?.rule }
        return nil
      }
      #expect(rule(folder + "/m-00002-of-00003.gguf") == "gguf-split")
      try FileManager.default.removeItem(atPath: folder + "/m-00003-of-00003.gguf")
      #expect(rule(folder + "/m-00001-of-00003.gguf") == "gguf-split")
      #expect(rule(folder) == "directory-incomplete-set")
    }
  }

  // MARK: Refusals

  private func rule(_ bytes: [UInt8]) throws -> String? {
    try withTemporaryFolder { folder in
      try Data(bytes).write(to: URL(fileURLWithPath: folder + "/m.gguf"))
      do {
        _ = try SourceModel(path: folder + "/m.gguf").graph()
        return nil
      } catch let refusal as Refusal {
        #expect(CInterface.rule(refusing: folder + "/m.gguf") == refusal.rule)
        return refusal.rule
      }
    }
  }

  private func rule(_ change: (inout GGUFBuilder) -> Void) throws -> String? {
    var file = GGUFBuilder()
    file.addLlama()
    change(&file)
    return try rule(file.bytes())
  }

  @Test func theHeaderObeysItsRules() throws {
    #expect(try rule { $0.version = 1 } == "gguf-version")
    #expect(try rule { $0.version = 0x300_0000 } == "gguf-version")
    #expect(try rule { $0.tensorCount = 1_000_001 } == "gguf-count")
    #expect(try rule { $0.tensorCount = .max } == "gguf-truncated")
    #expect(try rule { $0.keyCount = 65_537 } == "gguf-count")
    #expect(try rule { $0.keyCount = 60 } != nil)
    #expect(try rule { $0.add("llama.block_count", .int(1)) } == "gguf-key-twice")
    #expect(try rule { $0.add("x", .type(13)) } == "gguf-type")
    #expect(try rule { $0.add("x", .list(9, [])) } == "gguf-type")
    #expect(try rule { $0.add("x", .claimedList(4, 1 << 40)) } == "gguf-list")
    #expect(try rule { $0.add("x", .claimedList(4, 1 << 20)) } == "gguf-truncated")
    #expect(try rule { $0.add("x", .flag(2)) } == "gguf-bool")
    #expect(try rule { $0.add("x", .long(.max)) } == "gguf-integer")
    #expect(try rule { $0.add("x\u{1}", .int(1)) } == "gguf-name")
    #expect(try rule { $0.add("general.alignment", .int(24)) } == "gguf-alignment")
    #expect(try rule { $0.add("general.alignment", .int(0)) } == "gguf-alignment")
    #expect(try rule { $0.add("general.type", .text("adapter")) } == "gguf-not-model")
    let whole = GGUFBuilder.tiny.bytes()
    // Cut anywhere before the padding behind the last tensor, it is refused, and never read beyond its end.
    for count in stride(from: 4, to: whole.count - 16, by: 7) {
      let rule = try rule(Array(whole.prefix(count)))
      #expect(rule == "gguf-truncated" || rule == "gguf-data-past-end", "\(count) bytes")
    }
  }

  @Test func tensorsObeyTheirRules() throws {
    func tensor(_ dimensions: [UInt64], _ type: UInt32 = 0, name: String = "token_embd.weight") throws -> String? {
      try rule { $0.tensors.append((name, dimensions, type)) }
    }
    #expect(try tensor([1, 1, 1, 1, 1]) == "gguf-rank")
    #expect(try tensor([0, 4]) == "gguf-shape")
    #expect(try tensor([1 << 40, 1 << 40]) == "gguf-shape")
    #expect(try tensor([16, 2], 2) == "gguf-shape")
    #expect(try tensor([32], 2) == "gguf-shape")
    #expect(try tensor([32, 2], 16) == "gguf-tensor-type")
    #expect(try tensor([32, 2], 999) == "gguf-tensor-type")
    #expect(try tensor([4, 6], name: "blk.0.ssm_in.weight") == "gguf-tensor")
    #expect(try tensor([4, 6], name: "blk.x.attn_q.weight") == "gguf-tensor")
    #expect(try tensor([4, 6], name: "blk.0.attn_q.scale") == "gguf-tensor")
    #expect(try tensor([4, 3], name: "blk.0.attn_q.weight") == "gguf-shape")
    #expect(
      try rule { file in
        file.tensors = [("token_embd.weight", [4, 6], 0), ("token_embd.weight", [4, 6], 0)]
      } == "gguf-tensor-twice")
    #expect(
      try rule { file in
        file.tensors = [("token_embd.weight", [4, 6], 0)]
        file.offset = 8
      } == "gguf-offset")
    #expect(
      try rule { file in
        file.tensors = [("token_embd.weight", [4, 6], 0), ("output_norm.weight", [4], 0)]
        file.offsets = [0, 64]
      } == "gguf-overlap")
    #expect(
      try rule { file in
        file.tensors = [("token_embd.weight", [4, 6], 0)]
        file.offset = 1 << 62
      } == "gguf-data-past-end")
  }

  /// What could be another model is refused by its key.
  @Test func keysThatChangeTheModel() throws {
    #expect(try rule { $0.add("llama.attention.clamp_kqv", .float(8)) } == "gguf-key")
    // Of a Mixtral, which has other tensors and needs the count of a token's.
    #expect(try rule { $0.add("llama.expert_count", .int(8)) }?.hasPrefix("family-") == true)
    var dense = GGUFBuilder()
    dense.add("general.architecture", .text("qwen2"))
    dense.add("qwen2.expert_count", .int(8))
    #expect(try rule(dense.bytes()) == "gguf-key")
    #expect(try rule { $0.add("llama.attention.causal", .flag(0)) } == "gguf-key")
    #expect(try rule { $0.add("llama.rope.scaling.type", .text("su")) } == "gguf-key")
    #expect(try rule { $0.add("llama.rope.dimension_count", .int(1)) } == "gguf-key")
    #expect(try rule { $0.add("llama.vocab_size", .int(6)) } != "gguf-key")
    var other = GGUFBuilder()
    other.add("general.architecture", .text("mamba"))
    #expect(try rule(other.bytes()) == "gguf-architecture")
    #expect(try rule(GGUFBuilder().bytes()) == "gguf-key")
    let withoutScores = try rule { file in
      file.add("tokenizer.ggml.tokens", .list(8, ["a", "b"]))
      file.add("tokenizer.ggml.model", .text("llama"))
    }
    #expect(withoutScores == "gguf-tokenizer")
    // The vocabulary becomes members of tokenizer.json, which json-c ends at NUL.
    let nul = try rule { file in
      file.add("tokenizer.ggml.tokens", .list(8, ["a", "b\0c"]))
      file.add("tokenizer.ggml.merges", .list(8, ["a b"]))
      file.add("tokenizer.ggml.model", .text("gpt2"))
      file.add("tokenizer.ggml.pre", .text("gpt-2"))
    }
    #expect(nul == "gguf-tokenizer")
  }
}
