import OTCheckpoint
import OTContainer
import OTConversion
import OTFoundation
import OTJSON
import OTModel

/// A conversion of a checkpoint to an `.otq` file, from its options to the file.
package struct ConvertWork: Sendable {
  private let input: String
  private let output: String
  private let options: ConvertOptions

  /// - Throws: ``Refusal`` for options that are wrong: `option-…`, `method-…`, `rounding-…`.
  package init(_ input: String, to output: String, _ options: ConvertOptions) throws(Refusal) {
    try options.check()
    try options.checkUseOfText()
    (self.input, self.output, self.options) = (input, output, options)
  }

  /// What came of it.
  package struct Outcome: Sendable {
    /// Sizes of the file.
    package let summary: FileSummary
    /// Names of the methods, joined by `+`.
    package let methodName: String
    /// Seconds of the conversion.
    package let seconds: Double
    /// Seconds of the calibration before it; nil: there was none.
    package let calibrationSeconds: Double?
    /// Seconds of all threads by stage.
    package let stages: [(name: String, seconds: Double)]
    /// Bytes of source in a second.
    package let bytesPerSecond: Int
    /// The file beside its source; nil: it was not asked for, or cannot be had.
    package let heldOut: HeldOutText?
    /// The bits that were found, where they were searched for.
    package let settings: WeightSettings?
    /// What was measured of what is required; nil: nothing was.
    package let judgement: Judgement?
    /// The settings that did not hold it.
    let tried: [(settings: String, judgement: Judgement)]

    /// Sizes and times.
    package var json: JSONValue { summary.totals(adding: times) }

    /// `seconds`, `stages`, `calibrationSeconds`, `heldOut` and `requirements`.
    package var times: JSONObject {
      var times: JSONObject = ["seconds": .number(seconds)]
      times["stages"] = .object(stages.reduce(into: JSONObject()) { $0[$1.name] = .number($1.seconds) })
      if let calibrationSeconds { times["calibrationSeconds"] = .number(calibrationSeconds) }
      if let heldOut { times["heldOut"] = heldOut.json }
      times["requirements"] = judgement?.record(tried: tried)
      return times
    }
  }

  /// Converts.
  ///
  /// - Parameter comparesHeldOut: whether the file is run beside its source before it appears.
  /// - Throws: `Refusal` as every stage throws, with rule `require-failed` where the file does not hold what is
  ///   required, and what the observer throws.
  package func run(_ observer: WorkObserver, comparesHeldOut: Bool = true) throws -> Outcome {
    let model = try SourceModel(path: input, family: options.family)
    let inputs =
      model.checkpoint.inputs + FileIdentity.all(options.statisticsPaths) + options.text.inputs
      + options.requirements.inputs
    var course = Course()
    if options.resumes, ResumableWork.isBegun(on: output) { course.work = try resumable(model) }
    // Before time goes into calibrating for a file that cannot be written. What stands since its process ended just then
    // is not written again.
    let outputs = course.work?.isFinished == true ? [] : [output]
    try AtomicFile.check(
      outputs + (options.savedRecipe.map { [$0] } ?? []), force: options.replacesOutput, inputs: inputs)
    try options.requirements.checkFiles()
    if options.resumes, course.work == nil { course.work = try resumable(model) }
    func finished(_ written: Written) throws -> Outcome {
      try outcome(of: written, course, inputs: inputs, observer)
    }
    course.comparesHeldOut = comparesHeldOut
    if options.requirements.until.isEmpty { return try finished(write(model, options, &course, observer)) }
    for settings in options.ladder {
      course.settings = settings
      do {
        return try finished(write(model, options.with(settings), &course, observer))
      } catch let refusal as Refusal where refusal.rule == "require-failed" {
        guard let judgement = course.judgement else { throw refusal }
        observer.note("\(settings): \(judgement.text)")
        course.tried.append((settings.description, judgement))
      }
    }
    throw Refusal(
      "require-failed",
      "no file holds what is required, and none is written: with \(course.tried.last?.settings ?? "no bits"), "
        + (course.judgement?.text ?? ""), file: output, remedy: options.remedy(hasSearched: true))
  }

  /// The work that is gone on with, or begun.
  ///
  /// - Throws: as `ResumableWork`.
  private func resumable(_ model: SourceModel) throws -> ResumableWork {
    var sources = model.checkpoint.files.map { ($0.name, $0.mapped.identity) }
    for kind in ModelAttachments.Kind.allCases {
      if let file = model.attachments[kind] { sources.append((kind.rawValue, file.identity)) }
    }
    for path in options.statisticsPaths + options.text.paths + [options.text.ids].compactMap({ $0 }) {
      if let identity = FileIdentity(path: path) { sources.append((path, identity)) }
    }
    // All of them but those that decide about nothing in the file.
    let others = ["threadCount", "maximumByteCount", "replacesOutput", "savedRecipe", "resumes"]
    let all = Mirror(reflecting: options).children.reduce(into: JSONObject()) { all, option in
      guard let name = option.label, !others.contains(name) else { return }
      all[name] = .string("\(option.value)")
    }
    return try ResumableWork(
      on: output, .init("convert", program: Converter.producer, sources: sources, options: all))
  }

  /// What the conversions of one model share, and come to.
  private struct Course {
    var work: ResumableWork?
    var comparesHeldOut = false
    var calibrated: CalibratedPlan?
    var calibrationSeconds: Double?
    var gate: Gate?
    var settings: WeightSettings?
    var judgement: Judgement?
    var heldOut: HeldOutText?
    var tried: [(settings: String, judgement: Judgement)] = []
  }

  /// A conversion that has been carried out.
  private struct Written {
    let plan: ConversionPlan
    let outcome: Converter.Outcome
    let seconds: Double
  }

  /// Carries out one conversion; the file holds what is required, or is not there.
  private func write(
    _ model: SourceModel, _ options: ConvertOptions, _ course: inout Course, _ observer: WorkObserver
  ) throws -> Written {
    var start = ContinuousClock.now
    let conversion = try options.conversion(of: model, beside: output)
    if course.calibrated == nil { conversion.warnings.forEach(observer.warn) }
    let calibrated = try CalibratedPlan(
      of: conversion, options, beside: output, holdingOut: HeldOutText.sampleCount, keptBy: course.work,
      keepsObservations: course.settings != nil, given: course.calibrated, observer)
    course.calibrated = calibrated
    let plan = calibrated.plan
    // Before the file is written: what cannot be kept is refused at once.
    if options.savedRecipe != nil { _ = try plan.recipe(sources: []) }
    if calibrated.samples != nil {
      course.calibrationSeconds = (course.calibrationSeconds ?? 0) + (ContinuousClock.now - start) / .seconds(1)
    }
    if course.gate == nil {
      course.gate = try options.requirements.gate(
        plan, heldOut: calibrated.samples, threadCount: options.threads, observer)
    }
    start = .now
    var end: ContinuousClock.Instant?
    var judgement: Judgement?
    var heldOut: HeldOutText?
    defer { (course.judgement, course.heldOut) = (judgement, heldOut) }
    let (gate, tried, comparesHeldOut) = (course.gate, course.tried, course.comparesHeldOut)
    // Also what only informs comes before the file appears: whoever ends it is to find nothing.
    let approve = { (path: String) throws -> JSONObject in
      end = .now
      judgement = try gate?.judge(path, name: output, observer)
      if let judgement, !judgement.holds {
        throw judgement.refusal(file: output, remedy: options.remedy(hasSearched: false))
      }
      if comparesHeldOut {
        heldOut = try compare(path, plan, calibrated.samples, judgement, observer)
      }
      return judgement.map { ["requirements": $0.record(tried: tried)] } ?? [:]
    }
    let outcome = try Converter(plan).run(
      to: output, force: options.replacesOutput, keptBy: course.work, progress: observer.begin(.converting),
      approving: gate == nil && !comparesHeldOut ? nil : approve)
    return Written(plan: plan, outcome: outcome, seconds: ((end ?? .now) - start) / .seconds(1))
  }

  private func outcome(
    of written: Written, _ course: Course, inputs: [FileIdentity], _ observer: WorkObserver
  ) throws -> Outcome {
    let plan = written.plan
    written.outcome.warnings.forEach(observer.warn)
    let file = try PackedModel(path: output)
    try saveRecipe(of: plan, file, inputs: inputs)
    plan.budgetWarning(of: file).map(observer.warn)
    return Outcome(
      summary: FileSummary(file), methodName: plan.methodName, seconds: written.seconds,
      calibrationSeconds: course.calibrationSeconds, stages: written.outcome.times.stages,
      bytesPerSecond: Int(Double(plan.estimate.sourceByteCount) / max(written.seconds, 1e-9)),
      heldOut: course.heldOut, settings: course.settings, judgement: course.judgement, tried: course.tried)
  }

  /// The file beside its source on samples that were held out, measured once.
  ///
  /// - Parameter path: of the file, which does not have its name yet.
  /// - Throws: as executors throw, and what the observer throws.
  private func compare(
    _ path: String, _ plan: ConversionPlan, _ samples: Calibration.Samples?, _ judgement: Judgement?,
    _ observer: WorkObserver
  ) throws -> HeldOutText? {
    guard let samples, !samples.heldOut.isEmpty else { return nil }
    if options.requirements.isGiven, options.requirements.usesHeldOut {
      return judgement?.finding.map { HeldOutText($0, count: samples.heldOut.count) }
    }
    return try PackedModel.unfinished(path, named: output) { file in
      try HeldOutText(samples, plan: plan, file: file, threadCount: options.threads, observer)
    }
  }

  /// Keeps what was decided; the digests of the model's files are those that the conversion took.
  private func saveRecipe(of plan: ConversionPlan, _ file: PackedModel, inputs: [FileIdentity]) throws {
    guard let path = options.savedRecipe else { return }
    let sources = file.container.metadata["sources"]?.array ?? []
    let records = sources.prefix(plan.checkpoint.files.count).compactMap(FileRecord.init(json:))
    try plan.recipe(sources: records).write(
      to: path, producer: Converter.producer, force: options.replacesOutput, inputs: inputs)
  }
}

/// The result of a conversion.
public struct ConvertResult: Sendable, Hashable {
  /// The file that was written.
  public let path: String
  /// Its bytes.
  public let byteCount: Int
  /// Bits per weight of the blocks' linears in the file, scales and zero points included.
  public let linearBitsPerWeight: Double
  /// The methods that decided, joined by `+`.
  public let method: String
  /// What the user should know, a line each.
  public let warnings: [String]
  /// What `otconvert convert --json` prints, `method` and `warnings` beside it.
  public let json: String
}

extension ModelFile {
  /// Converts a checkpoint to an `.otq` file, which appears whole or not at all.
  ///
  /// ```swift
  /// var options = ConvertOptions()
  /// options.bits = 6
  /// for try await step in try ModelFile.convert("llama/", to: "llama.otq", options: options) {
  ///   switch step {
  ///   case .progress(let progress): print(progress.stage, progress.fraction)
  ///   case .finished(let result): print(result.path, result.byteCount)
  ///   }
  /// }
  /// ```
  ///
  /// - Parameters:
  ///   - checkpoint: path of a file of safetensors, PyTorch or GGUF, of the index of a sharded checkpoint, or of a
  ///     folder in the layout of Hugging Face.
  ///   - path: of the file to write.
  ///   - options: how to convert.
  /// - Returns: the work, which begins when it is iterated; it throws ``Refusal`` with the readers' rules or
  ///   `family-…`, `graph-…`, `calibration-…`, `statistics-…`, `weight-…`, `output-…` or `cancelled`.
  /// - Throws: ``Refusal`` with a rule `option-…`, `method-…` or `rounding-…` for options that are wrong.
  public static func convert(
    _ checkpoint: String, to path: String, options: ConvertOptions = ConvertOptions()
  ) throws(Refusal) -> FileWork<ConvertResult> {
    let work = try ConvertWork(checkpoint, to: path, options)
    return FileWork { try work.result($0) }
  }
}

extension ConvertWork {
  /// Converts, and gathers warnings.
  ///
  /// - Throws: as `run`.
  package func result(_ observer: WorkObserver, comparesHeldOut: Bool = true) throws -> ConvertResult {
    let gathering = GatheringObserver(observer)
    let outcome = try run(gathering.observer, comparesHeldOut: comparesHeldOut)
    outcome.heldOut?.warnings.forEach(gathering.observer.warn)
    var members = outcome.times
    members["method"] = .string(outcome.methodName)
    members["warnings"] = .array(gathering.warnings.map { .string($0) })
    return ConvertResult(
      path: output, byteCount: outcome.summary.file.container.file.byteCount,
      linearBitsPerWeight: outcome.summary.file.linearBitsPerWeight, method: outcome.methodName,
      warnings: gathering.warnings, json: outcome.summary.totals(adding: members).text(pretty: true))
  }
}
