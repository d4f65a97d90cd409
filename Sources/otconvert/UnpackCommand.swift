import ArgumentParser
import OTConversion
import OTTensor

struct UnpackCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unpack",
    abstract: "Write an .otq file's tensors as safetensors, dequantized, transformations undone.",
    discussion: """
      Names, shapes and types are those of the source, so the result loads wherever it did.

      EXAMPLES
        otconvert unpack model.otq model-restored.safetensors
      """)

  @Argument(help: "The .otq file.", completion: .file()) var input: String
  @Argument(help: "The safetensors file to write.", completion: .file()) var output: String
  @Flag(help: "Replace the output if it exists.") var force = false
  @Flag(help: "Print nothing but errors.") var quiet = false

  func run() throws {
    try OTConvert.prepare()
    let unpacker = Unpacker(try PackedFile(path: input))
    let progress = ProgressLine("unpacking", isQuiet: quiet)
    try unpacker.run(to: output, force: force, progress: progress.update)
    guard !quiet else { return }
    print("\(output): \(byteText(try MappedFile(path: output).byteCount))")
    let leftOut = unpacker.leftOut.count
    if leftOut > 0 {
      warn("\(leftOut) biases that symmetrization added have no place in the source's layout and are left out")
    }
  }
}
