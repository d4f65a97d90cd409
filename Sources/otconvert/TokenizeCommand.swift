import ArgumentParser
import OTFoundation
import OTJSON
import OTModel
import OTTokenizer

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Print the tokens that a model's tokenizer makes of a text.",
    discussion: """
      MODEL is an .otq file or a checkpoint with its tokenizer.json, or one of the
      older files (vocab.json and merges.txt, vocab.txt, tokenizer.model), beside it.
      A line for each token: its id and its piece, as the vocabulary spells it.

      EXAMPLES
        otconvert tokenize model.otq --text "In the beginning"
        otconvert tokenize model/ --text-file story.txt --ids --no-special-tokens
        echo "Once upon a time" | otconvert tokenize model.otq --text-file - --json
      """)

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var model: String
  @Option(help: ArgumentHelp("The text.", valueName: "text")) var text: String?
  @Option(help: ArgumentHelp("Read it from a file, - for standard input.", valueName: "file"), completion: .file())
  var textFile: String?
  @Flag(help: "Print the ids alone, on one line.") var ids = false
  @Flag(help: "Leave out the special tokens that go around a text.") var noSpecialTokens = false
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    guard (text == nil) != (textFile == nil) else { throw ValidationError("Give either --text or --text-file.") }
    guard !ids || !messages.json else { throw ValidationError("--ids and --json are two forms of the same.") }
  }

  func run() throws {
    let text = try text ?? TextInput.read(textFile ?? "-")
    let model = try Model(path: model)
    guard let tokenizer = try model.tokenizer() else {
      throw Refusal(
        "tokenizer-missing", "has no tokenizer, so that text cannot be read", file: self.model,
        remedy: "put the model's tokenizer.json beside the checkpoint (and convert it again)")
    }
    let tokenIDs = try tokenizer.encode(text, addSpecialTokens: !noSpecialTokens)
    if messages.json {
      return try StandardOutput.write(json(tokenIDs, tokenizer).text(pretty: true) + "\n")
    }
    if ids {
      return try StandardOutput.write(tokenIDs.map { "\($0)" }.joined(separator: " ") + "\n")
    }
    for id in tokenIDs {
      try StandardOutput.write("\(id)\t\(Refusal.printable(tokenizer.token(id) ?? ""))\n")
    }
    messages.note("\(tokenIDs.count) tokens")
  }

  private func json(_ tokenIDs: [Int], _ tokenizer: Tokenizer) -> JSONValue {
    .object([
      "model": .string(model), "tokenCount": .integer(tokenIDs.count),
      "tokens": .array(
        tokenIDs.map { id in
          .object([
            "id": .integer(id), "piece": .string(tokenizer.token(id) ?? ""),
            "special": .bool(tokenizer.isSpecial(id)),
          ])
        }),
      "text": .string(tokenizer.decode(tokenIDs, skipSpecialTokens: true)),
    ])
  }
}
