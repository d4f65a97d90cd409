import Foundation
import OTCheckpoint
import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTJSON
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// compressed-tensors against files of its own library and of llm-compressor.
@Suite struct CompressedTensorsExportTests: FormatExportSuite {
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
}
