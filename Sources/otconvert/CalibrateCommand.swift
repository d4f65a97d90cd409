import ArgumentParser
import Foundation
import OTCheckpoint
import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQ

struct CalibrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract: "Measure the activations of a model on text, for 'convert --statistics'.",
    discussion: """
      Writes minimum, maximum, summed midpoint and count of samples per channel of
      every site, and on what they were measured. Samples of tokens are taken at
      random places, which --seed decides.

      EXAMPLES
        otconvert calibrate llama/ --text pile.jsonl.zst -o stats.safetensors
        otconvert calibrate llama/ --text a.txt b.txt --samples 256 \\
          --length 1024 -o stats.safetensors
        otconvert calibrate llama/ --ids ids.safetensors -o stats.safetensors
        otconvert calibrate --merge one.safetensors two.safetensors \\
          -o stats.safetensors
        otconvert calibrate llama/ --text pile.jsonl.zst -o stats.safetensors \\
          --part 3 --of 8
        otconvert calibrate --merge stats.safetensors.part-* -o stats.safetensors

      With --of, this run takes its share of the samples and writes OUT.part-N; parts
      that are merged give what one machine gives, bit for bit. In an array job of
      Slurm, of as many tasks, --part can be left out.
      """)

  @Argument(help: "The checkpoint.", completion: .file()) var model: String?
  @OptionGroup(title: "Calibration") var calibration: CalibrationArguments
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp("Files of statistics of one model, to be put together.", valueName: "file"),
    completion: .file())
  var merge: [String] = []
  @Option(name: .shortAndLong, help: ArgumentHelp("The file to write.", valueName: "file"), completion: .file())
  var output: String
  @OptionGroup(title: "Parts") var share: ShareArguments
  @Option(help: ArgumentHelp("Model family, where config.json has no model_type.", valueName: "name"))
  var family: String?
  @Flag(help: "Replace the output if it exists.") var force = false
  @OptionGroup var going: ResumeArguments
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    if merge.isEmpty {
      guard model != nil else { throw ValidationError("Missing the checkpoint, or --merge with files.") }
      guard calibration.sampled.isGiven else {
        throw ValidationError("Give either --text with files of text or --ids with a file of tokens.")
      }
    } else {
      guard model == nil, !calibration.sampled.isGiven else {
        throw ValidationError("--merge takes files of statistics alone.")
      }
      guard merge.count > 1 else { throw ValidationError("--merge needs two files or more.") }
      guard !share.isGiven else { throw ValidationError("--merge needs no --part.") }
      guard !going.resume else { throw ValidationError("--merge takes seconds: there is nothing to --resume.") }
    }
    if let family, !Families.all.contains(where: { $0.name == family }) {
      throw ValidationError("--family must be one of \(Families.all.map { $0.name }.joined(separator: ", ")).")
    }
  }

  func run() throws {
    let start = Date()
    let share = try self.share.share()
    let output = share.map { "\(self.output).part-\($0.number)" } ?? self.output
    let statistics: ModelObservations
    var inputs = calibration.sampled.inputs + FileIdentity.all(merge)
    let source = try model.map { try SourceModel(path: $0, family: family) }
    inputs += source?.checkpoint.inputs ?? []
    let resumes = going.resume
    var work = try source.flatMap {
      resumes && ResumableWork.isBegun(on: output) ? try resumable($0, on: output, share) : nil
    }
    if let work, work.isFinished {
      work.end()
      let made = try StatisticsPart(path: output)?.observations ?? ModelObservations(path: output)
      return try report(made, in: output, seconds: Date().timeIntervalSince(start))
    }
    // Before time goes into what cannot be written.
    try AtomicFile.check([output], force: force, inputs: inputs)
    if resumes, work == nil { work = try source.map { try resumable($0, on: output, share) } }
    statistics = try source.map { try measure($0, share, work) } ?? merged()
    if let share {
      try StatisticsPart(statistics, share)
        .write(to: output, producer: Converter.producer, force: force, inputs: inputs) { try work?.willFinish($0) }
    } else {
      try statistics.write(to: output, producer: Converter.producer, force: force, inputs: inputs) {
        try work?.willFinish($0)
      }
    }
    work?.end()
    try report(statistics, in: output, seconds: Date().timeIntervalSince(start))
  }

  private func merged() throws -> ModelObservations {
    let parts = try merge.compactMap(StatisticsPart.init(path:))
    if parts.count == merge.count { return try StatisticsPart.merged(parts) }
    guard parts.isEmpty else {
      throw Refusal(
        "statistics-parts", "parts of one calibration and whole statistics are not put together at once",
        file: merge[0], remedy: "merge the parts first")
    }
    let first = try ModelObservations(path: merge[0])
    return try merge.dropFirst().reduce(first) { try $0.merged(with: ModelObservations(path: $1)) }
  }

  /// The work that is gone on with, or begun.
  private func resumable(_ source: SourceModel, on output: String, _ share: WorkShare?) throws -> ResumableWork {
    let sampled = calibration.sampled
    var sources = source.checkpoint.files.map { ($0.name, $0.mapped.identity) }
    for kind in ModelAttachments.Kind.allCases {
      if let file = source.attachments[kind] { sources.append((kind.rawValue, file.identity)) }
    }
    for path in sampled.paths + [sampled.ids].compactMap({ $0 }) {
      if let identity = FileIdentity(path: path) { sources.append((path, identity)) }
    }
    var options: JSONObject = [
      "text": .array(sampled.paths.map { .string($0) }), "text-field": .string(sampled.field),
      "ids": sampled.ids.map { .string($0) } ?? .null, "tensor": sampled.tensor.map { .string($0) } ?? .null,
      "samples": .integer(sampled.sampleCount), "length": sampled.length.map { .integer($0) } ?? .null,
      "seed": .string("\(sampled.seed)"), "family": family.map { .string($0) } ?? .null,
    ]
    options["part"] = share.map { .string("\($0.number) of \($0.count)") }
    return try ResumableWork(
      on: output, .init("calibrate", program: Converter.producer, sources: sources, options: options))
  }

  private func measure(_ source: SourceModel, _ share: WorkShare?, _ work: ResumableWork?) throws -> ModelObservations {
    let checkpoint = source.checkpoint
    checkpoint.warnings.forEach(messages.warn)
    let digests = SourceDigests(
      checkpoint.files.map { ($0.name, $0.mapped) }, threadCount: threads.threads)
    // Also when something is refused: the program must not end under the thread.
    defer { digests.cancel() }
    let graph = try source.graph()
    let settings = calibration.settings(threadCount: threads.threads)
    var samples = try self.samples(source, graph, settings)
    if let text = samples.note { messages.warn(text) }
    do {
      try settings.check(samples)
    } catch let refusal as Refusal {
      // Not refused: statistics of several runs are merged.
      messages.warn("\(refusal.message); 'convert' refuses these statistics unless they are merged with others")
    }
    if let share { samples = try samples.part(share) }
    let progress = messages.progress("calibrating", unit: WorkStage.calibrating.unit)
    let statistics = try settings.run(
      on: source, samples: samples, kinds: share == nil ? [.ranges] : [.sampleRanges], share: share, keptBy: work,
      progress: progress.update)
    let sources = try digests.records()
    try checkpoint.verifyUnchanged()
    return ModelObservations(
      family: statistics.family, sources: sources, runs: statistics.runs, sites: statistics.sites)
  }

  private func samples(
    _ source: SourceModel, _ graph: Graph, _ settings: Calibration
  ) throws -> Calibration.Samples {
    if let tokens = try calibration.sampled.tokens(graph) { return tokens }
    guard let tokenizer = try Model.source(source).tokenizer() else {
      throw Refusal(
        "tokenizer-missing", "has no tokenizer beside it, so that text cannot be read", file: model,
        remedy: "put the model's tokenizer.json beside it, or give tokens with --ids")
    }
    return try settings.samples(tokenizer: tokenizer, graph: graph)
  }

  private func report(_ statistics: ModelObservations, in output: String, seconds: Double) throws {
    let channelCount = statistics.sites.values.reduce(0) { $0 + ($1.channelCount ?? 0) }
    try messages.result(
      "\(output): \(statistics.sites.count) sites, \(channelCount) channels, \(statistics.sampleCount) samples, "
        + "\(fixed(seconds, 2)) s",
      json: .object([
        "file": .string(output), "family": .string(statistics.family), "sites": .integer(statistics.sites.count),
        "channels": .integer(channelCount), "samples": .integer(statistics.sampleCount),
        "runs": .array(statistics.runs.map(\.json)), "sources": .array(statistics.sources.map(\.json)),
        "seconds": .number(seconds),
      ]))
  }
}
