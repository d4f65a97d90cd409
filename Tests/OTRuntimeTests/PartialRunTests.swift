import OTFoundation
import OTGraph
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Parts of a model, run from values that were kept of a whole run, against that run.
@Suite struct PartialRunTests {
  enum Form: String, CaseIterable, Sendable {
    case float, perToken, outlierTune, integerAttention
  }

  private static func executor(_ fixture: Fixture, _ form: Form) throws -> any Executor {
    // There are no statistics of the reference implementations for BERT.
    let method: FixtureMethod = fixture == .bert ? .perToken : .outlierTune
    switch form {
    case .float: return try fixture.floatExecutor()
    case .perToken: return try fixture.executor(.perToken) { $0.bits = 6 }
    case .outlierTune: return try fixture.executor(method)
    case .integerAttention: return try fixture.executor(method, attentionBits: 8)
    }
  }

  /// More rows than the BLAS is given at a time, and sequences of which some are short.
  private static func sequences(hasMask: Bool) -> [TokenSequence] {
    [96, 96, 1, 96, 33, 96, 96, 96].enumerated().map { index, length in
      let ids = (0..<length).map { ($0 * 37 + index * 101) % 500 + 4 }
      return TokenSequence(ids, attentionMask: hasMask ? ids.map { $0 % 7 != 0 } : nil)
    }
  }

  private static func kept(_ value: NodeValue, _ sequences: [TokenSequence]) -> [Matrix] {
    var row = 0
    return sequences.map { sequence in
      let count = value.rowCount == sequences.count ? 1 : sequence.tokenIDs.count
      defer { row += count }
      let values = value.values[row * value.channelCount..<(row + count) * value.channelCount]
      return Matrix(rowCount: count, channelCount: value.channelCount, values: Array(values))
    }
  }

  /// Values through which alone all later nodes and outputs depend on earlier ones: where blocks begin and end.
  private static func cuts(_ graph: Graph) -> [String] {
    let indices = Dictionary(uniqueKeysWithValues: graph.nodes.enumerated().map { ($1.name, $0) })
    return graph.nodes.enumerated().filter { index, node in
      graph.channelCount(of: node.name) != 0 && graph.outputs.values.allSatisfy { indices[$0] ?? 0 >= index }
        && graph.nodes[index...].dropFirst().allSatisfy { later in
          later.inputs.allSatisfy { input in
            guard let place = indices[input] else { return false }
            return place >= index || graph.channelCount(of: input) == 0
          }
        }
    }.map(\.element.name)
  }

  /// Expects each sequence's value of `node` to be that of the whole run, without printing them all.
  private static func expectEqual(
    _ results: [ExecutionResult], _ node: String, _ whole: [String: [Matrix]], _ comment: Comment
  ) {
    let isEqual = results.compactMap { $0.outputs[node] } == whole[node]
    #expect(isEqual, comment)
  }

  private struct Difference: Error { let node: String }

  @Test(arguments: Fixture.allCases, Form.allCases)
  func partsEqualTheWholeRun(_ fixture: Fixture, _ form: Form) throws {
    let executor = try Self.executor(fixture, form)
    let graph = executor.graph
    let sequences = Self.sequences(hasMask: fixture == .bert)
    var whole: [String: [Matrix]] = [:]
    _ = try executor.run(sequences) { whole[$0.name] = Self.kept($0, sequences) }
    let cuts = Self.cuts(graph)
    let ends = graph.outputs.values.sorted()
    let layerCount = graph.nodes.count { if case .attention = $0.operation { true } else { false } }
    #expect(layerCount > 1 && cuts.count > layerCount, "\(cuts)")
    for (index, cut) in cuts.enumerated() {
      let wanted = index + 1 < cuts.count ? [cuts[index + 1]] : ends
      let given = [cut: try #require(whole[cut])]
      var seen: Set<String> = []
      let observed = try executor.run(sequences, from: given, until: wanted) { value in
        seen.insert(value.name)
        guard Self.kept(value, sequences) == whole[value.name] else { throw Difference(node: value.name) }
      }
      #expect(seen.isSuperset(of: wanted) && seen.contains(cut))
      #expect(seen.count < whole.count / layerCount + 4, "only the part is run")
      let fused = try executor.run(sequences, from: given, until: wanted, observe: nil)
      for name in wanted {
        Self.expectEqual(observed, name, whole, "\(name) from \(cut)")
        Self.expectEqual(fused, name, whole, "\(name) from \(cut), without an observer")
      }
    }
  }

  /// Several values are given in the middle of a block, and values in its middle are wanted.
  @Test(arguments: [Fixture.opt, .llama]) func partsBeginAndEndAnywhere(_ fixture: Fixture) throws {
    let executor = try Self.executor(fixture, .outlierTune)
    let sequences = Self.sequences(hasMask: false)
    var whole: [String: [Matrix]] = [:]
    _ = try executor.run(sequences) { whole[$0.name] = Self.kept($0, sequences) }
    let attention = try #require(
      executor.graph.nodes.last { if case .attention = $0.operation { true } else { false } })
    let given = Dictionary(uniqueKeysWithValues: attention.inputs.map { ($0, whole[$0] ?? []) })
    let wanted = [attention.name] + executor.graph.consumers(of: attention.name)
    #expect(given.count == 3 && wanted.count > 1)
    let results = try executor.run(sequences, from: given, until: wanted, observe: nil)
    for name in wanted { Self.expectEqual(results, name, whole, "\(name)") }
    // From the tokens to a value in the middle.
    let first = try executor.run(sequences, from: [:], until: attention.inputs, observe: nil)
    for name in attention.inputs { Self.expectEqual(first, name, whole, "\(name)") }
    let part = try executor.bytesPerToken(from: [], until: attention.inputs)
    #expect(part < executor.bytesPerToken, "the head takes no memory")
  }

  /// A whole run without an observer takes the rows of a wide output some at a time, which the BLAS
  /// rounds otherwise; a part does not.
  @Test func wideOutputsOfPartsAreThoseThatAnObserverSees() throws {
    let width = 20_000
    let graph = try Graph(
      family: "test",
      nodes: [
        Node("ids", .tokenIDs),
        Node("table", .embedding(Embedding(table: "table", rowCount: 50, size: 24)), inputs: ["ids"]),
        Node(
          "mix",
          .attention(
            Attention(headCount: 3, keyValueHeadCount: 3, headSize: 8, isCausal: true, positions: .none)),
          inputs: ["table", "table", "table"]),
        Node(
          "wide",
          .linear(Linear(weight: "wide", bias: nil, inFeatures: 24, outFeatures: width, role: .head)),
          inputs: ["mix"]),
      ], outputs: ["hidden": "wide"], vocabularySize: 50)
    let executor = try FloatExecutor(
      graph: graph, parameters: FloatExecutorTests.parameters(graph, seed: 11), threadCount: 2)
    let sequences = [500, 300].map { length in TokenSequence((0..<length).map { $0 * 7 % 50 }) }
    var whole: [String: [Matrix]] = [:]
    _ = try executor.run(sequences) { whole[$0.name] = Self.kept($0, sequences) }
    let table = try #require(whole["table"])
    let part = try executor.run(
      table.map { TokenSequence(length: $0.rowCount) }, from: ["table": table], until: ["wide"], observe: nil)
    Self.expectEqual(part, "wide", whole, "the wide output")
  }

  @Test func refusals() throws {
    let executor = try Self.executor(.opt, .float)
    let sequences = [TokenSequence([5, 6, 7]), TokenSequence([8])]
    let site = try #require(executor.graph.sites.first)
    let linear = site.consumers[0]
    func matrix(_ rows: Int, _ channels: Int) -> Matrix {
      Matrix(rowCount: rows, channelCount: channels, values: [Float](repeating: 1, count: rows * channels))
    }
    func rule(_ given: [String: [Matrix]], _ wanted: [String]) -> String? {
      do {
        _ = try executor.run(sequences, from: given, until: wanted, observe: nil)
        return nil
      } catch { return (error as? Refusal)?.rule }
    }
    let size = site.size
    #expect(rule([site.producer: [matrix(3, size), matrix(1, size)]], [linear]) == nil)
    #expect(rule([site.producer: [matrix(3, size)]], [linear]) == "run-given")
    #expect(rule([site.producer: [matrix(1, size), matrix(3, size)]], [linear]) == "run-given")
    #expect(rule([site.producer: [matrix(3, size), matrix(1, size + 1)]], [linear]) == "run-given")
    #expect(rule([:], ["nothing"]) == "graph-part")
    #expect(rule([:], []) == nil, "the whole model")
    #expect(rule([site.producer: []], []) == "graph-part")
    #expect(rule(["nothing": []], [linear]) == "graph-part")
    let ids = try #require(executor.graph.nodes.first { $0.operation == .tokenIDs })
    #expect(rule([:], [ids.name]) == "graph-part")
  }
}
