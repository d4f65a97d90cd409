import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTTensor
import OTVerify
import Testing
import _OTModelSupport
import _OTTestSupport

/// Checkpoints that are quantized already, against the values that other programs read of them
/// (scripts/make-quantized-goldens).
@Suite struct QuantizedSourceTests {
  static let names = Fixtures.names("quantized")
  /// Those of which all tensors are there.
  static let whole = ["bnb-nf4-double", "ct-nvfp4a16", "gptq-4-desc-act"]

  private func path(_ name: String) -> String { Fixtures.path("quantized/\(name)") }

  private func digest(_ view: TensorView, rowsAtATime: Int) throws -> String {
    var floats: [UInt8] = []
    for start in stride(from: 0, to: view.shape.rowCount, by: rowsAtATime) {
      let rows = start..<min(start + rowsAtATime, view.shape.rowCount)
      try TransformedRows(view: view).values(rows: rows).withUnsafeBytes { floats += $0 }
      view.release(rows)
    }
    return try SHA256Digest.hex(of: MappedFile(madeOf: floats, path: view.name))
  }

  @Test func allAreExpected() throws {
    #expect(try Set(Self.names) == Set(expected.keys))
  }

  private var expected: [String: JSONValue] {
    get throws {
      let file = try MappedFile(path: path("expected.json"))
      let object = try #require(try JSONValue.parse(contentsOf: file).object)
      return Dictionary(object.members.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    }
  }

  @Test(arguments: names) func weightsHaveTheValuesThatOthersRead(_ name: String) throws {
    let checkpoint = try Checkpoint.open(path(name))
    let weights = try #require(try expected[name]?.object)
    #expect(weights.count > 0 && checkpoint.quantization != nil)
    // Nothing is left of what they are made of.
    #expect(checkpoint.tensors.map(\.name).sorted() == weights.keys.sorted())
    for (tensor, entry) in weights.members {
      let view = try #require(checkpoint[tensor], "\(tensor)")
      #expect(entry["shape"]?.array?.compactMap(\.integer) == view.shape.dimensions)
      for rows in [7, view.shape.rowCount] {
        #expect(try digest(view, rowsAtATime: rows) == entry["sha256"]?.string, "\(name), \(tensor), \(rows) rows")
      }
    }
    #expect(checkpoint.warnings.contains { $0.contains("is quantized already") })
    let configuration = try #require(try checkpoint.attachments.json(.configuration))
    #expect(configuration["quantization_config"] == nil && configuration["quantization"] == nil)
  }

  /// Parts and transposes of what is decoded are those of its values.
  @Test func viewsOfDecodedWeights() throws {
    let view = try #require(try Checkpoint.open(path("gptq-3"))["model.layers.0.mlp.down_proj.weight"])
    let (rowCount, columnCount) = (view.shape.rowCount, view.shape.rowElementCount)
    let values = try TransformedRows(view: view).values(rows: 0..<rowCount)
    let part = try #require(view.rows(5..<20))
    #expect(try TransformedRows(view: part).values(rows: 2..<15) == Array(values[7 * columnCount..<20 * columnCount]))
    let transposed = try #require(part.transposed())
    let columns = try TransformedRows(view: transposed).values(rows: 3..<5)
    #expect(columns == (3..<5).flatMap { column in (5..<20).map { values[$0 * columnCount + column] } })
    let again = try #require(transposed.transposed())
    #expect(try TransformedRows(view: again).values(rows: 0..<15) == Array(values[5 * columnCount..<20 * columnCount]))
    #expect(!view.isContiguous && !view.sharesElements(with: view))
  }

  @Test(arguments: whole) func modelsAreConvertedVerifiedAndUnpacked(_ name: String) throws {
    try withTemporaryFolder { folder in
      let checkpoint = try Checkpoint.open(path(name))
      let packed = try convert(checkpoint, to: folder + "/m.otq")
      #expect(packed.container.metadata["sourceQuantization"]?.string == checkpoint.quantization)
      #expect(packed.graph?.family == "llama")
      let configuration = try Model.packed(packed).json(.configuration)
      #expect(configuration?["model_type"] != nil && configuration?["quantization_config"] == nil)
      let verification = try WeightVerification(of: packed, reference: SourceModel(path: path(name)))
      #expect(verification.hasPassed, "\(verification.offenders)")
      try unpack(packed, to: folder + "/unpacked.safetensors")
      let unpacked = try Checkpoint.open(folder + "/unpacked.safetensors")
      #expect(unpacked.tensors.map(\.name).sorted() == checkpoint.tensors.map(\.name).sorted())
      // The digest of the sources is of the files, not of what is made of them.
      let sources = packed.container.metadata["sources"]?.array ?? []
      let record = sources.first { $0["name"]?.string == "config.json" }
      #expect(try record?["sha256"]?.string == SHA256Digest.hex(of: MappedFile(path: path(name) + "/config.json")))
    }
  }

  // MARK: Refusals

  /// A checkpoint like a fixture's, with changes.
  private func refusal(
    _ name: String, _ configure: (inout JSONObject) -> Void = { _ in }, _ change: (inout CheckpointBuilder) -> Void
  ) throws -> String? {
    let source = try SafetensorsFile(mapping: MappedFile(path: path(name) + "/model.safetensors"))
    var builder = CheckpointBuilder()
    for view in source.tensors {
      let bytes = view.withRowBytes(0..<view.shape.rowCount) { Array($0) }
      builder.tensors.append((view.name, view.elementType, view.shape.dimensions, bytes))
    }
    change(&builder)
    var object = try #require(try JSONValue.parse(contentsOf: MappedFile(path: path(name) + "/config.json")).object)
    var statement = try #require(object["quantization_config"]?.object)
    configure(&statement)
    object["quantization_config"] = .object(statement)
    return try withTemporaryFolder { folder in
      try Data(JSONValue.object(object).text().utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
      do {
        _ = try builder.write(to: folder + "/model.safetensors")
        return nil
      } catch let refusal as Refusal {
        return refusal.rule
      }
    }
  }

  /// The fixture, the part of a name, the rule that its lack breaks, and that of another shape.
  @Test(
    arguments: [
      ("gptq-4-sym", "qweight", "quantized-part-missing", "quantized-shape"),
      ("gptq-4-sym", "qzeros", "quantized-part-missing", "quantized-shape"),
      ("gptq-3", "scales", "quantized-part-missing", "quantized-shape"), ("gptq-3", "g_idx", nil, "quantized-shape"),
      ("awq-4", "qweight", "quantized-part-missing", "quantized-shape"),
      ("awq-4", "qzeros", "quantized-part-missing", "quantized-shape"),
      ("awq-4", "scales", "quantized-part-missing", "quantized-shape"),
      ("ct-fp8-block", "weight_scale", "quantized-part-missing", "quantized-shape"),
      ("ct-mxfp4", "weight_scale", "quantized-part-missing", "quantized-shape"),
      ("ct-nvfp4a16", "weight_global_scale", "quantized-part-type", "quantized-shape"),
      ("ct-w3a16", "weight_shape", "quantized-part-missing", "quantized-shape"),
      ("ct-w3a16", "weight_packed", "quantized-part-missing", "quantized-shape"),
      ("ct-w3a16-asym", "weight_zero_point", nil, "quantized-shape"),
      ("ct-w8a8-asym", "weight_zero_point", nil, "quantized-shape"),
      ("fp8-block-deepseek", "weight_scale_inv", "quantized-part-missing", "quantized-shape"),
      ("fp8-tensor-static", "weight_scale", "quantized-part-missing", "quantized-shape"),
      ("bnb-int8", "SCB", "quantized-part-missing", "quantized-shape"),
      ("bnb-nf4", "weight.absmax", "quantized-part-missing", "quantized-shape"),
      ("bnb-nf4", "weight.quant_map", "quantized-part-missing", "quantized-shape"),
      ("bnb-nf4", "weight.quant_state.bitsandbytes__nf4", "quantized-part-missing", nil),
      ("bnb-fp4", "weight.absmax", "quantized-part-missing", "quantized-shape"),
      ("bnb-fp4", "weight.quant_map", "quantized-part-missing", "quantized-shape"),
      ("bnb-fp4", "weight.quant_state.bitsandbytes__fp4", "quantized-part-missing", nil),
      ("bnb-fp4-double", "weight.nested_absmax", "quantized-part-missing", "quantized-shape"),
      ("bnb-nf4-double", "weight.nested_absmax", "quantized-part-missing", "quantized-shape"),
      ("bnb-nf4-double", "weight.nested_quant_map", "quantized-part-missing", "quantized-shape"),
    ] as [(String, String, String?, String?)])
  func partsThatAreMissingOrMisshapen(_ name: String, _ part: String, _ missing: String?, _ misshapen: String?) throws {
    #expect(try refusal(name) { $0.tensors.removeAll { $0.name.hasSuffix("down_proj.\(part)") } } == missing)
    let found = try refusal(name) { builder in
      for index in builder.tensors.indices where builder.tensors[index].name.hasSuffix("down_proj.\(part)") {
        let size = builder.tensors[index].bytes.count / max(builder.tensors[index].dimensions.reduce(1, *), 1)
        // A shape that nothing has.
        builder.tensors[index].dimensions = [3, 1, 1]
        builder.tensors[index].bytes = [UInt8](repeating: 1, count: 3 * size)
      }
    }
    if let misshapen { #expect(found == misshapen) }
  }

  @Test(arguments: [Int32(10), -1, .max, .min]) func groupsOutOfRange(_ group: Int32) throws {
    let found = try refusal("gptq-4-desc-act") { builder in
      for index in builder.tensors.indices where builder.tensors[index].name.hasSuffix("down_proj.g_idx") {
        withUnsafeBytes(of: group.littleEndian) { builder.tensors[index].bytes.replaceSubrange(8..<12, with: $0) }
      }
    }
    #expect(found == "quantized-group")
  }

  @Test func whatMakesNoSense() throws {
    // A zero point of 0 that wrapped around when 1 was taken from it.
    let wrapped = try refusal("gptq-4-asym") { builder in
      for index in builder.tensors.indices where builder.tensors[index].name.hasSuffix("down_proj.qzeros") {
        builder.tensors[index].bytes[5] |= 0xF0
      }
    }
    #expect(wrapped == "quantized-zero-point")
    let noDivisor = try refusal("ct-nvfp4a16") { builder in
      let part = "down_proj.weight_global_scale"
      for index in builder.tensors.indices where builder.tensors[index].name.hasSuffix(part) {
        builder.tensors[index].bytes = [0, 0, 0, 0]
      }
    }
    #expect(noDivisor == "quantized-scale")
    let layout = try refusal("bnb-int8") { builder in
      for index in builder.tensors.indices where builder.tensors[index].name.hasSuffix("down_proj.weight_format") {
        builder.tensors[index].bytes = [1]
      }
    }
    #expect(layout == "quantized-layout")
    for text in [
      #"{"blocksize": 0, "shape": [128, 320]}"#, #"{"blocksize": 64, "shape": [128]}"#,
      #"{"blocksize": 64, "shape": [128, -320]}"#, #"{"shape": [128, 320]}"#,
    ] {
      let state = try refusal("bnb-nf4") { builder in
        let part = "down_proj.weight.quant_state.bitsandbytes__nf4"
        for index in builder.tensors.indices where builder.tensors[index].name.hasSuffix(part) {
          builder.tensors[index].bytes = Array(text.utf8)
          builder.tensors[index].dimensions = [text.utf8.count]
        }
      }
      #expect(state == "quantized-statement", "\(text)")
    }
    // The bits of the configuration are not those of the words.
    #expect(try refusal("gptq-4-sym", { $0["bits"] = .integer(8) }) { _ in } == "quantized-shape")
    #expect(try refusal("gptq-4-sym", { $0["bits"] = nil }) { _ in } == "quantized-statement")
    let block = try refusal("fp8-block-deepseek", { $0["weight_block_size"] = .array([.integer(0)]) }) { _ in }
    #expect(block == "quantized-statement")
    #expect(try refusal("awq-4", { $0["group_size"] = .integer(64) }) { _ in } == "quantized-group")
  }

  /// Variants of a known scheme that are not read.
  @Test(arguments: [
    ("gptq-4-sym", "checkpoint_format", #""marlin""#), ("gptq-4-sym", "bits", "5"), ("awq-4", "version", #""gemv""#),
    ("awq-4", "bits", "8"), ("ct-w4a16", "format", #""marlin-24""#),
    ("ct-w4a16", "sparsity_config", #"{"format": "sparse-24-bitmask"}"#),
    ("ct-w4a16", "transform_config", #"{"config_groups": {"R1": {}}}"#), ("fp8-tensor-static", "fmt", #""e5m2""#),
    ("bnb-nf4", "bnb_4bit_quant_type", #""int4""#),
  ])
  func variantsAreRefused(_ name: String, _ key: String, _ value: String) throws {
    let json = try #require(
      try Array("[\(value)]".utf8).withUnsafeBytes { try JSONValue.parse($0, limits: .configuration, file: "t") }.array?
        .first)
    #expect(try refusal(name, { $0[key] = json }) { _ in } == "quantized-unsupported")
  }

  /// A scheme that is not known stays as it is, and is named by who needs floats.
  @Test func unknownSchemesAreNamed() throws {
    let name = "gptq-4-desc-act"
    let text = try String(contentsOfFile: path(name) + "/config.json", encoding: .utf8)
      .replacingOccurrences(of: #""gptq""#, with: #""quip""#)
    try withTemporaryFolder { folder in
      try FileManager.default.createSymbolicLink(
        atPath: folder + "/model.safetensors", withDestinationPath: path(name) + "/model.safetensors")
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
      let model = try SourceModel(path: folder)
      #expect(model.checkpoint.quantization == nil)
      let refusal = #expect(throws: Refusal.self) { try model.graph() }
      #expect(refusal?.rule == "family-quantized" && refusal?.message.contains("QuIP#") == true)
    }
  }
}
