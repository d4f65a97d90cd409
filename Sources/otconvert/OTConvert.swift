import ArgumentParser
import Foundation
import OTFoundation
import OTKernels

@main
struct OTConvert: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "otconvert",
    abstract: "Convert language-model checkpoints to packed int6/int8 .otq files, and prove the files.",
    discussion: """
      EXAMPLES
        otconvert model.safetensors model.otq --bits 6
        otconvert opt-125m/ opt.otq --bits 6 --act-scales act_scales.pt \\
          --symmetrization symmetrizations.pt --symmetrization-samples 128
        otconvert verify model.otq --reference model.safetensors
        otconvert inspect model.otq
        otconvert unpack model.otq model-restored.safetensors
        otconvert run model.otq --prompt "In the beginning"
        otconvert tokenize model.otq --text "In the beginning"
        otconvert plan llama-7b/ --bits 6
        otconvert calibrate llama-7b/ --text pile.jsonl.zst -o stats.safetensors

      Exit status: 0 success, 1 a refusal or a failed check, 64 wrong usage.
      """,
    version: VersionText.lines,
    subcommands: [
      ConvertCommand.self, InspectCommand.self, VerifyCommand.self, UnpackCommand.self, ExportCommand.self,
      PlanCommand.self, MergeCommand.self, CompareCommand.self,
      CalibrateCommand.self, EvalCommand.self, RunCommand.self, EmbedCommand.self, ClassifyCommand.self,
      TokenizeCommand.self, DemoCommand.self,
    ],
    defaultSubcommand: ConvertCommand.self)

  static func main() {
    StandardStreams.prepare()
    // A file over the size limit or a closed pipe is an error to report, not a death.
    signal(SIGXFSZ, SIG_IGN)
    signal(SIGPIPE, SIG_IGN)
    Interruption.prepare()
    MappingFault.prepare()
    do {
      do {
        var command = try parseAsRoot()
        try InstructionSet.checkEnvironment()
        try command.run()
      } catch let error where exitCode(for: error).isSuccess {
        // Help and version, which may be lost as any output.
        try StandardOutput.write(fullMessage(for: error) + "\n")
      }
    } catch {
      exit(withError: error)
    }
  }
}
