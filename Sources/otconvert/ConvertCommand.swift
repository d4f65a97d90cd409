import ArgumentParser
import Foundation
import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTProof

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Convert a checkpoint to a packed .otq file (the default command).",
    discussion: """
      IN is a safetensors or PyTorch file, the index of a sharded checkpoint, or a
      folder in the layout of Hugging Face. OUT appears whole or not at all.

      EXAMPLES
        otconvert model.safetensors model.otq --bits 6
        otconvert llama/ llama.otq --bits 6 --compression none
        otconvert opt/ opt.otq --bits 6 --act-scales act_scales.pt
        otconvert opt/ opt.otq --bits 6 --act-scales act_scales_sym.pt \\
          --symmetrization symmetrizations.pt --symmetrization-samples 32
        otconvert llama/ llama.otq --bits 6 --bits-for 'down_proj=8' \\
          --exclude 'layers\\.0\\.'
        otconvert llama/ llama.otq --bits 6 --statistics stats.safetensors
        otconvert llama/ llama.otq --bits 6 --text pile.jsonl.zst --samples 256
        otconvert llama/ llama.otq --budget 5.0bpw
        otconvert opt/ opt.otq --bits 6 --weight-scheme symmetric \\
          --method os,ratio=0.99 --ids ids.safetensors
        otconvert llama/ llama.otq --bits 6 --require 'kl<=0.02' \\
          --require 'accuracy-drop(piqa.jsonl)<=0.5'
        otconvert llama/ llama.otq --until 'perplexity-ratio<=1.01'

      Without statistics, a model with a config.json and a tokenizer is calibrated
      first: on --text or --ids, else on a sample that comes with the program.
      """)

  @Argument(help: "The checkpoint.", completion: .file()) var input: String
  @Argument(help: "The file to write.", completion: .file()) var output: String
  @OptionGroup(title: "Conversion") var conversion: ConversionArguments
  @OptionGroup(title: "Calibration") var calibration: CalibrationArguments
  @OptionGroup(title: "Requirements") var gate: GateArguments
  @Option(
    help: ArgumentHelp(
      "Keep what was decided, for --recipe of another conversion of this model.", valueName: "file"),
    completion: .file())
  var saveRecipe: String?
  @Flag(help: "Replace the output if it exists.") var force = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    guard !calibration.isGiven || conversion.calibrates || conversion.rounding != nil else {
      throw ValidationError("--text and --ids are for calibrating: leave out the options that keep a model from it.")
    }
    guard gate.until.isEmpty || !conversion.decidesSize else {
      throw ValidationError(
        "--until chooses the bits: leave out --bits, --group-size, --per-tensor, --budget, --recipe.")
    }
  }

  func run() throws {
    let model = try SourceModel(path: input, family: conversion.family)
    let inputs =
      model.checkpoint.inputs + FileIdentity.all(conversion.statisticsPaths) + calibration.inputs + gate.inputs
    // Before time goes into calibrating for a file that cannot be written.
    try AtomicFile.check([output] + (saveRecipe.map { [$0] } ?? []), force: force, inputs: inputs)
    guard !gate.until.isEmpty else {
      var course = Course()
      return try finish(write(model, conversion, &course), course, inputs)
    }
    var course = Course()
    let ladder = Settings.ladder.filter(conversion.fits)
    for settings in ladder {
      course.settings = settings
      do {
        return try finish(write(model, conversion.with(settings), &course), course, inputs)
      } catch let refusal as Refusal where refusal.rule == "require-failed" {
        guard let judgement = course.judgement else { throw refusal }
        messages.note("\(settings): \(judgement.text)")
        course.tried.append((settings.description, judgement))
      }
    }
    throw Refusal(
      "require-failed",
      "no file holds what is required, and none is written: with \(ladder.last?.description ?? ""), "
        + (course.judgement?.text ?? ""), file: output, remedy: conversion.remedies(alone: true))
  }

  /// What one conversion, or several of one model, share and come to.
  private struct Course {
    var start = Date()
    var calibrated: CalibratedPlan?
    var calibrationSeconds: Double?
    var gate: Gate?
    var settings: Settings?
    var judgement: Judgement?
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
    _ model: SourceModel, _ arguments: ConversionArguments, _ course: inout Course
  ) throws -> Written {
    var start = Date()
    let conversion = try arguments.conversion(of: model, threadCount: threads.threads, beside: output)
    if course.calibrated == nil { conversion.warnings.forEach(messages.warn) }
    let calibrated = try calibration.plan(
      for: conversion, beside: output, holdingOut: HeldOutText.sampleCount, given: course.calibrated, threads.threads,
      messages)
    course.calibrated = calibrated
    if calibrated.samples != nil {
      course.calibrationSeconds = (course.calibrationSeconds ?? 0) + Date().timeIntervalSince(start)
    }
    let plan = calibrated.plan
    if course.gate == nil {
      course.gate = try self.gate.gate(plan, heldOut: calibrated.samples, threads.threads, messages)
    }
    start = Date()
    let progress = messages.progress("converting")
    guard let gate = course.gate else {
      let outcome = try Converter(plan).run(to: output, force: force, progress: progress.update)
      return Written(plan: plan, outcome: outcome, seconds: Date().timeIntervalSince(start))
    }
    var converted = start
    let tasks = messages.progress("the file's tasks", unit: .items)
    let tried = course.tried
    var judgement: Judgement?
    defer { course.judgement = judgement }
    let outcome = try Converter(plan).run(to: output, force: force, progress: progress.update) { path in
      converted = Date()
      let judged = try gate.judge(path, name: output, progress: tasks.update)
      judgement = judged
      guard judged.holds else {
        throw judged.refusal(file: output, remedy: arguments.remedies(alone: false, for: self.gate.require))
      }
      return ["requirements": judged.record(tried: tried)]
    }
    return Written(plan: plan, outcome: outcome, seconds: converted.timeIntervalSince(start))
  }

  /// Says what was written.
  private func finish(_ written: Written, _ course: Course, _ inputs: [FileIdentity]) throws {
    let plan = written.plan
    written.outcome.warnings.forEach(messages.warn)
    let file = try PackedModel(path: output)
    if let saveRecipe { try save(plan, of: file, to: saveRecipe, inputs: inputs) }
    plan.budgetWarning(of: file).map(messages.warn)
    let stages = written.outcome.times.stages
    guard !messages.quiet || messages.json else { return }
    let seconds = written.seconds
    let summary = FileSummary(file)
    let heldOut = try heldOut(course, plan, file)
    var times: JSONObject = ["seconds": .number(seconds)]
    times["stages"] = .object(stages.reduce(into: JSONObject()) { $0[$1.name] = .number($1.seconds) })
    if let calibrationSeconds = course.calibrationSeconds { times["calibrationSeconds"] = .number(calibrationSeconds) }
    if let heldOut { times["heldOut"] = heldOut.json }
    times["requirements"] = course.judgement?.record(tried: course.tried)
    let speed = Int(Double(plan.estimate.sourceByteCount) / max(seconds, 1e-9))
    try messages.result(
      """
      \(output): \(summary.headline)
      \(course.settings.map { "\($0): " } ?? "")\(plan.methodName), \
      \(course.calibrationSeconds.map { "calibrated in \(fixed($0, 2)) s, converted in " } ?? "")\
      \(fixed(seconds, 2)) s, \(byteText(speed))/s of source
      seconds of all threads: \(stages.map { "\($0.name) \(fixed($0.seconds, 2))" }.joined(separator: ", "))\
      \(heldOut.map { "\n" + $0.text } ?? "")\
      \(course.judgement.map { "\nholds " + $0.text } ?? "")
      """, json: summary.totals(adding: times))
    heldOut?.warnings.forEach(messages.warn)
  }

  /// The file beside its source on samples that were held out, measured once.
  private func heldOut(_ course: Course, _ plan: ConversionPlan, _ file: PackedModel) throws -> HeldOutText? {
    if gate.isGiven, gate.requireText.isEmpty, gate.requireIds == nil {
      guard let samples = course.calibrated?.samples?.heldOut, !samples.isEmpty else { return nil }
      return course.judgement?.finding.map { HeldOutText($0, count: samples.count) }
    }
    return try HeldOutText(course.calibrated?.samples, plan: plan, file: file, threadCount: threads.threads)
  }

  /// Keeps what was decided; the digests of the model's files are those that the conversion took.
  private func save(
    _ plan: ConversionPlan, of file: PackedModel, to path: String, inputs: [FileIdentity]
  ) throws {
    let sources = file.container.metadata["sources"]?.array ?? []
    let records = sources.prefix(plan.checkpoint.files.count).compactMap(FileRecord.init(json:))
    try plan.recipe(sources: records).write(to: path, producer: Converter.producer, force: force, inputs: inputs)
  }
}
