import ArgumentParser

/// Text, or tokens in its place, that a command reads.
struct TextArguments: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text: plain or .jsonl, either also .gz or .zst; one or more files, - for standard input.", valueName: "file"),
    completion: .file())
  var text: [String] = []

  @OptionGroup var field: TextFieldArgument

  @Option(
    help: ArgumentHelp(
      "Tokens instead of text: a safetensors file with int64 input_ids [sequences, tokens], or one row of test_ids; token_type_ids and attention_mask beside them count.",
      valueName: "file"), completion: .file())
  var ids: String?

  @Option(help: ArgumentHelp("The tensor of --ids to read. [default: input_ids, else test_ids]", valueName: "name"))
  var tensor: String?

  /// True when text or tokens are given.
  var isGiven: Bool { !text.isEmpty || ids != nil }
}
