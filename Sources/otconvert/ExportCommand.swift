import ArgumentParser
import OTQ

struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write a model in a format of other tools.",
    discussion: """
      Of a checkpoint, what conversion makes of it; of an .otq file, what it holds.
      \(ExportOptions.listing)
      The output appears whole or not at all. What a format cannot hold is refused;
      'otconvert plan' says for each what it can.

      EXAMPLES
        otconvert export llama/ llama-smooth/ --to safetensors \\
          --statistics stats.safetensors --no-symmetrization
        otconvert export opt/ opt-w8a8/ --to compressed-tensors
        otconvert export llama/ llama.gguf --to gguf --bits 6 --method smoothquant
        otconvert export model.otq restored/ --to safetensors --restored
      """)

  @Argument(help: "A checkpoint or an .otq file.", completion: .file()) var input: String
  @Argument(help: "The folder or file to write.", completion: .file()) var output: String
  @Option(help: "Format: \(ExportOptions.formats.joined(separator: ", ")).") var to: String
  @Flag(help: "Of an .otq file, as safetensors: with the transformations undone.") var restored = false
  @Option(help: "Type of all floats: f32, f16 or bf16. [default: as in the source; f32 for ctranslate2]")
  var dtype: String?
  @Option(help: ArgumentHelp("Most bytes of a file of tensors, in megabytes. [default: one file]", valueName: "MB"))
  var shardSize: Int?
  @OptionGroup(title: "Conversion, for a checkpoint") var conversion: ConversionArguments
  @OptionGroup(title: "Calibration, for a checkpoint") var calibration: CalibrationArguments
  @Flag(help: "Replace the output if it exists and an export wrote it.") var force = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func validate() throws { try validated { try options.check(for: to) } }

  private var options: ExportOptions {
    var options = ExportOptions()
    options.conversion = calibration.adding(to: conversion.options(threadCount: threads.threads))
    options.conversion.replacesOutput = force
    (options.isRestored, options.elementType, options.shardMegabytes) = (restored, dtype, shardSize)
    return options
  }

  func run() throws {
    let work = try ExportWork(input, to: output, format: to, options)
    try work.run(messages.observer)
    try messages.result("\(output): \(to)", json: .object(work.json))
  }
}
