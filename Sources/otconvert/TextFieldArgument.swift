import ArgumentParser

/// Where texts are in lines of JSON.
struct TextFieldArgument: ParsableArguments {
  /// The field unless told otherwise.
  static let standard = "text"

  @Option(help: ArgumentHelp("The field of .jsonl files that has the text.", valueName: "name"))
  var textField = standard
}
