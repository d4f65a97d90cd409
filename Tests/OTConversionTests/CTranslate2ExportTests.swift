import OTConversion
import OTExport
import OTModel
import Testing
import _OTModelSupport
import _OTTestSupport

/// CTranslate2, read by the rules of its format.
@Suite struct CTranslate2ExportTests: FormatExportSuite {
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
}
