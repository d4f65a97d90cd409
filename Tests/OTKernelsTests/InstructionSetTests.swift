import OTFoundation
import OTKernels
import Testing

@Suite struct InstructionSetTests {
  @Test func scalarIsEverywhere() {
    #expect(InstructionSet.available.first == .scalar)
    #expect(InstructionSet.available.contains(InstructionSet.current))
  }

  @Test func forcedNames() throws {
    for set in InstructionSet.available { try InstructionSet.check(forced: set.rawValue) }
    for name in ["", "sse9", "AVX2", "avx2 "] {
      let refusal = #expect(throws: Refusal.self) { try InstructionSet.check(forced: name) }
      #expect(refusal?.rule == "instruction-set-unknown")
    }
    for set in InstructionSet.allCases where !InstructionSet.available.contains(set) {
      let refusal = #expect(throws: Refusal.self) { try InstructionSet.check(forced: set.rawValue) }
      #expect(refusal?.rule == "instruction-set-unavailable")
    }
  }

  @Test func environmentIsFit() throws { try InstructionSet.checkEnvironment() }
}
