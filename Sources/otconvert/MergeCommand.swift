import ArgumentParser
import OTFoundation
import OTQ

struct MergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Put the parts of a conversion together that several machines have made.",
    discussion: """
      The file is the one that one machine would have written, byte for byte; it
      appears whole or not at all. Parts that are missing, damaged, of another plan
      or of other sources are refused by name. They stay: remove them when the file
      stands.

      EXAMPLES
        otconvert plan llama/ llama.otq --bits 6 --rounding nearest --parts 8 -o plan.json
        otconvert convert --plan plan.json --part 1    # … to 8, on any machines
        otconvert merge --plan plan.json
      """)

  @Option(help: ArgumentHelp("The plan that 'plan --parts' wrote.", valueName: "file"), completion: .file())
  var plan: String
  @Flag(help: "Replace the output if it exists.") var force = false
  @OptionGroup var going: ResumeArguments
  @OptionGroup var messages: OutputArguments

  func run() throws {
    let summary = try MergeWork(plan, force: force, resumes: going.resume).run(messages.observer)
    try messages.result("\(summary.file.path): \(summary.headline)", json: summary.totals(adding: [:]))
  }
}
