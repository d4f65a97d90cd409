import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTModel
import Testing
import _OTModelSupport
import _OTTestSupport

/// The files beside a checkpoint, which are packed with it.
@Suite struct SidecarTests {
  /// Without calibration nothing of them is read but config.json: what could not be used later is refused now.
  @Test(arguments: ModelAttachments.Kind.allCases)
  func whatCannotBeReadIsNotPacked(_ kind: ModelAttachments.Kind) throws {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    for content in kind.isJSON ? [pointer, "<html></html>", "{\"a\": NaN}", ""] : [pointer] {
      // The pooling of a model is where its modules say.
      try Fixture.bert.withCopy([kind.rawValue: content]) { folder in
        let refusal = #expect(throws: Refusal.self) { try convert(Checkpoint.open(folder), to: folder + "/m.otq") }
        let isNamed = refusal?.file?.hasSuffix("/" + kind.rawValue) == true
        #expect(isNamed, "\(kind.rawValue) '\(content)': \(refusal.map(\.description) ?? "")")
        #expect(refusal?.rule.hasPrefix("json-") == true || refusal?.rule == "file-is-git-lfs-pointer")
        #expect(!FileManager.default.fileExists(atPath: folder + "/m.otq"))
      }
    }
  }

  /// All that describe the model are carried, byte for byte.
  @Test func allAreCarried() throws {
    let others: Set<ModelAttachments.Kind> = [.configuration, .tokenizer, .tokenizerConfiguration]
    let kinds = ModelAttachments.Kind.allCases.filter { !others.contains($0) }
    let files = Dictionary(
      uniqueKeysWithValues: kinds.map { ($0.rawValue, $0.isJSON ? "{\"of\": \"\($0)\"}" : "\($0)\n") })
    try Fixture.llama.withCopy(files) { folder in
      let packed = try convert(Checkpoint.open(folder), to: folder + "/m.otq")
      #expect(Set(packed.container.attachmentNames) == Set(ModelAttachments.Kind.allCases.map(\.rawValue)))
      for (name, text) in files {
        #expect(try packed.container.attachment(name).map { String(decoding: $0, as: UTF8.self) } == text)
      }
    }
  }
}
