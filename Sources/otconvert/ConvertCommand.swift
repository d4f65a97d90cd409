import ArgumentParser
import Foundation
import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTObservation
import OTTokenizer

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

      Without statistics, a model with a config.json and a tokenizer.json is
      calibrated first: on --text, else on a sample that comes with the program.
      """)

  @Argument(help: "The checkpoint.", completion: .file()) var input: String
  @Argument(help: "The file to write.", completion: .file()) var output: String
  @OptionGroup(title: "Conversion") var conversion: ConversionArguments
  @OptionGroup(title: "Calibration") var calibration: CalibrationArguments
  @Flag(help: "Replace the output if it exists.") var force = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func validate() throws {
    guard calibration.text.isEmpty || conversion.calibrates else {
      throw ValidationError("--text is for calibrating: leave out the options that keep a model from it.")
    }
  }

  func run() throws {
    var start = Date()
    let conversion = try self.conversion.conversion(of: input, threadCount: threads.threads)
    conversion.warnings.forEach(messages.warn)
    // Before time goes into calibrating for a file that cannot be written.
    let inputs =
      conversion.model.checkpoint.inputs + FileIdentity.all(self.conversion.statisticsPaths + calibration.text)
    try AtomicFile.check([output], force: force, inputs: inputs)
    let observed = try observed(conversion)
    var calibrationSeconds: Double?
    if observed != nil {
      calibrationSeconds = Date().timeIntervalSince(start)
      start = Date()
    }
    let plan = try conversion.plan(observed)
    let progress = messages.progress("converting")
    let stages = try Converter(plan).run(to: output, force: force, progress: progress.update).stages
    guard !messages.quiet || messages.json else { return }
    let summary = try FileSummary(PackedModel(path: output))
    let seconds = Date().timeIntervalSince(start)
    var times: JSONObject = ["seconds": .number(seconds)]
    times["stages"] = .object(stages.reduce(into: JSONObject()) { $0[$1.name] = .number($1.seconds) })
    if let calibrationSeconds { times["calibrationSeconds"] = .number(calibrationSeconds) }
    let speed = Int(Double(plan.estimate.sourceByteCount) / max(seconds, 1e-9))
    try messages.result(
      """
      \(output): \(summary.headline)
      \(plan.methodName), \(calibrationSeconds.map { "calibrated in \(fixed($0, 2)) s, converted in " } ?? "")\
      \(fixed(seconds, 2)) s, \(byteText(speed))/s of source
      seconds of all threads: \(stages.map { "\($0.name) \(fixed($0.seconds, 2))" }.joined(separator: ", "))
      """, json: summary.totals(adding: times))
  }

  /// What the methods need to know of the model's sites; nil where they need nothing, or where the
  /// model cannot be run on text and neither text nor a method was asked for.
  private func observed(_ conversion: Conversion) throws -> ModelObservations? {
    let hasText = !calibration.text.isEmpty
    guard hasText || !conversion.needs.isEmpty else { return nil }
    let isAsked = hasText || !conversion.options.methods.isEmpty
    guard conversion.canBeCalibrated, let graph = conversion.graph,
      let tokenizer = try tokenizer(conversion.model, isAsked: isAsked)
    else {
      guard !isAsked else {
        throw Refusal(
          "calibration-impossible", "cannot be calibrated: a config.json and a tokenizer.json are needed beside it",
          file: input, remedy: hasText ? "leave out --text" : "give --statistics, or --method per-token")
      }
      return nil
    }
    let settings = calibration.settings(threadCount: threads.threads)
    let samples = try settings.samples(tokenizer: tokenizer, graph: graph)
    messages.note(
      "calibrating on \(samples.tokens.count) samples of \(samples.run.length) tokens of "
        + samples.run.texts.map(\.name).joined(separator: ", "))
    if hasText, let text = samples.note { messages.warn(text) }
    let progress = messages.progress("calibrating", unit: .tokens)
    // Its sources need no record: they are the conversion's own.
    return try settings.run(
      on: conversion.model, samples: samples, kinds: conversion.needs, progress: progress.update)
  }

  /// The model's tokenizer; nil, and a warning, for one of a kind that is not read.
  private func tokenizer(_ model: SourceModel, isAsked: Bool) throws -> Tokenizer? {
    do {
      return try Model.source(model).tokenizer()
    } catch let refusal as Refusal
      where !isAsked && ["tokenizer-unsupported", "tokenizer-regex"].contains(refusal.rule)
    {
      messages.warn("not calibrated, activations get one scale per token: \(refusal)")
      return nil
    }
  }
}
