import ArgumentParser
import OTFoundation
import OTQ
import OTVerify

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Compare an .otq file with its source: weights, layers, whole models.",
    discussion: """
      weights  recomputes every weight from the source: every tensor is accounted
               for, every weight is within half a step or at the end of its
               range (GPTQ's move further: signal to noise is judged), norms and biases agree to rounding; compares the graph,
               node by node, with the one that the source's family gives
      layers   also runs both models on text and compares the outputs of linears
               and norms; each model reads its own inputs, so errors are those
               that have accumulated
      model    also compares perplexity and next-token distributions, or
               sentence vectors

      Without --reference only the file's own checksums and quantized values are
      checked. With exit status 1 it names the tensors, layers and figures that
      are outside the tolerance.

      EXAMPLES
        otconvert verify model.otq --reference model.safetensors
        otconvert verify model.otq --reference model/ --level model \\
          --text wiki.txt --report report.html
        otconvert verify model.otq --reference model/ --level layers \\
          --ids ids.safetensors --junit verify.xml
        otconvert verify model.otq --reference model/ \\
          --tolerance tolerance.json --json
      where tolerance.json is, say,
        {"minimumSqnrDecibels": {"6": 25},
         "model": {"maximumPerplexityRatio": 1.02}}

      With --of, this run compares its share of the weights and writes OUT.part-N; all
      parts that are merged give the result of one machine. In an array job of Slurm,
      of as many tasks, --part can be left out.

        otconvert verify model.otq --reference model/ -o verify.json --part 3 --of 8
        otconvert verify model.otq --reference model/ --merge verify.json.part-*
      """)

  @Argument(help: "The .otq file.", completion: .file()) var input: String
  @Option(help: ArgumentHelp("The checkpoint it was made from.", valueName: "checkpoint"))
  var reference: String?
  @Option(help: "How deep to look; each level includes those before it.") var level = VerifyOptions.Level.weights
  @Option(
    help: ArgumentHelp(
      "Thresholds: \(Tolerance.names.joined(separator: ", ")), or a JSON file.", valueName: "name or file"),
    completion: .file())
  var tolerance: String?
  @OptionGroup(title: "Text to run the models on, by default a sample in the program") var text:
    VerificationTextArguments
  @OptionGroup(title: "Tasks for both models") var tasks: TaskArguments
  @Option(help: ArgumentHelp("Write a report to look at: one HTML page.", valueName: "file"), completion: .file())
  var report: String?
  @Option(help: ArgumentHelp("Write the result for CI, as JUnit does.", valueName: "file"), completion: .file())
  var junit: String?
  @OptionGroup(title: "Parts") var parts: PartFileArguments
  @Flag(help: "Replace the files to write if they exist.") var force = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func validate() throws {
    var options = self.options
    // Which part it is, the environment may say.
    options.share = parts.share.of.flatMap { WorkShare(parts.share.part ?? 1, of: $0) }
    try validated { try options.check(hasReference: reference != nil) }
  }

  private var options: VerifyOptions {
    var options = VerifyOptions()
    (options.level, options.tolerance, options.text) = (level, tolerance, text.sampled)
    (options.report, options.junit, options.replacesOutput) = (report, junit, force)
    options.tasks = tasks.compared
    (options.part, options.merged) = (parts.output, parts.merge)
    options.threadCount = threads.threads
    return options
  }

  func run() throws {
    var options = self.options
    options.share = try parts.share.share()
    let work = try VerifyWork(input, reference: reference, options)
    guard let result = try work.run(messages.observer), let reference else {
      return try messages.result(
        "\(input): undamaged (not compared with a source: --reference)", json: work.undamaged)
    }
    let text = VerificationText(result)
    try messages.result(text.text, json: result.json)
    // They are in the JSON.
    if !messages.json { result.weights.notes.forEach(messages.warn) }
    if let refusal = result.refusal { throw refusal }
    try messages.print(text.verdict(reference: reference))
  }
}

extension VerifyOptions.Level: ExpressibleByArgument {}
