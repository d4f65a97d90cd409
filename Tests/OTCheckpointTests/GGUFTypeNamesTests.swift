import OTCheckpoint
import OTFoundation
import Testing
import _OTTestSupport

/// Quantizations of llama.cpp that are not read, by the numbers that its files have for them.
@Suite struct GGUFTypeNamesTests {
  /// A file of one tensor, whose type is `code`: magic, version, counts, name, dimensions, type, place.
  private static func file(_ code: UInt32) -> [UInt8] {
    func bytes(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    let name = Array("token_embd.weight".utf8)
    let header = Array("GGUF".utf8) + bytes(UInt32(3)) + bytes(UInt64(1)) + bytes(UInt64(0))
    return header + bytes(UInt64(name.count)) + name + bytes(UInt32(2)) + bytes(UInt64(256)) + bytes(UInt64(1))
      + bytes(code) + bytes(UInt64(0)) + [UInt8](repeating: 0, count: 4096)
  }

  @Test(
    arguments: [
      (4, "Q4_2"), (5, "Q4_3"), (9, "Q8_1"), (15, "Q8_K"), (16, "IQ2_XXS"), (17, "IQ2_XS"), (18, "IQ3_XXS"),
      (19, "IQ1_S"), (21, "IQ3_S"), (22, "IQ2_S"), (29, "IQ1_M"), (31, "Q4_0_4_4"), (32, "Q4_0_4_8"), (33, "Q4_0_8_8"),
      (99, "99"),
    ] as [(UInt32, String)])
  func areNamed(_ code: UInt32, _ name: String) throws {
    try withTemporaryPath("model.gguf") { path in
      try write(Self.file(code), path)
      let refusal = try refusal { _ = try Checkpoint.open(path) }
      #expect(refusal?.rule == "gguf-tensor-type" && refusal?.tensor == "token_embd.weight")
      #expect(refusal?.message.contains("type \(name),") == true, "\(refusal.map(\.description) ?? "")")
    }
  }
}
