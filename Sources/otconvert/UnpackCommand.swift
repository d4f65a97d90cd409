import ArgumentParser
import OTExport
import OTFoundation
import OTJSON
import OTModel

struct UnpackCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unpack",
    abstract: "Write an .otq file's tensors as safetensors: dequantized, transformations undone.",
    discussion: """
      Names, shapes and types are those of the source, so the result loads wherever it did.

      EXAMPLES
        otconvert unpack model.otq model-restored.safetensors
      """)

  @Argument(help: "The .otq file.", completion: .file()) var input: String
  @Argument(help: "The safetensors file to write.", completion: .file()) var output: String
  @Flag(help: "Replace the output if it exists.") var force = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func run() throws {
    let file = try PackedModel(path: input)
    let unpacking = PackedExport(file, isRestored: true, threadCount: threads.threads)
    let progress = messages.progress("unpacking")
    let target = ExportOutput(path: output, force: force, inputs: [file.container.file.identity])
    try unpacking.run(into: SafetensorsFileWriter(target), progress: progress.update)
    let byteCount = try MappedFile(path: output).byteCount
    let leftOut = unpacking.leftOut
    try messages.result(
      "\(output): \(byteText(byteCount))",
      json: .object([
        "file": .string(output), "byteCount": .integer(byteCount), "leftOut": .array(leftOut.map { .string($0) }),
      ]))
    if !leftOut.isEmpty {
      messages.warn(
        "\(leftOut.count) biases that symmetrization added have no place in the source's layout and are left out")
    }
  }
}
