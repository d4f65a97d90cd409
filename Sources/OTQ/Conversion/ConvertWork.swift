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

    /// Sizes and times.
    package var json: JSONValue { summary.totals(adding: times) }

    /// `seconds`, `stages`, `calibrationSeconds` and `heldOut`.
    package var times: JSONObject {
      var times: JSONObject = ["seconds": .number(seconds)]
      times["stages"] = .object(stages.reduce(into: JSONObject()) { $0[$1.name] = .number($1.seconds) })
      if let calibrationSeconds { times["calibrationSeconds"] = .number(calibrationSeconds) }
      if let heldOut { times["heldOut"] = heldOut.json }
      return times
    }
  }

  /// Converts.
  ///
  /// - Parameter comparesHeldOut: whether the file is run beside its source in the end.
  /// - Throws: `Refusal` as every stage throws, and what the observer throws.
  package func run(_ observer: WorkObserver, comparesHeldOut: Bool = true) throws -> Outcome {
    var start = ContinuousClock.now
    let conversion = try options.conversion(
      of: SourceModel(path: input, family: options.family), beside: output)
    conversion.warnings.forEach(observer.warn)
    // Before time goes into calibrating for a file that cannot be written.
    let inputs =
      conversion.model.checkpoint.inputs + FileIdentity.all(options.statisticsPaths) + options.text.inputs
    try AtomicFile.check(
      [output] + (options.savedRecipe.map { [$0] } ?? []), force: options.replacesOutput, inputs: inputs)
    let calibrated = try CalibratedPlan(
      of: conversion, options, beside: output, holdingOut: HeldOutText.sampleCount, observer)
    let plan = calibrated.plan
    var calibrationSeconds: Double?
    if calibrated.samples != nil {
      calibrationSeconds = (ContinuousClock.now - start) / .seconds(1)
      start = .now
    }
    let outcome = try Converter(plan).run(
      to: output, force: options.replacesOutput, progress: observer.begin(.converting))
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    outcome.warnings.forEach(observer.warn)
    let file = try PackedModel(path: output)
    try saveRecipe(of: plan, file, inputs: inputs)
    plan.budgetWarning(of: file).map(observer.warn)
    let heldOut =
      comparesHeldOut
      ? try HeldOutText(calibrated.samples, plan: plan, file: file, threadCount: options.threads) : nil
    return Outcome(
      summary: FileSummary(file), methodName: plan.methodName, seconds: seconds,
      calibrationSeconds: calibrationSeconds, stages: outcome.times.stages,
      bytesPerSecond: Int(Double(plan.estimate.sourceByteCount) / max(seconds, 1e-9)), heldOut: heldOut)
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
  package func result(_ observer: WorkObserver) throws -> ConvertResult {
    let gathering = GatheringObserver(observer)
    let outcome = try run(gathering.observer)
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
