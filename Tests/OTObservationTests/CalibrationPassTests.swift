import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTRuntime
import Testing
import _OTTestSupport

/// The observations and kept values of a pass, against the values that an observer of the executor sees.
@Suite struct CalibrationPassTests {
  private static let samples: [[Int]] = [60, 200, 0, 1, 150, 128, 90].enumerated().map { index, length in
    (0..<length).map { ($0 * 41 + index * 97) % 900 + 4 }
  }
  private static var used: [[Int]] { samples.filter { !$0.isEmpty } }

  private static func executor(_ family: String, threadCount: Int = 2) throws -> FloatExecutor {
    let model = try SourceModel(path: Fixtures.path("models/\(family)-mini"))
    return try FloatExecutor(
      graph: model.graph(), parameters: model.parameters, threadCount: threadCount,
      cachesParameters: true)
  }

  private static func run(
    _ executor: FloatExecutor, _ pass: CalibrationPass, maximumByteCount: Int = 1 << 32
  ) throws -> Calibrator.Outcome {
    try Calibrator(executor: executor, parameterByteCount: 0, maximumByteCount: maximumByteCount)
      .run(samples.map { TokenSequence($0) }, pass: pass)
  }

  /// The rows of every site, by sample, of a run of all samples at once.
  private static func rows(_ executor: FloatExecutor) throws -> [String: [[ArraySlice<Float>]]] {
    let sites = Set(executor.graph.sites.map(\.producer))
    var rows: [String: [[ArraySlice<Float>]]] = [:]
    _ = try executor.run(used.map { TokenSequence($0) }) { value in
      guard sites.contains(value.name) else { return }
      let all = Matrix(rowCount: value.rowCount, channelCount: value.channelCount, values: Array(value.values))
      var first = 0
      rows[value.name] = used.map { sample in
        defer { first += sample.count }
        return (first..<first + sample.count).map { all[$0] }
      }
    }
    return rows
  }

  private static let everything: Set<ObservationKind> = [
    .ranges, .moments, .rows(count: 33), .wholeSamples(count: 2),
  ]

  @Test(arguments: ["opt", "llama", "bert"])
  func batchesAndThreadsDoNotChangeWhatIsObserved(_ family: String) throws {
    let whole = try Self.run(Self.executor(family), CalibrationPass(Self.everything))
    // Blocks of the BLAS one by one, on more threads and on one.
    for threadCount in [1, 3] {
      let other = try Self.run(
        Self.executor(family, threadCount: threadCount), CalibrationPass(Self.everything), maximumByteCount: 1)
      let isEqual = other.sites == whole.sites
      #expect(isEqual, "\(threadCount) threads")
    }
    #expect(whole.sites.values.allSatisfy { $0.moments != nil && $0.wholeSamples != nil && $0.foreignScales == nil })
  }

  @Test func keptRowsAreThoseOfTheSamples() throws {
    let executor = try Self.executor("opt")
    let rows = try Self.rows(executor)
    let lengths = Self.used.map(\.count)
    let total = lengths.reduce(0, +)
    let outcome = try Self.run(
      executor, CalibrationPass([.rows(count: 33), .rows(count: 5), .wholeSamples(count: 2)]))
    #expect(Set(outcome.sites.keys) == Set(rows.keys) && !rows.isEmpty)
    for (site, observed) in outcome.sites {
      #expect(observed.ranges == nil && observed.moments == nil, "nobody asked")
      let kept = try #require(observed.rows)
      #expect(kept.places.count == 33 && kept.sampleCount == lengths.count, "the larger number counts")
      let expected = try kept.places.flatMap { try #require(rows[site])[$0.sample][$0.row] }
      let isEqual = kept.values == expected && kept.matrix.values == expected
      #expect(isEqual, "\(site)")
      // Even: no two neighbours are further apart than a share and one.
      let indices = kept.places.map { lengths[..<$0.sample].reduce(0, +) + $0.row }
      let gaps = zip(indices.dropFirst(), indices).map { $0 - $1 }
      #expect(gaps.allSatisfy { (total / 33...total / 33 + 1).contains($0) }, "\(gaps)")
      let whole = try #require(observed.wholeSamples)
      let samples = Set(whole.places.map(\.sample)).sorted()
      #expect(samples.count == 2 && whole.matrices.count == 2)
      for (sample, matrix) in zip(samples, whole.matrices) {
        let isSame = try matrix.values == #require(rows[site])[sample].flatMap { $0 }
        #expect(isSame, "\(site), sample \(sample)")
      }
    }
  }

  @Test func moreRowsThanThereAre() throws {
    let outcome = try Self.run(
      Self.executor("opt"), CalibrationPass([.rows(count: .max), .wholeSamples(count: 1000)]))
    let total = Self.samples.reduce(0) { $0 + $1.count }
    for observed in outcome.sites.values {
      let isEqual = observed.rows == observed.wholeSamples
      #expect(observed.rows?.places.count == total && isEqual)
    }
  }

  @Test func momentsOfASiteAreThoseOfItsRows() throws {
    let executor = try Self.executor("llama")
    let site = try #require(executor.graph.sites.dropFirst(2).first)
    var pass = CalibrationPass([.moments])
    pass.sites = [site.producer]
    let outcome = try Self.run(executor, pass)
    #expect(Array(outcome.sites.keys) == [site.producer], "only the site that was asked for")
    let moments = try #require(outcome.sites[site.producer]?.moments)
    let rows = try #require(Self.rows(executor)[site.producer]).flatMap { $0 }.map { $0.map { Double($0) } }
    #expect(moments.rowCount == rows.count && moments.channelCount == site.size)
    for (i, j) in [(0, 0), (3, 90), (90, 3), (site.size - 1, 1)] {
      let product = rows.reduce(0) { $0 + $1[i] * $1[j] }
      #expect(abs(moments.products[i * site.size + j] - product) <= 1e-6 * rows.reduce(1) { $0 + abs($1[i] * $1[j]) })
    }
  }

  /// Block by block: each pass begins at the values that the one before kept.
  @Test(arguments: ["opt", "bloom", "llama", "bert"]) func passesFollowEachOther(_ family: String) throws {
    let executor = try Self.executor(family)
    let graph = executor.graph
    let whole = try Self.run(executor, CalibrationPass(Self.everything))
    // What the norm-fed sites are followed by in the residual stream, or BERT's norms.
    let cuts = graph.nodes.filter { node in
      switch node.operation {
      case .add where family != "bert": true
      case .layerNorm where family == "bert": true
      default: false
      }
    }.map(\.name)
    var given: [String: [Matrix]] = [:]
    var done: Set<String> = []
    let folder = FileManager.default.temporaryDirectory.path
    for (index, cut) in cuts.enumerated() {
      let part = try GraphPart(of: graph, from: Set(given.keys), until: [cut])
      var pass = CalibrationPass(Self.everything)
      pass.sites = Set(graph.sites.map(\.producer)).intersection(part.nodes.map(\.name)).subtracting(given.keys)
      pass.given = KeptValues(given)
      pass.kept = [cut]
      // In memory and in a file by turns.
      if index % 2 == 1 { pass.scratch = try ScratchFile(in: folder) }
      let outcome = try Self.run(executor, pass)
      for (site, observed) in outcome.sites {
        let isEqual = observed == whole.sites[site]
        #expect(isEqual, "\(site) from \(given.keys)")
        done.insert(site)
      }
      // Empty samples have no values, but their place.
      #expect(outcome.values.nodes == [cut] && (outcome.values.byteCount == 0) == (index % 2 == 1))
      var values = try (0..<outcome.values.sampleCount(of: cut)).map {
        try outcome.values.matrix(of: cut, sample: $0)
      }[...]
      #expect(values.count == Self.used.count)
      given = [
        cut: Self.samples.map { sample in
          sample.isEmpty
            ? Matrix(rowCount: 0, channelCount: 0, values: [])
            : values.removeFirst()
        }
      ]
    }
    #expect(cuts.count > 4 && done.count > cuts.count)
  }

  @Test func memoryOfObserversCounts() throws {
    let executor = try Self.executor("opt")
    let lengths = [100, 100]
    let least = try Calibrator.leastByteCount(executor, lengths: lengths)
    func added(_ kind: ObservationKind) throws -> Int {
      try Calibrator.leastByteCount(executor, lengths: lengths, pass: CalibrationPass([kind])) - least
    }
    let sizes = executor.graph.sites.map(\.size)
    #expect(try added(.ranges) == 0)
    #expect(try added(.moments) == sizes.reduce(0) { $0 + 8 * $1 * $1 })
    #expect(try added(.rows(count: 7)) == sizes.reduce(0) { $0 + 4 * 7 * $1 })
    #expect(try added(.wholeSamples(count: 1)) == sizes.reduce(0) { $0 + 4 * 100 * $1 })
  }

  @Test func refusals() throws {
    let executor = try Self.executor("opt")
    func rule(_ pass: CalibrationPass) -> String? {
      do {
        _ = try Self.run(executor, pass)
        return nil
      } catch { return (error as? Refusal)?.rule }
    }
    #expect(rule(CalibrationPass([])) == "calibration-no-sites")
    var pass = CalibrationPass()
    pass.given = KeptValues([executor.graph.sites[0].producer: []])
    #expect(rule(pass) == "run-given")
    pass = CalibrationPass()
    pass.kept = ["nothing"]
    #expect(rule(pass) == "graph-part")
  }

  /// Where nothing but the moments of channels is asked for, samples at even distances are enough.
  @Test func momentsOfChannelsAreOfSomeSamples() throws {
    let model = try SourceModel(path: Fixtures.path("models/opt-mini"))
    let tokens = (0..<70).map { sample in (0..<128).map { ($0 * 41 + sample * 97) % 900 + 4 } }
    func observed(_ kinds: Set<ObservationKind>, _ tokens: [[Int]]) throws -> ModelObservations {
      let run = CalibrationRun(texts: [], sampleCount: tokens.count, length: 128, seed: nil)
      return try Calibration().run(on: model, samples: Calibration.Samples(tokens: tokens, run: run), kinds: kinds)
    }
    // 64 × 128 = 8192.
    let chosen = (0..<64).map { (2 * $0 + 1) * 70 / 128 }
    #expect(Set(chosen).count == 64 && chosen.last == 69)
    let some = try observed([.channelMoments], tokens)
    let same = try observed([.channelMoments, .ranges], chosen.map { tokens[$0] })
    let all = try observed([.channelMoments, .ranges], tokens)
    for (site, found) in some.sites {
      #expect(found.channelMoments?.rowCount == 8192)
      #expect(found.channelMoments == same.sites[site]?.channelMoments)
      #expect(all.sites[site]?.channelMoments?.rowCount == 8960)
    }
    #expect(some.sites.count == 16)
  }

  @Test func runsThatObservedDifferentThingsAreNotMerged() throws {
    func observations(_ kinds: Set<ObservationKind>, _ tokens: [Int]) throws -> ModelObservations {
      let model = try SourceModel(path: Fixtures.path("models/opt-mini"))
      let run = CalibrationRun(texts: [], sampleCount: 1, length: tokens.count, seed: nil)
      return try Calibration().run(
        on: model, samples: Calibration.Samples(tokens: [tokens], run: run), kinds: kinds,
        sources: [FileRecord(name: "m", byteCount: 1, sha256: "0")])
    }
    let one = try observations(Self.everything, [4, 5, 6])
    let other = try observations(Self.everything, [7, 8, 9, 10])
    for (site, merged) in try one.merged(with: other).sites {
      let (first, second) = (try #require(one.sites[site]), try #require(other.sites[site]))
      #expect(merged.moments?.rowCount == 7 && merged.ranges?.sampleCount == 2)
      let rows = try #require(merged.rows)
      #expect(rows.values == (first.rows?.values ?? []) + (second.rows?.values ?? []))
      #expect(rows.places.map(\.sample) == [0, 0, 0, 1, 1, 1, 1] && rows.places.map(\.row) == [0, 1, 2, 0, 1, 2, 3])
    }
    for kinds in [[.ranges], [.ranges, .moments, .rows(count: 33)]] as [Set<ObservationKind>] {
      let refusal = #expect(throws: Refusal.self) { try one.merged(with: observations(kinds, [7, 8, 9, 10])) }
      #expect(refusal?.rule == "statistics-parts")
    }
    // Only ranges are written.
    try withTemporaryFolder { folder in
      try one.write(to: folder + "/all", producer: "p", force: false, inputs: [])
      try observations([.ranges], [4, 5, 6]).write(to: folder + "/ranges", producer: "p", force: false, inputs: [])
      #expect(try contents(folder + "/all") == contents(folder + "/ranges"))
      let refusal = #expect(throws: Refusal.self) {
        try observations([.moments], [4, 5]).write(to: folder + "/none", producer: "p", force: false, inputs: [])
      }
      #expect(refusal?.rule == "statistics-no-ranges")
    }
  }
}
