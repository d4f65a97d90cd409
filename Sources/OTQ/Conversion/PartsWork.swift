import OTContainer
import OTConversion
import OTFoundation
import OTModel
import OTPlatform
import OTQuantization

/// The planning of a conversion that several machines share: what each part makes, and the decisions for all.
package struct PartsWork: Sendable {
  private let input: String
  private let output: String
  private var options: ConvertOptions
  private let partCount: Int

  /// - Throws: ``Refusal`` for options that are wrong, as those of a conversion, or that parts do not have.
  package init(
    _ input: String, to output: String, _ options: ConvertOptions, partCount: Int
  ) throws(Refusal) {
    try options.check()
    try options.checkUseOfText()
    try OptionFault.refuse(
      !(1...PartedPlan.maximumPartCount).contains(partCount),
      value: "--parts must be 1 to \(PartedPlan.maximumPartCount)")
    try OptionFault.refuse(
      options.requirements.isGiven || options.savedRecipe != nil || options.resumes,
      conflict: "--require, --until, --save-recipe and --resume are for a conversion by one machine")
    (self.input, self.output) = (input.absolutePath, output.absolutePath)
    (self.options, self.partCount) = (options, partCount)
    // Parts may be made elsewhere.
    self.options.text.paths = options.text.paths.map(\.absolutePath)
    self.options.text.ids = options.text.ids?.absolutePath
  }

  /// What was planned.
  package struct Outcome: Sendable {
    /// The plan, which has been written.
    package let plan: PartedPlan
    /// What each part takes.
    package let parts: [PartEstimate]
    /// The methods' names.
    package let methodName: String
  }

  /// Plans, which may mean to calibrate, and writes the plan and beside it what was decided.
  ///
  /// - Throws: as calibrating and planning throw, and what the observer throws.
  package func run(to path: String, force: Bool, _ observer: WorkObserver) throws -> Outcome {
    let model = try SourceModel(path: input, family: options.family)
    let inputs = model.checkpoint.inputs + FileIdentity.all(options.statisticsPaths) + options.text.inputs
    let recipePath = path + ".recipe"
    try AtomicFile.check([path, recipePath], force: force, inputs: inputs)
    let conversion = try options.conversion(of: model, beside: path)
    conversion.warnings.forEach(observer.warn)
    let calibrated = try CalibratedPlan(
      of: conversion, options, beside: path, holdingOut: HeldOutText.sampleCount, rounds: false, observer)
    let plan = calibrated.plan
    var recipe: FileRecord?
    if plan.graph != nil {
      let files = plan.checkpoint.files.map { FileRecord(name: $0.name, byteCount: $0.mapped.byteCount, sha256: "") }
      try plan.recipe(sources: files).write(
        to: recipePath, producer: Converter.producer, force: force, inputs: inputs)
      recipe = try FileRecord(of: MappedFile(path: recipePath))
    }
    var parted = try PartedPlan(
      plan, from: input, to: output, options: options.namedForParts(isSequential: plan.roundingRun != nil),
      partCount: partCount, recipe: recipe)
    try parted.write(to: path, force: force, inputs: inputs)
    let estimates = try parted.estimates(
      plan, lengths: calibrated.samples?.tokens.map(\.tokenIDs.count) ?? [],
      maximumByteCount: options.maximumByteCount ?? Machine.memoryByteCount / 2)
    return Outcome(plan: parted, parts: estimates, methodName: plan.methodName)
  }
}

/// The making of one part.
package struct PartWork: Sendable {
  private let plan: PartedPlan
  private let part: Int
  private let force: Bool
  private let threadCount: Int?
  private let maximumByteCount: Int?
  private let waitSeconds: Int

  /// - Parameters:
  ///   - part: its number, from 1; nil: that of the array job of Slurm in which the process runs.
  ///   - maximumByteCount: memory for values, where weights are rounded by text.
  ///   - waitSeconds: how long to wait for the part before, whose values this one goes on from.
  /// - Throws: ``Refusal`` as reading a plan throws, or with rule `option-value` for a part that it does not have.
  package init(
    _ path: String, part: Int?, force: Bool, threadCount: Int?, maximumByteCount: Int? = nil, waitSeconds: Int = 0
  ) throws(Refusal) {
    let plan = try refusing { try PartedPlan(path: path.absolutePath) }
    let number: Int
    if let part { number = part } else { number = try SlurmTask.current(of: plan.partCount) }
    try OptionFault.refuse(
      !(1...plan.partCount).contains(number), value: "--part must be 1 to \(plan.partCount), as the plan has parts")
    (self.plan, self.part, self.force, self.threadCount) = (plan, number - 1, force, threadCount)
    (self.maximumByteCount, self.waitSeconds) = (maximumByteCount, waitSeconds)
  }

  /// What came of it.
  package struct Outcome: Sendable {
    /// The file of the part.
    package let path: String
    /// Its number, from 1, and how many there are.
    package let number: Int, count: Int
    /// Seconds of the work.
    package let seconds: Double
  }

  /// Makes the part; its file appears whole or not at all.
  ///
  /// - Throws: as converting throws, and with rule `plan-differs`, `plan-source-changed`, `plan-recipe` or `part-waits`.
  package func run(_ observer: WorkObserver) throws -> Outcome {
    let start = ContinuousClock.now
    var options = try ConvertOptions(named: plan.options)
    (options.threadCount, options.maximumByteCount) = (threadCount, maximumByteCount)
    let model = try SourceModel(path: plan.input, family: options.family)
    var conversionOptions = try options.conversionOptions()
    conversionOptions.scratchFolder = plan.output.parentPath
    if let recipe = try plan.recipePath() { conversionOptions.methods = [try KeptRecipe(path: recipe)] }
    let conversion = try Conversion(model, options: conversionOptions)
    var planned = try conversion.plan()
    var rounding: PartRounding.Record?
    if plan.isSequential {
      // Before time goes into what cannot be written.
      try AtomicFile.check([plan.path(ofPart: part)], force: force, inputs: planned.inputs)
      (planned, rounding) = try round(planned, conversion, options, observer)
    }
    let outcome = try Converter(planned).run(
      part: part, of: plan, rounding: rounding, force: force, progress: observer.begin(.converting))
    outcome.warnings.forEach(observer.warn)
    return Outcome(
      path: plan.path(ofPart: part), number: part + 1, count: plan.partCount,
      seconds: (ContinuousClock.now - start) / .seconds(1))
  }
}

extension PartWork {
  /// The plan with the part's weights rounded by what the network gives on text, and what the part remembers of it.
  private func round(
    _ planned: ConversionPlan, _ conversion: Conversion, _ options: ConvertOptions, _ observer: WorkObserver
  ) throws -> (ConversionPlan, PartRounding.Record) {
    let rounding = try PartRounding(planned, part: part, of: plan)
    let settings = options.text.calibration(threadCount: options.threads, maximumByteCount: options.maximumByteCount)
    guard
      let samples = try CalibratedPlan.samples(
        for: conversion, options.text, settings, HeldOutText.sampleCount, observer)
    else {
      throw Refusal(
        "plan-differs", "the model cannot be run on text here, though weights are rounded by that", file: plan.input,
        remedy: "let every part see the same files as the plan did")
    }
    return try rounding.run(
      settings, samples: samples, waitSeconds: waitSeconds, in: plan.output.parentPath, isWaiting: observer.note,
      progress: observer.begin(.rounding))
  }
}

/// The putting together of all parts.
package struct MergeWork: Sendable {
  private let plan: PartedPlan
  private let force, resumes: Bool

  /// - Parameter resumes: whether what an earlier merge has written is taken as it is, and what this one writes kept.
  /// - Throws: ``Refusal`` as reading a plan throws.
  package init(_ path: String, force: Bool, resumes: Bool = false) throws(Refusal) {
    plan = try refusing { try PartedPlan(path: path.absolutePath) }
    (self.force, self.resumes) = (force, resumes)
  }

  /// Puts the parts together; the file appears whole or not at all, and the parts stay.
  ///
  /// - Throws: `Refusal` with a rule `merge-…`, `output-…` or `otq-…`.
  package func run(_ observer: WorkObserver) throws -> FileSummary {
    var work = resumes && ResumableWork.isBegun(on: plan.output) ? try resumable() : nil
    if let work, work.isFinished {
      work.end()
      return FileSummary(try PackedModel(path: plan.output))
    }
    try AtomicFile.check([plan.output], force: force, inputs: [])
    let options = try ConvertOptions(named: plan.options).conversionOptions()
    let merge = try PartMerge(plan)
    if resumes, work == nil { work = try resumable() }
    try merge.run(
      compression: options.compression, force: force, keptBy: work, progress: observer.begin(.converting))
    return FileSummary(try PackedModel(path: plan.output))
  }

  private func resumable() throws -> ResumableWork {
    let paths = (0..<plan.partCount).map(plan.path(ofPart:)) + [plan.file?.path].compactMap { $0 }
    let sources = paths.compactMap { path in FileIdentity(path: path).map { (path.lastPathComponent, $0) } }
    return try ResumableWork(
      on: plan.output, .init("merge", program: Converter.producer, sources: sources, options: [:]))
  }
}

/// The task of an array job of Slurm that the process runs in.
package enum SlurmTask {
  /// Its number among so many, from 1.
  ///
  /// - Throws: ``Refusal`` with rule `option-value` where there is none, or the array has another size.
  package static func current(of count: Int) throws(Refusal) -> Int {
    func number(_ name: String) -> Int? { getenv("SLURM_ARRAY_TASK_\(name)").flatMap { Int(String(cString: $0)) } }
    guard let task = number("ID") else {
      throw Refusal(
        "option-value", "--part says which of the \(count) parts; in an array job of Slurm it can be left out")
    }
    let (first, size) = (number("MIN") ?? 1, number("COUNT") ?? count)
    guard size == count, number("STEP") ?? 1 == 1 else {
      throw Refusal(
        "option-value", "the array job has \(size) tasks, and there are \(count) parts: use --array=1-\(count)")
    }
    return task - first + 1
  }
}

extension ConvertOptions {
  /// The options that parts need beside what the recipe says, by name.
  ///
  /// - Parameter isSequential: whether parts read text, too.
  fileprivate func namedForParts(isSequential: Bool) -> [String: [String]] {
    var named: [String: [String]] = [
      "bits": ["\(bits)"], "activation-bits": ["\(activationBits)"], "embedding-bits": ["\(embeddingBits)"],
      "compression": [compression.rawValue],
    ]
    named["weight-scheme"] = weightScheme.map { [$0.rawValue] }
    named["group-size"] = groupSize.map { ["\($0)"] }
    named["family"] = family.map { [$0] }
    if isPerTensor { named["per-tensor"] = [] }
    if isWeightsOnly { named["weights-only"] = [] }
    if !exclude.isEmpty { named["exclude"] = exclude }
    if !bitsFor.isEmpty { named["bits-for"] = bitsFor }
    guard isSequential else { return named }
    (named["samples"], named["seed"]) = (["\(text.sampleCount)"], ["\(text.seed)"])
    named["length"] = text.length.map { ["\($0)"] }
    if !text.paths.isEmpty { (named["text"], named["text-field"]) = (text.paths, [text.field]) }
    named["ids"] = text.ids.map { [$0] }
    named["tensor"] = text.tensor.map { [$0] }
    return named
  }
}
