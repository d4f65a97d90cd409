import ArgumentParser
import OTQ

/// The options by which a conversion is held to figures before its file appears.
struct GateArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Write the file only if this holds (repeatable): \(Requirement.figures), with <= or >= and a number.",
      valueName: "limit"))
  var require: [String] = []

  @Option(
    help: ArgumentHelp(
      "Instead of --bits: the smallest file that holds this (repeatable; as --require), from 4 bits to 8.",
      valueName: "limit"))
  var until: [String] = []

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text that --require and --until measure on. [default: samples held out of the calibration]", valueName: "file"),
    completion: .file())
  var requireText: [String] = []

  @Option(
    help: ArgumentHelp("Tokens instead of that text: a safetensors file, as --ids of calibration.", valueName: "file"),
    completion: .file())
  var requireIds: String?

  @Option(help: ArgumentHelp("Windows of that text or those tokens.", valueName: "N")) var requireWindows = 40

  /// - Parameter field: the field of lines of JSON that has the text.
  func options(field: String) -> RequireOptions {
    var options = RequireOptions()
    options.textField = field
    (options.limits, options.until) = (require, until)
    (options.textPaths, options.ids, options.windowCount) = (requireText, requireIds, requireWindows)
    return options
  }
}
