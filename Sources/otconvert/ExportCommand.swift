import ArgumentParser
import OTConversion
import OTExport
import OTFoundation
import OTJSON
import OTModel
import OTObservation
import OTTensor

struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write a model in a format of other tools.",
    discussion: """
      Of a checkpoint, what conversion makes of it; of an .otq file, what it holds.
        safetensors         a folder in the layout of Hugging Face: floats
        compressed-tensors  such a folder with quantized linears, and scales of
                            activations, for transformers and vLLM
        gguf                a file for llama.cpp: quantized values, or with --dtype
                            floats
        mlx                 a folder for mlx-lm: quantized values in groups
        ctranslate2         a folder for CTranslate2: signed bytes
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
  @Option(help: "Format: safetensors, compressed-tensors, gguf, mlx or ctranslate2.") var to: String
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

  func validate() throws {
    guard to != OTQWriter.format, Writers.named(to) != nil else {
      let names = Writers.all.map { $0.format }.filter { $0 != OTQWriter.format }
      throw ValidationError("--to must be one of \(names.joined(separator: ", ")).")
    }
    guard dtype.map({ ["f32", "f16", "bf16"].contains($0) }) ?? true else {
      throw ValidationError("--dtype must be f32, f16 or bf16.")
    }
    guard conversion.effort == nil else {
      throw ValidationError("--effort is for convert: formats of others have no rotations; name a --method.")
    }
    guard conversion.budget == nil || to != SafetensorsExport.format else {
      throw ValidationError("--budget chooses bits, and floats have none.")
    }
    guard !restored || to == SafetensorsExport.format else {
      throw ValidationError("--restored gives floats: export them --to safetensors first.")
    }
    guard shardSize == nil || (to != GGUFExport.format && to != "ctranslate2") else {
      throw ValidationError("--shard-size is for folders of shards: \(to) has one file of tensors.")
    }
    guard (shardSize ?? 1) > 0, (shardSize ?? 1) <= 1 << 30 else {
      throw ValidationError("--shard-size must be 1 to 1073741824 megabytes.")
    }
  }

  func run() throws {
    guard let format = Writers.named(to) else { return }
    switch try Model(path: input, family: conversion.family) {
    case .packed(let file):
      guard !conversion.decides, !calibration.isGiven else {
        throw Refusal(
          "export-options", "is packed: what a conversion does to it has been decided", file: input,
          remedy: "leave out the options of a conversion, or export the checkpoint")
      }
      let progress = messages.progress("exporting")
      let writer = format.init(target([file.container.file.identity]))
      try export(PackedExport(file, isRestored: restored, threadCount: threads.threads), writer, progress)
      writer.notes.forEach(messages.warn)
    case .source(let source):
      guard !restored else {
        throw Refusal(
          "export-restored", "is a checkpoint: nothing has been done to it that could be undone", file: input,
          remedy: "leave out --restored")
      }
      var arguments = self.conversion
      if arguments.weightScheme == nil, arguments.recipe == nil, format.prefersSymmetric {
        arguments.weightScheme = .symmetric
      }
      let conversion = try arguments.conversion(
        of: source, threadCount: threads.threads, avoidsRotation: true)
      conversion.warnings.forEach(messages.warn)
      let plan = try calibration.plan(for: conversion, beside: output, threads.threads, messages).plan
      if to == SafetensorsExport.format, plan.graph?.transforms.isEmpty ?? true {
        messages.warn("no method transforms the model: it is only copied")
      }
      let progress = messages.progress("exporting")
      let writer = format.init(target(plan.inputs))
      try Converter(plan).run(into: writer, progress: progress.update).warnings.forEach(messages.warn)
      writer.notes.forEach(messages.warn)
    }
    try messages.result(
      "\(output): \(to)",
      json: .object([to == GGUFExport.format ? "file" : "folder": .string(output), "format": .string(to)]))
  }

  private func export(_ export: PackedExport, _ writer: some ModelWriter, _ progress: ProgressLine) throws {
    try export.run(into: writer, progress: progress.update)
  }

  private func target(_ inputs: [FileIdentity]) -> ExportOutput {
    var target = ExportOutput(path: output, force: force, inputs: inputs)
    target.elementType = dtype.flatMap { ElementType(rawValue: $0.uppercased()) }
    target.shardByteCount = shardSize.map { $0 * 1_000_000 }
    return target
  }
}
