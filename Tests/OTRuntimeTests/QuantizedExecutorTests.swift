import Foundation
import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// The quantized runtime against an independent simulation of its arithmetic.
@Suite struct QuantizedExecutorTests {
  /// Float32 sums in another order differ in their last bits. Now and then that
  /// takes a value over the edge between two codes, and all that follows moves a little.
  @Test(arguments: Fixture.decoders, [8, 6])
  func logitsAgreeWithTheSimulation(_ fixture: Fixture, _ bits: Int) throws {
    let logits = try fixture.goldenLogits(of: fixture.executor(.outlierTune) { $0.bits = bits })
    let golden = try fixture.goldens().floats("logits_outliertune_w\(bits)a\(bits)")
    let error = relativeRootMeanSquare(logits, golden)
    let effect = relativeRootMeanSquare(golden, try fixture.goldens().floats("logits_fp32"))
    let worst = zip(logits, golden).map { abs($0 - $1) }.max() ?? .infinity
    let range = (golden.max() ?? 0) - (golden.min() ?? 0)
    #expect(error < 5e-3, "root mean square")
    #expect(error < effect / 2, "differs as much as quantization does: \(effect)")
    #expect(worst < 0.01 * range)
  }

  @Test(arguments: Fixture.decoders, FixtureMethod.allCases)
  func perplexityAgreesWithTheSimulation(_ fixture: Fixture, _ method: FixtureMethod) throws {
    for bits in [8, 6] {
      let ours = try fixture.perplexity(of: fixture.executor(method) { $0.bits = bits })
      let reference = try fixture.referencePerplexity("\(method.rawValue) W\(bits)A\(bits)")
      #expect(abs(ours / reference - 1) < 1e-3, "W\(bits)A\(bits): \(ours), \(reference)")
    }
  }

  @Test(arguments: Fixture.decoders)
  func floatPerplexityIsThatOfTheReference(_ fixture: Fixture) throws {
    let ours = try fixture.perplexity(of: fixture.floatExecutor())
    let reference = try fixture.referencePerplexity("FP32 of the stored FP16 weights")
    #expect(abs(ours / reference - 1) < 1e-5, "\(ours), \(reference)")
  }

  @Test(arguments: Fixture.decoders)
  func resultsDependOnNeitherThreadsNorInstructionsNorCompression(_ fixture: Fixture) throws {
    let tokens = Array(try fixture.goldenSequences()[0][..<33])
    var expected: Matrix?
    for compression in [Compression.standard, .none] {
      let file = try fixture.simulated(.outlierTune) {
        $0.bits = 6
        $0.compression = compression
      }
      for set in InstructionSet.available {
        for threadCount in [1, 2, 5] {
          let logits = try QuantizedExecutor(
            graph: #require(file.graph), container: file.container, threadCount: threadCount,
            kernels: #require(Kernels(set))
          ).run(tokenIDs: tokens).output("logits")
          #expect(logits == expected ?? logits, "\(compression), \(set), \(threadCount) threads")
          expected = logits
        }
      }
    }
  }

  /// The same with activations in groups; tokens one by one have the same bits too.
  @Test func resultsOfGroupsDependOnNothingElse() throws {
    let tokens = Array(try Fixture.llama.goldenSequences()[0][..<33])
    let file = try Fixture.llama.simulated(.perToken) {
      $0.bits = 6
      $0.activations = .group(size: 32)
      // A float head sums in another order for one token than for many.
      $0.embeddingBits = 8
    }
    let graph = try #require(file.graph)
    var expected: Matrix?
    for set in InstructionSet.available {
      for threadCount in [1, 3] {
        let executor = try QuantizedExecutor(
          graph: graph, container: file.container, threadCount: threadCount, kernels: #require(Kernels(set)))
        let logits = try executor.run(tokenIDs: tokens).output("logits")
        #expect(logits == expected ?? logits, "\(set), \(threadCount) threads")
        expected = logits
        let session = try executor.makeSession(tokenCapacity: 40)
        for (position, token) in tokens[..<9].enumerated() {
          let last = try session.append([token]) { Array($0) }
          let isSame = last.elementsEqual(logits[position])
          #expect(isSame, "\(set), token \(position)")
        }
      }
    }
  }

  /// Float activations meet packed weights as integers of 24 bits: all is as
  /// the float executor computes it, to the rounding of float32.
  @Test(arguments: Fixture.decoders)
  func floatActivationsGiveTheFloatExecutorsResults(_ fixture: Fixture) throws {
    let file = try fixture.simulated(nil) {
      $0.bits = 4
      $0.embeddingBits = 8
    }
    let graph = try #require(file.graph)
    let parameters = try ContainerParameters(
      graph: graph, container: file.container, threadCount: 2)
    let float = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 1)
    let quantized = try QuantizedExecutor(graph: graph, container: file.container, threadCount: 2)
    let expected = try fixture.goldenLogits(of: float)
    let logits = try fixture.goldenLogits(of: quantized)
    let range = try #require(expected.max()) - #require(expected.min())
    let worst = try #require(zip(logits, expected).map { abs($0 - $1) }.max())
    #expect(worst < 2e-6 * range, "\(worst) of \(range)")
  }

  // MARK: Refusals

  private func rule(_ body: () throws -> Void) -> String? {
    do {
      try body()
      return nil
    } catch {
      return (error as? Refusal)?.rule ?? "\(error)"
    }
  }

  @Test func groupsOfWeightsWithinGroupsOfActivations() throws {
    let file = try Fixture.llama.simulated(.perToken) { $0.granularity = .perGroup(size: 32) }
    let graph = try #require(file.graph)
    let grouped = try graph.quantizing(graph.activations.mapValues { _ in .dynamic(bits: 8, groupSize: 64) })
    #expect(
      rule {
        _ = try QuantizedExecutor(graph: grouped, container: file.container, threadCount: 1).run(tokenIDs: [1, 2])
      } == "run-groups")
  }

  @Test func fileOfAnotherModel() throws {
    let opt = try Fixture.opt.simulated(.perToken)
    let llama = try Fixture.llama.simulated(.perToken)
    let graph = try #require(opt.graph)
    #expect(
      rule {
        _ = try QuantizedExecutor(graph: graph, container: llama.container, threadCount: 1)
      } == "parameter-missing")
    let node = Node(
      "table", .embedding(Embedding(table: "model.embed_tokens.weight", rowCount: 9, size: 9)),
      inputs: ["ids"])
    let other = try Graph(
      family: "test", nodes: [Node("ids", .tokenIDs), node], outputs: ["hidden": "table"])
    #expect(
      rule {
        _ = try QuantizedExecutor(graph: other, container: llama.container, threadCount: 1)
      } == "parameter-shape")
  }

  @Test func damagedCodesAreRefusedUnlessLeftUnchecked() throws {
    try withTemporaryFolder { folder in
      var options = ConversionOptions()
      options.compression = .none
      let good = try convert(Fixture.opt.checkpoint(), options, to: folder + "/good.otq")
      let graph = try #require(good.graph)
      let use = good.uses.values.first { $0.role == .weight && $0.linearRole == .block }
      let mapped = use.flatMap { good.container[$0.outputName] }
        .flatMap(good.container.mappedPackedCodes)
      let codes = try #require(mapped)
      let whole = good.container.file.bytes
      let base = try #require(whole.baseAddress)
      var bytes = Array(whole)
      bytes[try #require(codes.baseAddress) - base] ^= 1
      try Data(bytes).write(to: URL(fileURLWithPath: folder + "/bad.otq"))
      let bad = try PackedModel(path: folder + "/bad.otq")
      func open(_ checks: Bool) -> String? {
        rule {
          _ = try QuantizedExecutor(
            graph: graph, container: bad.container, threadCount: 2, checksMappedCodes: checks)
        }
      }
      #expect(open(true) == "otq-checksum")
      #expect(open(false) == nil)
    }
  }

  /// Running an uncompressed file refuses damage everywhere but in the codes that it uses where they lie. There it gives
  /// other numbers, and nothing else.
  @Test func runningNoticesAllDamageBesideCodes() throws {
    try withTemporaryFolder { folder in
      var options = ConversionOptions()
      options.compression = .none
      let good = try convert(Fixture.opt.checkpoint(), options, to: folder + "/good.otq").container
      let whole = good.file.bytes
      let base = try #require(whole.baseAddress)
      let inPlace = try good.tensors.compactMap(good.mappedPackedCodes).map { codes in
        let start = try #require(codes.baseAddress) - base
        return start..<start + codes.count
      }
      func logits(_ path: String) throws -> [Float] {
        let file = try PackedModel(path: path)
        // The tokenizer is among them.
        for name in file.container.attachmentNames { _ = try file.container.attachment(name) }
        let executor = try QuantizedExecutor(graph: #require(file.graph), container: file.container, threadCount: 1)
        return Array(try executor.run(tokenIDs: [2, 7, 5]).output("logits").values)
      }
      let expected = try logits(good.file.path)
      var (refused, changed) = (0, 0)
      for offset in stride(from: 0, to: whole.count, by: whole.count / 200 | 1) {
        var bytes = Array(whole)
        bytes[offset] ^= 0x10
        try Data(bytes).write(to: URL(fileURLWithPath: folder + "/bad.otq"))
        var found: [Float] = []
        let refusal = rule { found = try logits(folder + "/bad.otq") }
        if inPlace.contains(where: { $0.contains(offset) }) {
          #expect(refusal == nil && found.count == expected.count, "byte \(offset)")
          changed += found == expected ? 0 : 1
        } else {
          #expect(refusal?.hasPrefix("otq-") == true, "byte \(offset)")
          refused += 1
        }
      }
      #expect(refused > 20 && changed > 20)
    }
  }
}

/// ‖a − b‖ / ‖b‖.
func relativeRootMeanSquare(_ a: [Float], _ b: [Float]) -> Double {
  guard a.count == b.count else { return .infinity }
  let error = zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
  return (error / b.reduce(0) { $0 + Double($1) * Double($1) }).squareRoot()
}
