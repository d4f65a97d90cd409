import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import OTTensor
import Testing
import _OTTestSupport

@Suite struct FloatExecutorRefusalTests {
  private func rule(_ body: () throws -> Void) -> String? {
    do {
      try body()
      return nil
    } catch let refusal as Refusal {
      return refusal.rule
    } catch {
      return "\(error)"
    }
  }

  private func executor() throws -> FloatExecutor {
    let graph = try FloatExecutorTests.zoo(.relu)
    return try FloatExecutor(
      graph: graph, parameters: FloatExecutorTests.parameters(graph, seed: 1), threadCount: 1)
  }

  @Test func inputThatTheModelCannotRead() throws {
    let executor = try executor()
    #expect(rule { _ = try executor.run(tokenIDs: []) } == "run-empty")
    #expect(rule { _ = try executor.run(tokenIDs: [50]) } == "run-token-id")
    #expect(rule { _ = try executor.run(tokenIDs: [3, -1]) } == "run-token-id")
    #expect(rule { _ = try executor.run(tokenIDs: [Int.max]) } == "run-token-id")
    let types = [2]
    #expect(rule { _ = try executor.run(tokenIDs: [1], tokenTypeIDs: types) } == "run-token-id")
    let far = [Int.max]
    #expect(rule { _ = try executor.run(tokenIDs: [1], tokenTypeIDs: far) } == "run-token-id")
    let long = [Int](repeating: 1, count: 41)
    #expect(rule { _ = try executor.run(tokenIDs: long) } == "run-context")
    #expect(rule { _ = try executor.run(tokenIDs: Array(long.dropLast())) } == nil)
    #expect(
      rule { _ = try executor.run(tokenIDs: [1], tokenTypeIDs: [0, 0]) } == "run-input-length")
    #expect(
      rule { _ = try executor.run(tokenIDs: [1, 2], attentionMask: [true]) }
        == "run-input-length")
    #expect(rule { _ = try executor.run(tokenIDs: [1]).output("logits") } == "run-output")
  }

  @Test func graphThatLacksFacts() throws {
    let complete = try FloatExecutorTests.zoo(.relu)
    let graph = try Graph(
      family: "test", nodes: complete.nodes, outputs: complete.outputs,
      transforms: complete.transforms, missing: ["num_attention_heads"])
    let parameters = ParameterReader([TensorView]())
    do {
      _ = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 1)
      Issue.record("accepted")
    } catch let refusal as Refusal {
      #expect(refusal.rule == "run-incomplete")
      #expect(refusal.message.contains("num_attention_heads"))
    }
  }

  @Test func parametersThatAreNotAsTheGraphSays() throws {
    let graph = try FloatExecutorTests.zoo(.relu)
    let good = try RandomTensors.views(
      [
        "words": [50, 24], "places": [42, 24], "kinds": [2, 24], "counts": [44, 24], "g": [24], "h": [4], "i": [6],
        "j": [6], "w": [8, 8],
      ], seed: 1)
    func run(_ tensors: [TensorView]) -> String? {
      rule {
        _ = try FloatExecutor(
          graph: graph, parameters: ParameterReader(tensors), threadCount: 1
        ).run(tokenIDs: [1])
      }
    }
    #expect(run(good) == nil)
    #expect(run(good.filter { $0.name != "w" }) == "parameter-missing")
    let others = good.filter { $0.name != "g" }
    #expect(run(others + (try RandomTensors.views(["g": [25]], seed: 1))) == "parameter-shape")
    let g = try #require(good.first { $0.name == "g" })
    let integers = TensorView(
      name: "g", elementType: .i32, shape: g.shape, file: g.file, byteOffset: g.byteOffset)
    #expect(run(others + [integers]) == "parameter-type")
  }
}
