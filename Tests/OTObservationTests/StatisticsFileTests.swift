import Foundation
import OTCheckpoint
import OTConversion
import OTFoundation
import OTModel
import OTObservation
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite struct StatisticsFileTests {
  @Test func roundTrip() throws {
    let statistics = try CalibratorTests.statistics(.opt, [[2, 5, 9], [7, 8]])
    try withTemporaryFolder { folder in
      let path = folder + "/s.safetensors"
      let run = CalibrationRun(
        texts: [FileRecord(name: "a \"b\".txt", byteCount: 3, sha256: "00")], sampleCount: 2, length: 3, seed: .max)
      let written = ModelObservations(
        family: "opt", sources: statistics.sources, runs: [run], sites: statistics.sites)
      try written.write(to: path, producer: "test", force: false, inputs: [])
      let read = try ModelObservations(path: path)
      #expect(read.family == "opt" && read.sources == statistics.sources && read.runs == [run])
      #expect(read.sites == statistics.sites)
      let refusal = try #require(throws: Refusal.self) {
        try written.write(to: path, producer: "test", force: false, inputs: [])
      }
      #expect(refusal.rule == "output-exists")
    }
  }

  /// A file of the first program that wrote them: it is of the model's, and what is read of it is
  /// written again byte for byte.
  @Test func filesOfPreviousVersionsAreRead() throws {
    let path = Fixtures.path("previous-versions/statistics-1/llama.safetensors")
    let statistics = try ModelObservations(path: path)
    let source = try MappedFile(path: Fixtures.path("models/llama-mini/model.safetensors"))
    let graph = try SourceModel(path: source.path).graph()
    try statistics.check(against: graph, sources: [("other name", source.byteCount)])
    try statistics.check(sourceDigests: [SHA256Digest.hex(of: source)])
    #expect(statistics.sampleCount == 32 && statistics.runs.count == 1)
    try withTemporaryFolder { folder in
      try statistics.write(to: folder + "/s", producer: "otq 0.1.0", force: false, inputs: [])
      #expect(try contents(folder + "/s") == contents(path))
    }
  }

  struct Fault: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var metadata: [String: String] = [:]
    var minimum: [Float] = [-1, -2]
    var maximum: [Float] = [1, 2]
    var sum: [Double] = [0, 0.5]
    var count: Int64 = 2
    var names = ["a.min", "a.max", "a.midpoint_sum", "a.count"]
  }

  static let faults = [
    Fault(testDescription: "statistics-format", metadata: ["format": "pt"]),
    Fault(testDescription: "statistics-version", metadata: ["version": "2"]),
    Fault(testDescription: "statistics-damaged", metadata: ["sources": "[]"]),
    Fault(testDescription: "statistics-damaged", metadata: ["runs": "[{}]"]),
    Fault(testDescription: "json-", metadata: ["runs": "[{"]),
    Fault(testDescription: "statistics-damaged", minimum: [-1, .nan]),
    Fault(testDescription: "statistics-damaged", minimum: [-1, 3]),
    Fault(testDescription: "statistics-damaged", sum: [.infinity, 0]),
    Fault(testDescription: "statistics-damaged", sum: [0]),
    Fault(testDescription: "statistics-damaged", count: 0),
    Fault(testDescription: "statistics-damaged", names: ["a.min", "a.max", "a.midpoint_sum", "b.count"]),
    Fault(testDescription: "statistics-damaged", names: ["a.min", "a.mux", "a.midpoint_sum", "a.count"]),
  ]

  @Test(arguments: faults) func badFilesAreRefused(_ fault: Fault) throws {
    var metadata = [
      "format": "otq-statistics", "version": "1", "family": "opt",
      "sources": #"[{"name":"m","byteCount":1,"sha256":"0"}]"#, "runs": #"[{"texts":[],"samples":2,"length":3}]"#,
    ]
    metadata.merge(fault.metadata) { $1 }
    try withTemporaryFolder { folder in
      let path = folder + "/s.safetensors"
      func entry(_ index: Int, _ type: ElementType, _ dimensions: [Int]) throws -> SafetensorsWriter.Entry {
        .init(name: fault.names[index], elementType: type, shape: try #require(Shape(dimensions)))
      }
      var writer = try SafetensorsWriter(
        path: path,
        entries: [
          entry(0, .f32, [fault.minimum.count]), entry(1, .f32, [fault.maximum.count]),
          entry(2, .f64, [fault.sum.count]), entry(3, .i64, []),
        ], metadata: metadata)
      try fault.minimum.withUnsafeBytes { try writer.append($0) }
      try fault.maximum.withUnsafeBytes { try writer.append($0) }
      try fault.sum.withUnsafeBytes { try writer.append($0) }
      try withUnsafeBytes(of: fault.count) { try writer.append($0) }
      try writer.commit()
      let refusal = try #require(throws: Refusal.self) { try ModelObservations(path: path) }
      #expect(refusal.rule.hasPrefix(fault.testDescription), "\(refusal)")
    }
  }

  @Test func otherModelsAreRefused() throws {
    let statistics = try CalibratorTests.statistics(.opt, [[2, 5, 9]])
    let opt = try Fixture.opt.graph()
    let llama = try Fixture.llama.graph()
    try statistics.check(against: opt, sources: [("x", 1)])
    #expect(throws: Refusal.self) { try statistics.check(against: llama, sources: nil) }
    #expect(throws: Refusal.self) { try statistics.check(against: opt, sources: [("x", 2)]) }
    let fewer = ModelObservations(
      family: "opt", sources: statistics.sources, runs: statistics.runs,
      sites: statistics.sites.filter { $0.key != opt.sites[3].producer })
    #expect(throws: Refusal.self) { try fewer.check(against: opt, sources: nil) }
    try statistics.check(sourceDigests: ["opt"])
    #expect(throws: Refusal.self) { try statistics.check(sourceDigests: ["other"]) }
  }
}

/// The bytes of a file.
func contents(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }
