import Foundation
import OTQ
import Testing
import _OTTestSupport

/// Files that earlier versions of the program wrote, with what they computed from them then.
@Suite struct PreviousVersionsTests {
  struct File: Sendable, CustomStringConvertible {
    let version: String
    let family: String
    /// Bits of the weights of the blocks' linears, of embeddings and of the head.
    let weightBits: [Int]

    var description: String { "\(version)/\(family)" }
    var path: String { Fixtures.path("previous-versions/\(version)/\(family).otq") }
    var expected: String { Fixtures.path("previous-versions/\(version)/\(family).expected.safetensors") }
  }

  static let files = [
    File(version: "1.0", family: "opt", weightBits: [6, 8]),
    File(version: "1.0", family: "bloom", weightBits: [6, 8]),
    File(version: "1.0", family: "llama", weightBits: [6, 8]),
    File(version: "1.0", family: "bert", weightBits: [6]),
  ]
  /// Its tokens are `text_ids`, by the `tokenizers` library.
  private static let text = "In the beginning God created the heaven and the earth."

  /// No list of files can forget one that is there.
  @Test func everyFileIsTested() throws {
    let folder = Fixtures.path("previous-versions")
    let names = try FileManager.default.subpathsOfDirectory(atPath: folder).filter { $0.hasSuffix(".otq") }
    #expect(names.sorted() == Self.files.map { "\($0.version)/\($0.family).otq" }.sorted())
  }

  @Test(arguments: files) func opens(_ previous: File) throws {
    let file = try ModelFile(path: previous.path)
    try file.verify(threadCount: 2)
    let metadata = try file.metadata()
    #expect(metadata.family == previous.family)
    #expect(metadata.weightBits == previous.weightBits)
  }

  /// Bit for bit: products are of integers, and the float arithmetic between them has one order of
  /// operations on every machine. (LLaMA's rotary tables take `cosf` and `sinf` from the C library;
  /// one that rounds them otherwise would move its logits a little. The head of the BERT is stored as
  /// floats and multiplied by the BLAS, whose sums have the order that suits the machine.)
  @Test(arguments: files) func givesTheSameLogits(_ previous: File) throws {
    let expected = try Goldens(path: previous.expected)
    let ids = try expected.integers("input_ids")
    let logits = try expected.floats("logits")
    #expect(ids.count == 32 && logits.count == 32 * 2048)
    let model = try LanguageModel(path: previous.path, threadCount: 2)
    for sequence in 0..<2 {
      let values = try model.logits(for: Array(ids[16 * sequence..<16 * (sequence + 1)])).values
      let before = Array(logits[16 * 2048 * sequence..<16 * 2048 * (sequence + 1)])
      guard previous.family != "bert" else {
        #expect(zip(values, before).allSatisfy { abs($0 - $1) <= 1e-5 }, "sequence \(sequence)")
        continue
      }
      let isEqual = values == before
      #expect(isEqual, "sequence \(sequence)")
    }
  }

  @Test(arguments: files) func readsText(_ previous: File) throws {
    let expected = try Goldens(path: previous.expected)
    let model = try LanguageModel(path: previous.path, threadCount: 2)
    #expect(try model.encode(Self.text) == expected.integers("text_ids"))
    guard !model.isCausal else { return }
    #expect(try model.embed(Self.text) == expected.floats("embedding"))
  }
}
