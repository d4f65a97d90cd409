import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTQ
import OTQuantization
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite struct ModelFileTests {
  private static let folder = Fixture.llama.folder

  @Test func checkpoint() throws {
    let file = try ModelFile(path: Self.folder)
    let metadata = try file.metadata()
    #expect(!file.isPacked && file.warnings.count == 1)
    #expect(metadata.name == "llama-mini" && metadata.family == "llama")
    #expect(metadata.vocabularySize == 2048 && metadata.contextLength == 256)
    #expect(metadata.weightBits.isEmpty && metadata.sources.isEmpty && metadata.producer == nil)
    // Embedding and head, four layers of q, o; k, v; gate, up, down; two norms, and the last norm.
    let layer = 2 * 128 * 128 + 2 * 64 * 128 + 3 * 384 * 128 + 2 * 128
    #expect(metadata.parameterCount == 2 * 2048 * 128 + 4 * layer + 128)
    let norm = try #require(file.tensor(named: "model.norm.weight"))
    #expect(norm.shape == [128] && norm.storage == .plain(type: "F16") && norm.byteCount == 256)
    // float16 read by hand from the checkpoint's reader.
    let view = try #require(try Checkpoint.open(Self.folder)["model.norm.weight"])
    let expected = view.withRowBytes(0..<128) { bytes in
      (0..<128).map { index in
        let bits = bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
        let fraction = Double(bits & 0x3FF) / 1024
        let exponent = Int(bits >> 10 & 31)
        let size = exponent == 0 ? fraction * pow(2, -14) : (1 + fraction) * pow(2, Double(exponent - 15))
        return Float(bits >> 15 == 1 ? -size : size)
      }
    }
    #expect(try norm.values() == expected)
    #expect(file.tensor(named: "nothing") == nil)
  }

  @Test func packed() throws {
    try withTemporaryFolder { temporary in
      let path = temporary + "/mini.otq"
      var options = ConversionOptions()
      options.bits = 6
      options.methods = [PerToken()]
      try convert(Checkpoint.open(Self.folder), options, to: path)
      let file = try ModelFile(path: path)
      let metadata = try file.metadata()
      #expect(file.isPacked && metadata.name == "mini.otq" && metadata.family == "llama")
      #expect(metadata.weightBits == [6, 8] && metadata.method == "per-token")
      #expect(metadata.byteCount == (try Data(contentsOf: URL(fileURLWithPath: path)).count))
      #expect(metadata.sources.contains { $0.name == "tokenizer.json" && $0.sha256.count == 64 })
      let source = try ModelFile(path: Self.folder)
      #expect(try metadata.parameterCount == source.metadata().parameterCount)
      let name = "model.layers.1.mlp.down_proj.weight"
      let weight = try #require(file.tensor(named: name))
      #expect(weight.bits == 6 && weight.shape == [128, 384])
      let (got, expected) = (try weight.values(), try #require(source.tensor(named: name)).values())
      let step = try #require(expected.map(abs).max()) * 2 / 63
      #expect(zip(got, expected).allSatisfy { abs($0 - $1) <= step / 2 * 1.001 })
      let loss = try #require(weight.sqnrDecibels)
      let noise = zip(got, expected).reduce(0.0) { $0 + pow(Double($1.0 - $1.1), 2) }
      let signal = expected.reduce(0.0) { $0 + Double($1) * Double($1) }
      #expect(abs(10 * log10(signal / noise) - loss) < 0.01)
    }
  }

  /// Opening a file does not read the bytes that are used in place.
  @Test func damageInPlaceIsFoundByVerifying() throws {
    try withTemporaryFolder { temporary in
      let path = temporary + "/mini.otq"
      var options = ConversionOptions()
      options.compression = .none
      try convert(Checkpoint.open(Self.folder), options, to: path)
      try ModelFile(path: path).verify(threadCount: 2)
      var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
      bytes[bytes.count / 2] ^= 1
      try bytes.write(to: URL(fileURLWithPath: path))
      let damaged = try ModelFile(path: path)
      _ = try LanguageModel(damaged, threadCount: 1)
      #expect { try damaged.verify(threadCount: 2) } throws: { ($0 as? Refusal)?.rule == "otq-checksum" }
    }
  }

  @Test func refusals() throws {
    #expect { try ModelFile(path: "/nowhere.otq") } throws: { ($0 as? Refusal)?.rule == "file-missing" }
    #expect { try LanguageModel(path: Fixtures.path("models/minilm-goldens/goldens.safetensors")) } throws: {
      ($0 as? Refusal)?.rule == "family-unknown"
    }
  }
}
