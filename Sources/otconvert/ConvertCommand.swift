import ArgumentParser
import Foundation
import OTConversion
import OTFoundation
import OTJSON
import OTModel

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

      Without statistics, a model with a config.json and a tokenizer is calibrated
      first: on --text or --ids, else on a sample that comes with the program.
      """)

  @Argument(help: "The checkpoint.", completion: .file()) var input: String
  @Argument(help: "The file to write.", completion: .file()) var output: String
  @OptionGroup(title: "Conversion") var conversion: ConversionArguments
  @OptionGroup(title: "Calibration") var calibration: CalibrationArguments
  @Option(
    help: ArgumentHelp(
      "Keep what was decided, for --recipe of another conversion of this model.", valueName: "file"),
    completion: .file())
  var saveRecipe: String?
  @Flag(help: "Replace the output if it exists.") var force = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func validate() throws {
    guard !calibration.isGiven || conversion.calibrates || conversion.rounding != nil else {
      throw ValidationError("--text and --ids are for calibrating: leave out the options that keep a model from it.")
    }
  }

  func run() throws {
    var start = Date()
    let conversion = try self.conversion.conversion(of: input, threadCount: threads.threads, beside: output)
    conversion.warnings.forEach(messages.warn)
    // Before time goes into calibrating for a file that cannot be written.
    let inputs =
      conversion.model.checkpoint.inputs + FileIdentity.all(self.conversion.statisticsPaths) + calibration.inputs
    try AtomicFile.check([output] + (saveRecipe.map { [$0] } ?? []), force: force, inputs: inputs)
    let calibrated = try calibration.plan(
      for: conversion, beside: output, holdingOut: HeldOutText.sampleCount, threads.threads, messages)
    let plan = calibrated.plan
    var calibrationSeconds: Double?
    if calibrated.samples != nil {
      calibrationSeconds = Date().timeIntervalSince(start)
      start = Date()
    }
    let progress = messages.progress("converting")
    let outcome = try Converter(plan).run(to: output, force: force, progress: progress.update)
    let converted = Date()
    outcome.warnings.forEach(messages.warn)
    let file = try PackedModel(path: output)
    if let saveRecipe { try save(plan, of: file, to: saveRecipe, inputs: inputs) }
    plan.budgetWarning(of: file).map(messages.warn)
    let stages = outcome.times.stages
    guard !messages.quiet || messages.json else { return }
    let seconds = converted.timeIntervalSince(start)
    let summary = FileSummary(file)
    let heldOut = try HeldOutText(calibrated.samples, plan: plan, file: file, threadCount: threads.threads)
    var times: JSONObject = ["seconds": .number(seconds)]
    times["stages"] = .object(stages.reduce(into: JSONObject()) { $0[$1.name] = .number($1.seconds) })
    if let calibrationSeconds { times["calibrationSeconds"] = .number(calibrationSeconds) }
    if let heldOut { times["heldOut"] = heldOut.json }
    let speed = Int(Double(plan.estimate.sourceByteCount) / max(seconds, 1e-9))
    try messages.result(
      """
      \(output): \(summary.headline)
      \(plan.methodName), \(calibrationSeconds.map { "calibrated in \(fixed($0, 2)) s, converted in " } ?? "")\
      \(fixed(seconds, 2)) s, \(byteText(speed))/s of source
      seconds of all threads: \(stages.map { "\($0.name) \(fixed($0.seconds, 2))" }.joined(separator: ", "))\
      \(heldOut.map { "\n" + $0.text } ?? "")
      """, json: summary.totals(adding: times))
    heldOut?.warnings.forEach(messages.warn)
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
