import OTCheckpoint
import OTContainer
import OTExport
import OTFoundation
import OTGraph
import OTJSON
import OTKernels
import OTModel
import OTObservation

/// Carries out a plan: reads, transforms, quantizes, encodes and writes, block
/// by block, so that memory does not grow with the model.
package struct Converter: Sendable {
  /// Called on the converting thread with the bytes of source done and in all; what it throws ends the conversion.
  package typealias Progress = (_ doneByteCount: Int, _ totalByteCount: Int) throws -> Void

  /// The name and version that files carry.
  package static let producer = "otq \(programVersion)"

  /// The plan that is carried out.
  package let plan: ConversionPlan

  /// The course of a conversion.
  package struct Outcome: Sendable {
    /// The time of each phase.
    package let times: ConversionTimes
    /// Warnings for the user of what was found in the tensors, a line each.
    package let warnings: [String]
  }

  /// A converter for a plan.
  package init(_ plan: ConversionPlan) { self.plan = plan }

  /// Writes an `.otq` file; it appears whole or not at all.
  ///
  /// - Parameters:
  ///   - work: keeps what has been written, and has what an earlier process has written.
  ///   - approve: is given the path of the whole file before it appears, and gives members of its metadata;
  ///     what it throws leaves no file.
  /// - Throws: `Refusal` with a rule `output-…`, `weight-…`, `parameter-…` or `file-…`, and what `approve` throws.
  @discardableResult
  package func run(
    to path: String, force: Bool = false, keptBy work: ResumableWork? = nil, progress: Progress? = nil,
    approving approve: ((_ path: String) throws -> JSONObject)? = nil
  ) throws -> Outcome {
    if let work, work.isFinished {
      work.end()
      return Outcome(times: ConversionTimes(), warnings: [])
    }
    return try run(
      to: path, force: force, keptBy: work, progress: progress, approving: approve,
      freeByteCount: Converter.freeByteCount(in:))
  }

  /// The same with another way to ask a folder's file system for its free bytes.
  package func run(
    to path: String, force: Bool = false, keptBy work: ResumableWork? = nil, progress: Progress? = nil,
    approving approve: ((_ path: String) throws -> JSONObject)? = nil, freeByteCount: (_ folder: String) -> Int?
  ) throws -> Outcome {
    var output = ExportOutput(path: path, force: force, inputs: plan.inputs)
    output.compression = plan.options.compression
    let writer = OTQWriter(output)
    writer.approve = approve
    writer.work = work
    // What is there already needs no room.
    let keptByteCount = work?.keptByteCount ?? 0
    return try run(into: writer, progress: progress) { freeByteCount($0)?.addingChecked(keptByteCount) }
  }

  /// Writes by any writer.
  ///
  /// - Throws: as `run(to:)`, and as the writer refuses a model.
  @discardableResult
  package func run(
    into writer: some ModelWriter, progress: Progress? = nil,
    freeByteCount: (_ folder: String) -> Int? = Converter.freeByteCount(in:)
  ) throws -> Outcome {
    let files = plan.checkpoint.files.map { ($0.name, $0.mapped) }
    return try write(
      into: writer, hashing: files + Converter.otherSources(of: plan), progress: progress, freeByteCount: freeByteCount
    ) { sources in
      let own = sources.prefix(files.count).map(\.sha256)
      if let calibration = plan.calibration, calibration.file != nil { try calibration.check(sourceDigests: own) }
      try plan.keptRecipe?.check(sourceDigests: own)
      return metadata(sources: .array(sources.map(\.json)))
    }
  }

  /// The files that a packed file remembers beside those of the checkpoint: what is packed with it, and what said what
  /// is known of the sites.
  ///
  /// - Throws: as opening files throws.
  static func otherSources(of plan: ConversionPlan) throws -> [(name: String, file: MappedFile)] {
    try plan.attachedFiles { try $0.original($1) }
      + plan.statisticsPaths.map { ($0.lastPathComponent, try MappedFile(path: $0)) }
  }

  /// Writes what a writer takes.
  ///
  /// - Parameters:
  ///   - files: those whose digests are taken beside the work.
  ///   - record: given their records, gives what the output remembers.
  func write(
    into writer: some ModelWriter, hashing files: [(name: String, file: MappedFile)], progress: Progress?,
    freeByteCount: (_ folder: String) -> Int? = Converter.freeByteCount(in:),
    record: ([FileRecord]) throws -> JSONObject
  ) throws -> Outcome {
    let model = try plan.exported()
    let tensors = try writer.accept(model)
    try checkSpace(
      beside: writer.output.path, leastByteCount: writer.leastByteCount(of: tensors),
      freeByteCount)

    let digests = SourceDigests(files, threadCount: plan.options.threadCount)
    // Also when something is refused: the program must not end under the thread.
    defer { digests.cancel() }
    try writer.begin(tensors, of: model)
    var run = try ConversionRun(plan, tensors, into: writer, progress: progress)
    try run.writeTensors()
    let byteCount = run.totalByteCount
    let metadata = try record(digests.records { try progress?(byteCount, byteCount) })
    try plan.checkpoint.verifyUnchanged()
    var times = run.times
    times.hash = digests.time
    try timed(&times.write) { try writer.commit(metadata) }
    return Outcome(times: times, warnings: warnings(notFinite: run.notFinite))
  }

  private func warnings(notFinite names: [String]) -> [String] {
    guard let first = names.first else { return [] }
    let others = names.count > 1 ? ", as \(names.count - 1) others do" : ""
    return ["tensor '\(Refusal.printable(first))', which is not run, holds NaN or infinity\(others)"]
  }

  /// - Throws: `Refusal` with rule `output-no-space` when the file system has
  ///   clearly less room than the output will take.
  private func checkSpace(beside path: String, leastByteCount needed: Int, _ freeByteCount: (String) -> Int?) throws {
    guard let free = freeByteCount(path.parentPath) else { return }
    guard free >= needed else {
      throw Refusal(
        "output-no-space", "the file will take at least \(needed) bytes, \(free) are free", file: path,
        remedy: "free some space or write elsewhere")
    }
  }

  /// Free bytes of the folder's file system; nil when it does not say.
  package static func freeByteCount(in folder: String) -> Int? {
    FileSystem.freeByteCount(in: folder)
  }

  /// What a file remembers of its making.
  func metadata(sources: JSONValue) -> JSONObject {
    var record: JSONObject = [
      "producer": .string(Converter.producer),
      "sourceFormat": .string(plan.checkpoint.format.rawValue),
    ]
    record["sourceQuantization"] = plan.checkpoint.quantization.map { .string($0) }
    let rest: JSONObject = [
      "family": plan.graph.map { .string($0.family) } ?? .null,
      "method": .object(plan.methodRecord), "options": plan.options.json, "sources": sources,
      "graph": plan.graph?.json ?? .null,
    ]
    for (key, value) in rest.members { record[key] = value }
    return record
  }
}
