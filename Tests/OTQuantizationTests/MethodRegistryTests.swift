import OTFoundation
import OTQuantization
import Testing

/// `--method NAME[,key=value]…`.
@Suite struct MethodRegistryTests {
  private func rule(_ text: String) -> String? {
    #expect(throws: Refusal.self) { try Methods.method(text) }?.rule
  }

  @Test func methodsAreFoundByName() throws {
    // A kept recipe is nothing without its file.
    for method in Methods.all where method != KeptRecipe.self {
      #expect(type(of: try Methods.method(method.name)).name == method.name)
    }
    #expect(Set(Methods.all.map { $0.name }).count == Methods.all.count)
    let method = try #require(try Methods.method("outliertune,symmetrize=false") as? OutlierTune)
    #expect(!method.isSymmetrized && method.needs == [.ranges])
  }

  @Test func whatIsUnknownIsRefused() {
    #expect(rule("outlier-tune") == "method-unknown")
    #expect(rule("") == "method-unknown")
    #expect(rule("outliertune,alpha=1") == "method-option")
    #expect(rule("outliertune,symmetrize=maybe") == "method-option")
    #expect(rule("outliertune,symmetrize") == "method-option")
    #expect(rule("outliertune,symmetrize=true,symmetrize=true") == "method-option")
    #expect(rule("per-token,") == "method-option")
    #expect(rule("hadamard,block=48") == "method-option")
    #expect(rule("osplus,activations=int8") == "method-option")
    #expect(rule("percentile,rows=0") == "method-option")
    #expect(rule("percentile,rows=1.5") == "method-option")
    #expect(rule("smoothquant,search=true,alpha=0.5") == "method-option")
    #expect(rule("recipe") == "method-option")
  }
}
