import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTRuntime
import OTText
import OTVerify

/// A comparison of an `.otq` file with its source, from its options to the report.
package struct VerifyWork: Sendable {
  private let path: String
  private let reference: String?
  private let options: VerifyOptions

  /// Tokens of a sequence, unless told otherwise or a model reads fewer.
  private static let standardLength = 256

  /// - Throws: ``Refusal`` for options that are wrong: `option-…`.
  package init(_ path: String, reference: String?, _ options: VerifyOptions) throws(Refusal) {
    try options.check(hasReference: reference != nil)
    (self.path, self.reference, self.options) = (path, reference, options)
  }

  /// Compares, and writes the files that are asked for.
  ///
  /// - Returns: nil without a reference, for a file that is undamaged.
  /// - Throws: `Refusal` as readers and executors throw, and what the observer throws; not for what is outside the
  ///   tolerance.
  package func run(_ observer: WorkObserver) throws -> VerificationReport? {
    let allowed = try options.tolerance.map { path in
      try Tolerance(named: path) ?? Tolerance(json: try JSONValue.parse(contentsOf: MappedFile(path: path)), file: path)
    }
    let file = try PackedModel(path: path)
    guard let reference else {
      try file.container.verify(threadCount: options.threads, progress: observer.begin(.verifying))
      return nil
    }
    let source = try file.comparable(
      SourceModel(path: reference, family: file.graph?.family), in: SystemFolder.temporary)
    let inputs =
      [file.container.file.identity] + source.checkpoint.inputs + options.text.inputs
      + FileIdentity.all([options.tolerance] + options.tasks.map(\.path))
    // Opened first, so that a long run does not end with a path that cannot be written.
    let outputs = try VerificationOutputs(options, inputs: inputs)
    let result = try report(on: file, source, reference, allowed ?? Tolerance(), observer)
    try outputs.write(result)
    return result
  }

  private func report(
    on file: PackedModel, _ source: SourceModel, _ reference: String, _ allowed: Tolerance, _ observer: WorkObserver
  ) throws -> VerificationReport {
    // Text and models first: what cannot be run is to be refused at once.
    let models = options.level == .weights && options.tasks.isEmpty ? nil : try self.models(file, source)
    let text = options.level == .weights ? nil : try models.map { try self.text(for: $0.packed, and: $0.source) }
    let findings = try models.map { try self.findings($0.packed, $0.source, observer) } ?? []
    let parts = try VerificationParts(
      options, file, source, sequences: text?.sequences,
      inputs: [file.container.file.identity] + source.checkpoint.inputs)
    var weights =
      try parts.merged?.weights
      ?? WeightVerification(
        of: file, reference: source, tolerance: allowed, threadCount: options.threads, share: options.share,
        progress: observer.begin(.verifying))
    let observed =
      try text.flatMap { text in
        try models.map { try parts.merged?.observed ?? self.observed(file, source, reference, $0, text, observer) }
      }
    try parts.write(weights, observed)
    var run: RunVerification?
    // A part of what is seen in running says nothing alone.
    if options.share == nil, let models, let text, let observed {
      let packed = models.packed.graph
      run = try RunVerification(
        observed.run, packed: packed, source: models.source.graph,
        weights: StoredWeights(graph: packed, container: file.container), sequences: text.sequences, file: path,
        tolerance: allowed)
      weights.add(outputErrors: observed.outputErrors, tolerance: allowed)
      run?.add(trials: file.container.metadata["method"]?["trials"])
      // Only the page shows them.
      if options.report != nil {
        run?.add(errors: try siteErrors(file, source, models, text.sequences, observer))
      }
    }
    var report = VerificationReport(
      path: path, files: try records([file.container.file] + source.checkpoint.files.map(\.mapped), observer),
      facts: FileSummary(file).facts, weights: weights, run: run,
      text: run.flatMap { run in
        text.map { .init(source: $0.name, sequenceCount: run.sequenceCount, tokenCount: run.tokenCount) }
      })
    report.tasks = findings
    return report
  }

  /// What both models give on the text, or on this part's share of it.
  private func observed(
    _ file: PackedModel, _ source: SourceModel, _ reference: String,
    _ models: (packed: LanguageModel, source: LanguageModel), _ text: (sequences: [TokenSequence], name: String),
    _ observer: WorkObserver
  ) throws -> VerificationParts.Observed {
    let progress = observer.begin(.running)
    let run = try Refusal.naming(reference) {
      try RunObservations(
        packed: models.packed.executor, source: models.source.executor, sequences: text.sequences, file: path,
        comparesOutputs: options.level == .model, share: options.share, threadCount: options.threads,
        progress: progress)
    }
    var errors: [String: OutputComparison.Errors] = [:]
    if let comparison = try OutputComparison(of: file, source: source, threadCount: options.threads) {
      let progress = observer.begin(.measuring)
      errors = try Refusal.naming(path) {
        try comparison.run(
          packed: models.packed.executor, float: models.source.executor,
          sequences: SiteAnalysis.sample(of: text.sequences), share: options.share, progress: progress)
      }
    }
    return .init(run: run, outputErrors: errors)
  }

  /// What quantization does at each site alone.
  private func siteErrors(
    _ file: PackedModel, _ source: SourceModel, _ models: (packed: LanguageModel, source: LanguageModel),
    _ sequences: [TokenSequence], _ observer: WorkObserver
  ) throws -> [String: SiteErrors] {
    let analysis = try SiteAnalysis(of: file, source: source, threadCount: options.threads)
    let sites = try analysis.run(
      packed: models.packed.executor, float: models.source.executor, sequences: SiteAnalysis.sample(of: sequences),
      progress: observer.begin(.measuring))
    return sites.reduce(into: [:]) { $0[$1.producer] = $1.errors }
  }

  /// What both models make of the tasks.
  private func findings(
    _ packed: LanguageModel, _ source: LanguageModel, _ observer: WorkObserver
  ) throws -> [TaskFinding] {
    try options.tasks.map { compared in
      let task = try EvaluationTask.named(compared.name)
      func outcome(_ model: LanguageModel) throws -> TaskOutcome {
        try model.evaluate(task, data: compared.path, limit: compared.limit, observing: observer.begin(.answering))
      }
      return TaskFinding(try TaskComparison(outcome(packed), reference: outcome(source)))
    }
  }

  private func models(_ file: PackedModel, _ source: SourceModel) throws -> (
    packed: LanguageModel, source: LanguageModel
  ) {
    (
      try LanguageModel(ModelFile(.packed(file)), threadCount: options.threads),
      try LanguageModel(ModelFile(.source(source)), threadCount: options.threads)
    )
  }

  /// Digests take a while, and only the page shows them.
  private func records(_ files: [MappedFile], _ observer: WorkObserver) throws -> [FileRecord] {
    guard options.report != nil else { return [] }
    let byteCount = files.reduce(0) { $0 + $1.byteCount }
    let progress = observer.begin(.verifying)
    var doneByteCount = 0
    return try files.map { file in
      defer { doneByteCount += file.byteCount }
      return try FileRecord(of: file) { try progress(doneByteCount, byteCount) }
    }
  }

  /// The sequences, and where they are from in words.
  ///
  /// - Throws: `Refusal` with rule `tokenizer-missing`, `ids-…` or `text-…`, or
  ///   as tokenizers throw.
  private func text(
    for packed: LanguageModel, and source: LanguageModel
  ) throws -> (sequences: [TokenSequence], name: String) {
    let graphs = [packed.graph, source.graph]
    let longest = graphs.compactMap(\.contextLength).min() ?? .max
    let text = options.text
    if let ids = text.ids {
      let tokens = try TokenWindows(
        path: ids, tensor: text.tensor, context: text.length, standard: Self.standardLength, option: "--length",
        limit: text.sampleCount, graphs: graphs)
      return (try tokens.unmasked, ids.lastPathComponent)
    }
    guard let tokenizer = try source.file.model.tokenizer() else {
      throw Refusal(
        "tokenizer-missing", "has no tokenizer beside it, so that text cannot be read", file: source.file.path,
        remedy: "put the model's tokenizer.json beside it, or give tokens with --ids")
    }
    var samples = TextSamples()
    (samples.paths, samples.field) = (text.paths, text.field)
    samples.count = text.sampleCount
    samples.length = text.length ?? min(Self.standardLength, longest)
    samples.seed = text.seed
    let drawn = try samples.draw(
      tokenizer: tokenizer, contextLength: source.contextLength, vocabularySize: source.vocabularySize)
    return (drawn.tokens.map { TokenSequence($0) }, samples.names.joined(separator: ", "))
  }

  /// Compares; the result says whether the file has passed.
  ///
  /// - Throws: as `run`.
  package func result(_ observer: WorkObserver) throws -> VerifyResult {
    guard let report = try run(observer) else {
      return VerifyResult(path: path, faults: [], notes: [], json: undamaged.text(pretty: true))
    }
    return VerifyResult(
      path: path, faults: report.faults, notes: report.weights.notes, json: report.json.text(pretty: true))
  }

  /// The result without a reference.
  package var undamaged: JSONValue { .object(["file": .string(path), "passed": .bool(true)]) }
}

/// The files that `verify` writes: opened early, whole or not at all.
private struct VerificationOutputs {
  private let report: AtomicFile?
  private let junit: AtomicFile?

  init(_ options: VerifyOptions, inputs: [FileIdentity]) throws {
    let force = options.replacesOutput
    try AtomicFile.check([options.report, options.junit].compactMap { $0 }, force: force, inputs: inputs)
    report = try options.report.map { try AtomicFile(path: $0, force: force, inputs: inputs) }
    junit = try options.junit.map { try AtomicFile(path: $0, force: force, inputs: inputs) }
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

extension TaskFinding {
  /// What a comparison of a packed model with its source shows.
  fileprivate init(_ comparison: TaskComparison) {
    self.init(
      task: comparison.outcome.task, data: comparison.outcome.data.lastPathComponent,
      itemCount: comparison.outcome.items.count,
      figures: comparison.outcome.figures.compactMap { figure in
        comparison.reference[figure.name].map {
          .init(name: figure.name, packed: figure.value, source: $0.value, standardError: figure.standardError)
        }
      },
      flips: comparison.mcNemarP.map {
        .init(gained: comparison.gainedCount, lost: comparison.lostCount, changed: comparison.changedCount, p: $0)
      })
  }
}
