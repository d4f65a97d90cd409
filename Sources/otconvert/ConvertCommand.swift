import ArgumentParser
import Foundation
import OTCheckpoint
import OTContainer
import OTConversion
import OTJSON
import OTTensor

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Convert a checkpoint to a packed .otq file (the default command).",
    discussion: """
      IN is a safetensors or PyTorch file, the index of a sharded checkpoint, or a
      folder in the layout of Hugging Face. OUT appears whole or not at all.

      EXAMPLES
        otconvert model.safetensors model.otq --bits 6
        otconvert llama/ llama.otq --bits 6 --weight-scheme symmetric --compression none
        otconvert opt/ opt.otq --bits 6 --act-scales act_scales.pt
        otconvert opt/ opt.otq --bits 6 --act-scales act_scales_sym.pt \\
          --symmetrization symmetrizations.pt --symmetrization-samples 32
        otconvert llama/ llama.otq --bits 6 --bits-for 'down_proj=8' --exclude 'layers\\.0\\.'
      """)

  @Argument(help: "The checkpoint.", completion: .file()) var input: String
  @Argument(help: "The file to write.", completion: .file()) var output: String
  @OptionGroup(title: "Conversion") var conversion: ConversionArguments
  @Flag(help: "Replace the output if it exists.") var force = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func run() throws {
    try OTConvert.prepare()
    let start = Date()
    let plan = try ConversionPlan(
      checkpoint: try Checkpoint.open(input), options: try conversion.options(threadCount: threads.threads),
      statistics: conversion.statistics)
    if !messages.quiet { plan.warnings.forEach(warn) }
    let progress = ProgressLine("converting", isQuiet: messages.quiet || messages.json)
    try Converter(plan).run(to: output, force: force, progress: progress.update)
    guard !messages.quiet || messages.json else { return }
    let summary = try FileSummary(PackedFile(path: output))
    let seconds = Date().timeIntervalSince(start)
    if messages.json {
      print(summary.totals(adding: ["seconds": .number(seconds)]).text(pretty: true))
    } else {
      print("\(output): \(summary.headline)")
      print(
        "\(plan.methodName), \(fixed(seconds, 2)) s, "
          + "\(byteText(Int(Double(plan.estimate.sourceByteCount) / max(seconds, 1e-9))))/s of source")
    }
  }
}
