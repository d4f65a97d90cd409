import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// The parts of a random transform that are there.
enum TransformParts: String, CaseIterable, Sendable {
  case both, shift, scale

  /// A random transform for `site`: shifts within ±3, scales within 1/8...8,
  /// equal where channels share a value channel.
  func transform(
    of site: Site, in graph: Graph, using generator: inout SeededGenerator
  ) -> ChannelTransform {
    var shift = (0..<site.size).map { _ in Float.random(in: -3...3, using: &generator) }
    var scale = (0..<site.size).map { _ in exp2(Float.random(in: -3...3, using: &generator)) }
    if let shared = graph.sharedChannels(of: site) {
      shift = shared.map { shift[$0] }
      scale = shared.map { scale[$0] }
    }
    return ChannelTransform(
      shift: self == .scale ? nil : shift, scale: self == .shift ? nil : scale)
  }
}

/// The outputs of a run, and the value of every node.
struct Trace {
  var values: [String: [Float]] = [:]
  let outputs: [String: [Float]]

  init(_ graph: Graph, _ parameters: some ParameterSource, tokens: [Int]) throws {
    var values: [String: [Float]] = [:]
    let executor = try FloatExecutor(graph: graph, parameters: parameters, threadCount: 2)
    let result = try executor.run(tokenIDs: tokens) { values[$0.name] = Array($0.values) }
    self.values = values
    outputs = result.outputs.mapValues(\.values)
  }

  /// Expects the outputs of `original`, to `tolerance` of their range.
  func expectOutputs(of original: Trace, tolerance: Double, _ comment: String) {
    #expect(Set(outputs.keys) == Set(original.outputs.keys))
    for (name, expected) in original.outputs {
      let error = relativeError(outputs[name] ?? [], expected)
      #expect(error < tolerance, "\(comment): \(name) differs by \(error) of the range")
    }
  }

  /// Expects `producer` to give what `transform` makes of `original`'s value of `source`.
  func expect(
    _ producer: String, isTransformed transform: ChannelTransform, _ original: [Float],
    tolerance: Double, _ comment: String
  ) {
    let size = transform.shift?.count ?? transform.scale?.count ?? 1
    let expected = original.indices.map { index in
      (original[index] - (transform.shift?[index % size] ?? 0))
        / (transform.scale?[index % size] ?? 1)
    }
    let error = relativeError(values[producer] ?? [], expected)
    #expect(error < tolerance, "\(comment): \(producer) differs by \(error) of the range")
  }
}

@Suite struct MigrationNumericsTests {
  /// Every site of a fixture, with a random transform, at once and twice over.
  @Test(arguments: Fixture.allCases, TransformParts.allCases)
  func everySiteOfAModel(_ fixture: Fixture, _ parts: TransformParts) throws {
    var generator = SeededGenerator()
    let tokens = try fixture.goldenSequences()[0]
    let parameters = try fixture.parameters()
    var graph = try fixture.graph()
    let original = try Trace(graph, parameters, tokens: tokens)
    for round in 1...2 {
      for site in graph.sites {
        graph = try graph.migrating(
          site, by: parts.transform(of: site, in: graph, using: &generator))
      }
      let comment = "seed \(generator.seed), round \(round)"
      let migrated = try Trace(graph, parameters, tokens: tokens)
      migrated.expectOutputs(of: original, tolerance: 1e-4, comment)
      #expect(migrated.outputs != original.outputs, "\(comment): nothing was migrated")
      for site in graph.sites {
        // An affine node's value is its producer's, transformed once more.
        let source = site.producer.replacingOccurrences(of: ".affine", with: "")
        migrated.expect(
          site.producer, isTransformed: graph.transform(ofValue: site.producer),
          try #require(original.values[source]), tolerance: 1e-4, comment)
      }
    }
  }

  /// Each site of a fixture alone.
  @Test(arguments: Fixture.allCases)
  func eachSiteOfAModelAlone(_ fixture: Fixture) throws {
    var generator = SeededGenerator()
    let tokens = Array(try fixture.goldenSequences()[1].prefix(24))
    let parameters = try fixture.parameters()
    let graph = try fixture.graph()
    let original = try Trace(graph, parameters, tokens: tokens)
    for site in graph.sites {
      let migrated = try graph.migrating(
        site, by: TransformParts.both.transform(of: site, in: graph, using: &generator))
      try Trace(migrated, parameters, tokens: tokens)
        .expectOutputs(of: original, tolerance: 1e-4, "seed \(generator.seed), \(site.producer)")
    }
  }
}
