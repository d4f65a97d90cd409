import Foundation
import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTObservation
import OTProof
import OTQ
import OTQuantization
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Rows that are made, kept and found again.
@Suite struct ComparisonTests {
  /// Ends a run as a signal would: it is no refusal of a row.
  private struct Killed: Error {}

  private static let fixture = Fixture.opt

  /// A comparison in a folder, whose conversions are counted.
  private final class Bench {
    private let folder: String
    private let options: JSONValue
    private let windowCount: Int
    private let tasks: [ComparedTask]
    private let comparesSites: Bool
    private let program: String
    private(set) var converted: [String] = []

    init(
      _ folder: String, options: JSONValue = .object([:]), windowCount: Int = 4, tasks: [ComparedTask] = [],
      comparesSites: Bool = false, program: String = "p"
    ) {
      (self.folder, self.options, self.windowCount) = (folder, options, windowCount)
      (self.tasks, self.comparesSites, self.program) = (tasks, comparesSites, program)
    }

    func run(
      _ methods: [String], setting: String = "w8a8", endingAt end: String? = nil, keepsFiles: Bool = false
    ) throws -> ComparisonRecord {
      let source = try fixture.source()
      let subject = Comparison.Subject(
        source: source, windows: try fixture.goldenSequences().prefix(windowCount).map { TokenSequence($0) },
        tasks: tasks, comparesSites: comparesSites, threadCount: 2)
      let setting = try #require(ConversionSetting(setting))
      let comparison = try Comparison(
        subject, in: ComparisonFolder(path: folder), conversion: options, program: program)
      return try comparison.run(
        methods.map { ComparisonRow(method: $0, setting: setting) }, keepsFiles: keepsFiles,
        convert: { row, path in
          if row.method == end { throw Killed() }
          self.converted.append(row.method)
          var options = ConversionOptions()
          try row.setting.apply(to: &options)
          options.methods = try row.methods
          options.threadCount = 2
          // Methods that need text are refused here.
          try Converter(Conversion(source, options: options).plan()).run(to: path, force: true)
          return (1, 2)
        }, publish: { _ in })
    }

    /// Names of what lies in the folder, but for its lock.
    var files: [String] {
      get throws {
        try FileManager.default.subpathsOfDirectory(atPath: folder).filter { $0 != ".lock" && $0 != "rows" }.sorted()
      }
    }
  }

  @Test func aRunThatEndsGoesOnWithTheRowsThatAreMissing() throws {
    try withTemporaryFolder { folder in
      let methods = ["per-token", "hadamard", "weights-only"]
      let first = Bench(folder + "/c")
      #expect(throws: Killed.self) { try first.run(methods, endingAt: "hadamard") }
      #expect(first.converted == ["per-token"])
      // The source's figures, and one row's.
      #expect(try first.files.count == 2)
      let second = Bench(folder + "/c")
      let result = try second.run(methods)
      #expect(second.converted == ["hadamard", "weights-only"])
      #expect(result.entries.allSatisfy { $0.outcome.figures != nil })
      let third = Bench(folder + "/c")
      let again = try third.run(methods)
      #expect(third.converted.isEmpty)
      #expect(again.json == result.json)
      let all = Bench(folder + "/d")
      let whole = try all.run(methods)
      for (one, other) in zip(whole.entries, result.entries) {
        #expect(one.outcome.figures?.perplexity == other.outcome.figures?.perplexity)
        #expect(one.outcome.figures?.divergence == other.outcome.figures?.divergence)
        #expect(one.outcome.figures?.byteCount == other.outcome.figures?.byteCount)
      }
      #expect(try third.files.allSatisfy { $0.hasPrefix("rows/") && $0.hasSuffix(".json") })
    }
  }

  @Test func otherOptionsAreOtherRows() throws {
    try withTemporaryFolder { folder in
      let one = Bench(folder)
      _ = try one.run(["per-token"])
      let files = try one.files
      let other = Bench(folder, options: .object(["embeddingBits": .integer(16)]))
      _ = try other.run(["per-token"])
      #expect(other.converted == ["per-token"])
      let setting = Bench(folder)
      _ = try setting.run(["per-token"], setting: "w8a6")
      #expect(setting.converted == ["per-token"])
      let option = Bench(folder)
      _ = try option.run(["hadamard,block=32"])
      #expect(option.converted == ["hadamard,block=32"])
      // The first row is as it was.
      let again = Bench(folder)
      _ = try again.run(["per-token"])
      #expect(again.converted.isEmpty)
      #expect(try again.files.count == files.count + 3)
      #expect(Set(files).isSubset(of: try again.files))
    }
  }

  /// All that decides about figures is in the key: each of these is another row.
  @Test func otherSubjectsAreOtherRows() throws {
    try withTemporaryFolder { folder in
      let (data, renamed) = (folder + "/a.jsonl", folder + "/b.jsonl")
      let item = #"{"context": "The sky is", "choices": ["blue", "loud"], "answer": 0}"#
      for path in [data, renamed] { try Data((item + "\n").utf8).write(to: URL(fileURLWithPath: path)) }
      func task(_ path: String, limit: Int? = nil) -> [ComparedTask] {
        [ComparedTask(name: "multiple_choice", path: path, limit: limit)]
      }
      func benches() -> [Bench] {
        let folder = folder + "/c"
        return [
          Bench(folder), Bench(folder, windowCount: 1), Bench(folder, comparesSites: true), Bench(folder, program: "q"),
          Bench(folder, tasks: task(data)), Bench(folder, tasks: task(renamed)),
          Bench(folder, tasks: task(data, limit: 1)),
        ]
      }
      for bench in benches() {
        _ = try bench.run(["per-token"])
        #expect(bench.converted == ["per-token"])
      }
      for bench in benches() {
        _ = try bench.run(["per-token"])
        #expect(bench.converted.isEmpty)
      }
      // The same file with other questions.
      try Data((item + "\n" + item + "\n").utf8).write(to: URL(fileURLWithPath: data))
      let other = Bench(folder + "/c", tasks: task(data))
      _ = try other.run(["per-token"])
      #expect(other.converted == ["per-token"])
    }
  }

  @Test func tasksAreCalledAfterTheirData() {
    func title(_ path: String) -> String { ComparedTask(name: "piqa", path: path).title }
    #expect(title("x/piqa.jsonl") == "piqa" && title("piqa.train.jsonl") == "piqa piqa.train.jsonl")
    #expect(title("other.jsonl") == "piqa other.jsonl")
  }

  /// A row whose file is wanted and not there is made again; one conversion in two rows is made once.
  @Test func filesAreMadeWhereTheyAreMissing() throws {
    try withTemporaryFolder { folder in
      let first = Bench(folder)
      _ = try first.run(["hadamard,block=32", "hadamard,block=32"])
      #expect(first.converted == ["hadamard,block=32"])
      let second = Bench(folder)
      _ = try second.run(["hadamard,block=32"], keepsFiles: true)
      #expect(second.converted == ["hadamard,block=32"])
      let third = Bench(folder)
      _ = try third.run(["hadamard,block=32"], keepsFiles: true)
      #expect(third.converted.isEmpty)
      #expect(try third.files.count { $0.hasPrefix("files/hadamard") } == 1)
    }
  }

  @Test func aRowThatCannotBeHadSaysWhy() throws {
    try withTemporaryFolder { folder in
      let bench = Bench(folder)
      let result = try bench.run(["outliertune", "per-token"])
      guard case .refused(let refusal) = result.entries[0].outcome else {
        Issue.record("the first row was made")
        return
      }
      #expect(refusal.rule == "statistics-missing")
      #expect(result.entries[1].outcome.figures != nil && result.hasFigures)
      let table = ComparisonTable(result)
      #expect(table.refusals.keys.sorted() == [1])
      #expect(table.markdown.contains("[statistics-missing]"))
      // It is not taken for finished.
      let again = Bench(folder)
      _ = try again.run(["outliertune", "per-token"])
      #expect(again.converted == ["outliertune"])
    }
  }

  @Test func aDamagedRowIsMadeAgain() throws {
    try withTemporaryFolder { folder in
      let bench = Bench(folder)
      let result = try bench.run(["per-token"])
      for name in try bench.files { try Data("{\"key\": 1".utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name)")) }
      let again = Bench(folder)
      let repaired = try again.run(["per-token"])
      #expect(again.converted == ["per-token"])
      #expect(repaired.entries[0].outcome.figures?.divergence == result.entries[0].outcome.figures?.divergence)
    }
  }

  @Test func filesAreKeptWhereAskedFor() throws {
    try withTemporaryFolder { folder in
      let bench = Bench(folder)
      _ = try bench.run(["hadamard,block=32"], keepsFiles: true)
      let kept = try bench.files.filter { $0.hasPrefix("files/") }
      #expect(kept.count == 1 && kept[0].hasPrefix("files/hadamard_block_32-w8a8-") && kept[0].hasSuffix(".otq"))
      #expect(try PackedModel(path: "\(folder)/\(kept[0])").graph != nil)
    }
  }

  @Test func oneProcessWritesToAFolder() throws {
    try withTemporaryFolder { folder in
      let first = try ComparisonFolder(path: folder)
      #expect { try ComparisonFolder(path: folder) } throws: { ($0 as? Refusal)?.rule == "compare-busy" }
      // It holds the folder until here.
      #expect(first.path == folder)
      #expect { try ComparisonFolder(path: "/proc/none") } throws: { ($0 as? Refusal)?.rule == "compare-folder" }
    }
  }

  @Test(arguments: [
    ("Q6_K=6.56bpw,0.029", Peer.Size.bitsPerWeight(6.56), 0.029), ("a=b=137MB,0", .byteCount(137_000_000), 0),
  ]) func peers(_ text: String, _ size: Peer.Size, _ divergence: Double) throws {
    let peer = try #require(Peer(text))
    #expect(peer.size == size && peer.divergence == divergence)
  }

  @Test(arguments: ["", "x", "=1bpw,2", "a=1bpw", "a=1bpw,-1", "a=1bpw,nan", "a=,1", "a=1bpw,2,3"])
  func noPeers(_ text: String) { #expect(Peer(text) == nil) }

  @Test func figuresAreReadAsTheyWereWritten() throws {
    var figures = RowFigures()
    figures.byteCount = 7
    figures.perplexity = .infinity
    figures.perplexityRatio = 1.5
    figures.divergence = .init(mean: 0.25, percentile99: 1, maximum: 2, top1Agreement: 0.5)
    figures.similarities = [.init(output: "hidden", mean: 0.5, minimum: -1)]
    figures.tasks = [
      TaskFigures(name: "a b", figures: [.init(name: "accuracy", value: 0.75, standardError: 0.125)], answers: "10-1")
    ]
    var site = SiteFigures(
      producer: "p", consumers: ["q"], activationScheme: "float", weightScheme: "float",
      ranges: ChannelRanges(minima: [-1, 0], maxima: [1, 2]),
      shiftedRanges: ChannelRanges(minima: [-2, 0], maxima: [1, 2]),
      scaledRanges: ChannelRanges(minima: [-4, 0], maxima: [1, 2]), isShifted: true, isScaled: true)
    site.output.squaredError = 0.5
    site.untransformed = SiteFigures.Error()
    figures.sites = [site]
    let json = try JSONValue.parse(figures.json.text())
    let read = try #require(RowFigures(json: json))
    // What JSON cannot hold is not a number.
    #expect(read.perplexity?.isNaN == true && read.perplexityRatio == 1.5)
    #expect(read.divergence == figures.divergence && read.tasks == figures.tasks && read.byteCount == 7)
    #expect(read.sites[0].scaledRanges == site.scaledRanges && read.sites[0].output == site.output)
    #expect(read.json == json)
    #expect(RowFigures(json: .object([:])) == nil)
  }
}
