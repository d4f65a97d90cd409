import ArgumentParser
import OTFoundation
import OTQ

/// The windows of text or tokens that models are measured on.
struct MeasuringArguments: ParsableArguments {
  @OptionGroup var input: TextArguments
  @Option(
    help: ArgumentHelp(
      "Tokens of a window that text or one row of tokens is cut into; a matrix of tokens has its own. [default: 512, or the model's limit]",
      valueName: "N"))
  var context: Int?
  @Option(help: ArgumentHelp("Use only the first windows.", valueName: "N")) var windows: Int?

  /// Names of the files of text or tokens.
  var name: String { (input.ids.map { [$0] } ?? input.text).map(\.lastPathComponent).joined(separator: ", ") }

  /// As the library takes them.
  func options(threadCount: Int) -> EvaluationOptions {
    var options = EvaluationOptions()
    (options.paths, options.field) = (input.text, input.field.textField)
    (options.ids, options.tensor) = (input.ids, input.tensor)
    (options.context, options.windowCount) = (context, windows)
    options.threadCount = threadCount
    return options
  }
}
