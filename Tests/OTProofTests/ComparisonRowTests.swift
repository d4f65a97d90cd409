import OTConversion
import OTProof
import OTQ
import OTQuantization
import Testing

/// Names of methods and settings, as a user writes them.
@Suite struct ComparisonRowTests {
  @Test func optionsBelongToTheNameBefore() {
    #expect(ConversionSetting.list("best") == ["best"])
    #expect(ConversionSetting.list("osplus,grid=paper,samples=2,best") == ["osplus,grid=paper,samples=2", "best"])
    #expect(ConversionSetting.list("w6a8@gptq,passes=10,w4a4") == ["w6a8@gptq,passes=10", "w4a4"])
    // What is no name is refused later, not lost.
    #expect(ConversionSetting.list("a,,b") == ["a", "", "b"])
  }

  @Test func methodsAreJoinedByPlus() throws {
    func names(_ text: String) throws -> [String] { try ComparisonRow.methods(text).map { type(of: $0).name } }
    #expect(try names("best") == ["best"])
    #expect(try names("quarot+best,shift=false") == ["quarot", "best"])
    #expect(try names("choice,of=best+per-token") == ["choice"])
    #expect(try names("smoothquant+choice,of=best+per-token") == ["smoothquant", "choice"])
    #expect(throws: (any Error).self) { try names("best+nothing") }
    #expect(throws: (any Error).self) { try names("") }
  }

  @Test(arguments: [
    ("w6a8", "--bits 6 --activation-bits 8"),
    ("w6a16", "--bits 6 --activation-bits 16"),
    ("w8a8/weights:tensor/weights:symmetric", "--bits 8 --activation-bits 8 --weight-scheme symmetric --per-tensor"),
    ("w4a4/g32/group:32", "--bits 4 --activation-bits 4 --activations group:32 --group-size 32"),
    ("w6a6/token:asymmetric", "--bits 6 --activation-bits 6 --activations token:asymmetric"),
    ("w4a8@gptq,passes=10", "--bits 4 --activation-bits 8 --rounding gptq,passes=10"),
    ("5.0bpwa8", "--budget 5.0bpw --activation-bits 8"),
  ]) func settings(_ text: String, _ options: String) throws {
    let setting = try #require(ConversionSetting(text))
    #expect(setting.arguments.joined(separator: " ") == options)
    #expect(setting.description == text)
  }

  @Test(arguments: [
    "", "w8", "w9a8", "w1a8", "w8a1", "w8a9", "w8a16/token", "w8a8/", "w8a8/g15", "w8a8/g16/g32", "w8a8/token/tensor",
    "w8a8/g16/weights:tensor", "w4a4/g48/group:32", "w8a8@", "w8a8@nothing",
    "w8a8/weights:symmetric/weights:asymmetric",
    "90MBa8", "xa8", "w8a8 ",
  ]) func whatIsNoSetting(_ text: String) { #expect(ConversionSetting(text) == nil) }

  @Test(arguments: ComparisonPreset.allCases) func presetsHaveRowsThatCanBeAskedFor(_ preset: ComparisonPreset) throws {
    #expect(preset.rows.count >= 10)
    #expect(Set(preset.rows).count == preset.rows.count)
    for row in preset.rows {
      #expect(row.group?.isEmpty == false)
      for method in try row.methods {
        guard let asked = row.setting.activations else { continue }
        #expect(method.gives(asked), "\(row.method) \(row.setting)")
      }
    }
  }
}
