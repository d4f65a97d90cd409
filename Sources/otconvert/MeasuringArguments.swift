import ArgumentParser
import OTFoundation
import OTQ

/// The windows of text or tokens that models are measured on.
struct MeasuringArguments: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text: plain or .jsonl, either also .gz or .zst; one or more files, - for standard input.",
      valueName: "file"),
    completion: .file())
  var text: [String] = []
  @OptionGroup var field: TextFieldArgument
  @Option(
    help: ArgumentHelp(
      "Tokens instead of text: a safetensors file with int64 input_ids [windows, tokens], or one row of test_ids.",
      valueName: "file"),
    completion: .file())
  var ids: String?
  @Option(help: ArgumentHelp("The tensor of --ids to read. [default: input_ids, else test_ids]", valueName: "name"))
  var tensor: String?
  @Option(
    help: ArgumentHelp(
      "Tokens of a window that text or one row of tokens is cut into; a matrix of tokens has its own. [default: 512, or the model's limit]",
      valueName: "N"))
  var context: Int?
  @Option(help: ArgumentHelp("Use only the first windows.", valueName: "N")) var windows: Int?

  /// True when text or tokens are given.
  var isGiven: Bool { !text.isEmpty || ids != nil }

  /// Names of the files of text or tokens.
  var name: String { (ids.map { [$0] } ?? text).map(\.lastPathComponent).joined(separator: ", ") }

  /// As the library takes them.
  func options(threadCount: Int) -> EvaluationOptions {
    var options = EvaluationOptions()
    (options.paths, options.field) = (text, field.textField)
    (options.ids, options.tensor) = (ids, tensor)
    (options.context, options.windowCount) = (context, windows)
    options.threadCount = threadCount
    return options
  }
}
