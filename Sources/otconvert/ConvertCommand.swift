import ArgumentParser
import OTFoundation
import OTQ

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
        otconvert llama/ llama.otq --bits 6 --resume
        otconvert convert --plan plan.json --part 3

      Without statistics, a model with a config.json and a tokenizer is calibrated
      first: on --text or --ids, else on a sample that comes with the program.
      With --resume a conversion that was killed goes on when the same command is
      given again, and its file is the same, byte for byte.
      With --plan a part is made of a conversion that several machines share: see
      'otconvert plan'.
      """)

  @Argument(help: "The checkpoint.", completion: .file()) var input: String?
  @Argument(help: "The file to write.", completion: .file()) var output: String?
  @Option(
    help: ArgumentHelp("Make a part of this plan, which 'plan --parts' wrote.", valueName: "file"),
    completion: .file())
  var plan: String?
  @Option(
    help: ArgumentHelp("The part, from 1. [default: the task of an array job of Slurm]", valueName: "N"))
  var part: Int?
  @Option(
    help: ArgumentHelp(
      "Where weights are rounded by text: how long a part waits for the one before it. [default: 0]",
      valueName: "minutes"))
  var wait: Int?
  @OptionGroup(title: "Conversion") var conversion: ConversionArguments
  @OptionGroup(title: "Calibration") var calibration: CalibrationArguments
  @OptionGroup(title: "Requirements") var gate: GateArguments
  @Option(
    help: ArgumentHelp(
      "Keep what was decided, for --recipe of another conversion of this model.", valueName: "file"),
    completion: .file())
  var saveRecipe: String?
  @Flag(help: "Replace the output if it exists.") var force = false
  @OptionGroup var going: ResumeArguments
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func validate() throws {
    guard plan == nil else {
      guard input == nil, output == nil, isPlain else {
        throw ValidationError(
          "--plan has all that is to be known: beside it go --part, --wait, --threads, --max-memory and --force alone.")
      }
      guard (0...1_000_000).contains(wait ?? 0) else {
        throw ValidationError("--wait must be 0 to 1000000.")
      }
      return
    }
    guard part == nil, wait == nil else { throw ValidationError("--part and --wait need --plan.") }
    guard input != nil, output != nil else { throw ValidationError("Give the checkpoint and the file to write.") }
    try validated {
      try options.check()
      try options.checkUseOfText()
    }
  }

  /// True when no option decides anything.
  private var isPlain: Bool {
    var plain = ConvertOptions()
    (plain.replacesOutput, plain.threadCount) = (force, threads.threads)
    plain.maximumByteCount = calibration.sampling.maxMemory?.value
    return options == plain
  }

  private func makePart(of plan: String) throws {
    let work = try PartWork(
      plan, part: part, force: force, threadCount: threads.threads,
      maximumByteCount: calibration.sampling.maxMemory?.value, waitSeconds: (wait ?? 0) * 60)
    let outcome = try work.run(messages.observer)
    try messages.result(
      "\(outcome.path): part \(outcome.number) of \(outcome.count), \(fixed(outcome.seconds, 2)) s",
      json: .object([
        "output": .string(outcome.path), "number": .integer(outcome.number), "count": .integer(outcome.count),
        "seconds": .number(outcome.seconds),
      ]))
  }

  private var options: ConvertOptions {
    var options = calibration.adding(to: conversion.options(threadCount: threads.threads))
    (options.savedRecipe, options.replacesOutput, options.resumes) = (saveRecipe, force, going.resume)
    options.requirements = gate.options(field: calibration.input.field.textField)
    return options
  }

  func run() throws {
    if let plan { return try makePart(of: plan) }
    guard let input, let output else { return }
    let isSilent = messages.quiet && !messages.json
    let work = try ConvertWork(input, to: output, options)
    let outcome = try work.run(messages.observer, comparesHeldOut: !isSilent)
    guard !isSilent else { return }
    try messages.result(
      """
      \(output): \(outcome.summary.headline)
      \(outcome.settings.map { "\($0): " } ?? "")\(outcome.methodName), \
      \(outcome.calibrationSeconds.map { "calibrated in \(fixed($0, 2)) s, converted in " } ?? "")\
      \(fixed(outcome.seconds, 2)) s, \(byteText(outcome.bytesPerSecond))/s of source
      seconds of all threads: \(outcome.stages.map { "\($0.name) \(fixed($0.seconds, 2))" }.joined(separator: ", "))\
      \(outcome.heldOut.map { "\n" + $0.text } ?? "")\
      \(outcome.judgement.map { "\nholds " + $0.text } ?? "")
      """, json: outcome.json)
    outcome.heldOut?.warnings.forEach(messages.warn)
  }
}
