import OTConversion
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite struct StageTimerTests {
  /// llama-mini: 128 channels, 384 of an MLP, 4 layers, 4 heads of 32 channels and 2 of keys and values, 2048 tokens.
  @Test func operationsAreThoseOfTheModel() throws {
    let executor = try Fixture.llama.executor(.perToken)
    let tokens = (0..<20).map { $0 * 37 % 2048 }
    let times = try executor.stageTimer.times { _ = try executor.run(tokenIDs: tokens) }
    func stage(_ name: String) throws -> StageTime {
      try #require(times.first { $0.name == name }, "\(times.map(\.name))")
    }
    let attention = try stage("attention")
    // Pairs of a query and a key that it sees, two products of 4 heads of 32 channels, two operations each, 4 layers.
    #expect(attention.operations == Double(20 * 21 / 2 * 2 * 4 * 32 * 2 * 4))
    #expect(attention.count == 4 && attention.work == .floats)
    let projections = try stage("q_proj, k_proj, v_proj")
    #expect(projections.operations == Double(20 * 128 * (128 + 64 + 64) * 2 * 4))
    #expect(projections.count == 4 && projections.work == .codes(perWeight: 1))
    // The head is of float16.
    let head = try stage("lm_head")
    #expect(head.operations == Double(20 * 128 * 2048 * 2) && head.work == .floats && head.count == 1)
    #expect(times.contains { $0.work == .rows && $0.name.contains("norm") && $0.operations == 0 })
    #expect(times.allSatisfy { $0.seconds >= 0 } && times.map(\.seconds) == times.map(\.seconds).sorted(by: >))
  }

  /// Rows that threads take through sections are counted as those that go stage by stage.
  @Test func sectionsAreOneRun() throws {
    let executor = try Fixture.llama.executor(.perToken)
    let tokens = (0..<128).map { $0 * 37 % 2048 }
    let times = try executor.stageTimer.times { _ = try executor.run(tokenIDs: tokens) }
    let projection = try #require(times.first { $0.name == "gate_proj, up_proj" }, "\(times.map(\.name))")
    #expect(projection.operations == Double(128 * 128 * 384 * 2 * 2 * 4) && projection.count == 4)
  }

  @Test func nothingIsCountedBefore() throws {
    let executor = try Fixture.llama.executor(.perToken)
    _ = try executor.run(tokenIDs: [1, 2, 3])
    #expect(executor.stageTimer.times {}.isEmpty)
  }
}
