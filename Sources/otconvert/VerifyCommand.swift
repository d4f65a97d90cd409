import ArgumentParser
import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTProof
import OTQ
import OTRuntime
import OTVerify

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Compare an .otq file with its source: weights, layers, whole models.",
    discussion: """
      weights  recomputes every weight from the source: every tensor is accounted
               for, every weight is within half a step or at the end of its
               range (GPTQ's move further: signal to noise is judged), norms and biases agree to rounding; compares the graph,
               node by node, with the one that the source's family gives
      layers   also runs both models on text and compares the outputs of linears
               and norms; each model reads its own inputs, so errors are those
               that have accumulated
      model    also compares perplexity and next-token distributions, or
               sentence vectors

      Without --reference only the file's own checksums and quantized values are
      checked. With exit status 1 it names the tensors, layers and figures that
      are outside the tolerance.

      EXAMPLES
        otconvert verify model.otq --reference model.safetensors
        otconvert verify model.otq --reference model/ --level model \\
          --text wiki.txt --report report.html
        otconvert verify model.otq --reference model/ --level layers \\
          --ids ids.safetensors --junit verify.xml
        otconvert verify model.otq --reference model/ \\
          --tolerance tolerance.json --json
      where tolerance.json is, say,
        {"minimumSqnrDecibels": {"6": 25},
         "model": {"maximumPerplexityRatio": 1.02}}
      """)

  enum Level: String, ExpressibleByArgument, CaseIterable {
    case weights, layers, model
  }

  @Argument(help: "The .otq file.", completion: .file()) var input: String
  @Option(help: ArgumentHelp("The checkpoint it was made from.", valueName: "checkpoint"))
  var reference: String?
  @Option(help: "How deep to look; each level includes those before it.") var level = Level.weights
  @Option(
    help: ArgumentHelp(
      "Thresholds: \(Tolerance.names.joined(separator: ", ")), or a JSON file.", valueName: "name or file"),
    completion: .file())
  var tolerance: String?
  @OptionGroup(title: "Text to run the models on") var text: VerificationTextArguments
  @OptionGroup(title: "Tasks for both models") var tasks: TaskArguments
  @Option(help: ArgumentHelp("Write a report to look at: one HTML page.", valueName: "file"), completion: .file())
  var report: String?
  @Option(help: ArgumentHelp("Write the result for CI, as JUnit does.", valueName: "file"), completion: .file())
  var junit: String?
  @Flag(help: "Replace the files of --report and --junit if they exist.") var force = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func validate() throws {
    if reference == nil {
      guard tolerance == nil else { throw ValidationError("--tolerance needs --reference.") }
      guard level == .weights else { throw ValidationError("--level \(level.rawValue) needs --reference.") }
      guard report == nil, junit == nil else { throw ValidationError("--report and --junit need --reference.") }
    }
    guard tasks.task.isEmpty || reference != nil else { throw ValidationError("--task needs --reference.") }
    guard level != .weights || !text.isGiven else {
      throw ValidationError("--text and --ids are for --level layers or model.")
    }
  }

  func run() throws {
    let allowed = try tolerance.map { path in
      try Tolerance(named: path) ?? Tolerance(json: try JSONValue.parse(contentsOf: MappedFile(path: path)), file: path)
    }
    let file = try PackedModel(path: input)
    guard let reference else {
      try file.container.verify(threadCount: threads.threads)
      return try messages.result(
        "\(input): undamaged (not compared with a source: --reference)",
        json: .object(["file": .string(input), "passed": .bool(true)]))
    }
    let source = try file.comparable(
      SourceModel(path: reference, family: file.graph?.family), in: FileManager.default.temporaryDirectory.path)
    let inputs =
      [file.container.file.identity] + source.checkpoint.inputs + FileIdentity.all(text.text + [text.ids, tolerance])
    // Opened first, so that a long run does not end with a path that cannot be written.
    let outputs = try Outputs(report: report, junit: junit, force: force, inputs: inputs)
    let result = try verified(file, source, reference, allowed ?? Tolerance())
    try outputs.write(result)
    let text = VerificationText(result)
    try messages.result(text.text, json: result.json)
    // They are in the JSON.
    if !messages.json { result.weights.notes.forEach(messages.warn) }
    guard result.hasPassed else {
      let named = result.faults.prefix(8)
      let more = result.faults.count > 8 ? "; and \(result.faults.count - 8) more" : ""
      throw Refusal("verify-failed", named.joined(separator: "; ") + more, file: input)
    }
    try messages.print(text.verdict(reference: reference))
  }

  private func verified(
    _ file: PackedModel, _ source: SourceModel, _ reference: String, _ allowed: Tolerance
  ) throws -> VerificationReport {
    var run: RunVerification?
    var used: VerificationReport.Text?
    // Text and models first: what cannot be run is to be refused at once.
    let models = level == .weights && tasks.task.isEmpty ? nil : try models(file, source)
    let sequences =
      level == .weights ? nil : try models.map { try text.sequences(for: $0.packed, and: $0.source) }
    let findings = try models.map { try tasks.findings($0.packed, $0.source, messages) } ?? []
    let weights = try WeightVerification(
      of: file, reference: source, tolerance: allowed, threadCount: threads.threads,
      progress: messages.progress("verifying").update)
    if let models, let sequences {
      let progress = messages.progress("running", unit: .tokens)
      run = try Refusal.naming(reference) {
        try RunVerification(
          packed: models.packed.executor, source: models.source.executor,
          weights: StoredWeights(graph: models.packed.graph, container: file.container),
          sequences: sequences.sequences, file: input, comparesOutputs: level == .model, tolerance: allowed,
          threadCount: threads.threads, progress: progress.update)
      }
      run?.add(trials: file.container.metadata["method"]?["trials"])
      // Only the page shows them.
      if report != nil { run?.add(errors: try siteErrors(file, source, models, sequences.sequences)) }
      used = VerificationReport.Text(
        source: sequences.name, sequenceCount: sequences.sequences.count,
        tokenCount: sequences.sequences.reduce(0) { $0 + $1.tokenIDs.count })
    }
    let summary = FileSummary(file)
    var report = VerificationReport(
      path: input, files: try records([file.container.file] + source.checkpoint.files.map(\.mapped)),
      facts: summary.facts, weights: weights, run: run, text: used)
    report.tasks = findings
    return report
  }

  /// What quantization does at each site alone.
  private func siteErrors(
    _ file: PackedModel, _ source: SourceModel, _ models: (packed: LanguageModel, source: LanguageModel),
    _ sequences: [TokenSequence]
  ) throws -> [String: SiteErrors] {
    let progress = messages.progress("looking at sites", unit: .sites)
    let analysis = try SiteAnalysis(of: file, source: source, threadCount: threads.threads)
    let sites = try analysis.run(
      packed: models.packed.executor, float: models.source.executor, sequences: SiteAnalysis.sample(of: sequences),
      progress: progress.update)
    return sites.reduce(into: [:]) { $0[$1.producer] = $1.errors }
  }

  private func models(_ file: PackedModel, _ source: SourceModel) throws -> (
    packed: LanguageModel, source: LanguageModel
  ) {
    (
      try LanguageModel(ModelFile(.packed(file)), threadCount: threads.threads),
      try LanguageModel(ModelFile(.source(source)), threadCount: threads.threads)
    )
  }

  /// Digests take a while, and only the page shows them.
  private func records(_ files: [MappedFile]) throws -> [FileRecord] {
    guard report != nil else { return [] }
    return try files.map {
      FileRecord(name: $0.path.lastPathComponent, byteCount: $0.byteCount, sha256: try SHA256Digest.hex(of: $0))
    }
  }
}

/// The files that `verify` writes: opened early, whole or not at all.
private struct Outputs {
  private let report: AtomicFile?
  private let junit: AtomicFile?

  init(report: String?, junit: String?, force: Bool, inputs: [FileIdentity]) throws {
    try AtomicFile.check([report, junit].compactMap { $0 }, force: force, inputs: inputs)
    self.report = try report.map { try AtomicFile(path: $0, force: force, inputs: inputs) }
    self.junit = try junit.map { try AtomicFile(path: $0, force: force, inputs: inputs) }
  }

  func write(_ result: VerificationReport) throws {
    if let report {
      try report.append(HTMLReport(result).text.utf8)
      try report.commit()
    }
    if let junit {
      try junit.append(JUnitReport(result).text.utf8)
      try junit.commit()
    }
  }
}
