import ArgumentParser
import Foundation
import OTFoundation
import OTJSON
import OTQ

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Continue a text, token by token.",
    discussion: """
      MODEL is an .otq file, which runs as packed, or a checkpoint, which runs in
      float32; its tokenizer.json is part of the one and lies beside the other.
      The text goes to standard output as it comes, statistics to standard error.

      It is greedy unless --temperature is given: always the likeliest token. The
      same model, prompt, options and seed give the same text.

      EXAMPLES
        otconvert run model.otq --prompt "In the beginning"
        otconvert run model.otq --prompt-file story.txt --max-tokens 500 \\
          --temperature 0.8 --top-p 0.95 --seed 7
        echo "Once upon a time" |
          otconvert run model/ --prompt-file - --stop "The end" --quiet
        otconvert run model.otq --prompt "2 + 2 =" --max-tokens 4 --json
      """)

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var model: String
  @Option(help: ArgumentHelp("The text to continue.", valueName: "text")) var prompt: String?
  @Option(
    help: ArgumentHelp(
      "Read it from a file, - for standard input; one line break at its end is left out.", valueName: "file"),
    completion: .file())
  var promptFile: String?
  @Option(help: ArgumentHelp("The most tokens to generate.", valueName: "N")) var maxTokens = 128
  @Option(help: ArgumentHelp("0: always the likeliest token; above: draw, 1 as the model says.", valueName: "T"))
  var temperature = 0.0
  @Option(
    help: ArgumentHelp("Draw from the fewest tokens with this share of the probability, to 1.", valueName: "P"))
  var topP: Double?
  @Option(help: ArgumentHelp("Draw from the N likeliest tokens.", valueName: "N")) var topK: Int?
  @Option(help: ArgumentHelp("Seed of the draws.", valueName: "N")) var seed: UInt64 = 0
  @Option(help: ArgumentHelp("End before this text; repeatable.", valueName: "text")) var stop: [String] = []
  @OptionGroup var attention: AttentionArguments
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    guard (prompt == nil) != (promptFile == nil) else {
      throw ValidationError("Give either --prompt or --prompt-file.")
    }
    try validated { try options.check() }
  }

  private var options: GenerationOptions {
    GenerationOptions(
      maximumTokenCount: maxTokens, temperature: temperature, topK: topK, topP: topP, seed: seed, stopStrings: stop)
  }

  func run() throws {
    let prompt = try promptText()
    let model = try LanguageModel(
      path: model, threadCount: threads.threads, attentionBits: attention.quantizeAttention)
    model.file.warnings.forEach(messages.warn)
    let tokenIDs = try model.promptTokenIDs(prompt)
    let loop = try GenerationLoop(model, tokenIDs: tokenIDs, options: options)
    Interruption.watch()
    var text = ""
    var generatedIDs: [Int] = []
    while let piece = try loop.next(isCancelled: { Interruption.hasCome }) {
      if messages.json {
        text += piece.text
        generatedIDs += piece.tokenIDs
      } else {
        try StandardOutput.write(piece.text)
      }
      if let summary = piece.summary { try finish(summary, text: text, tokenIDs: generatedIDs) }
    }
    Interruption.endProcessIfCome()
  }

  private func promptText() throws -> String {
    if let prompt { return prompt }
    var text = try TextInput.read(promptFile ?? "-")
    if text.last?.isNewline ?? false { text.removeLast() }
    return text
  }

  private func finish(_ summary: GeneratedPiece.Summary, text: String, tokenIDs: [Int]) throws {
    if messages.json {
      let members: JSONObject = [
        "model": .string(model), "text": .string(text),
        "tokenIDs": .array(tokenIDs.map { .integer($0) }),
        "stopReason": .string(summary.stopReason.rawValue),
        "promptTokenCount": .integer(summary.promptTokenCount), "tokenCount": .integer(summary.tokenCount),
        "promptSeconds": .number(summary.promptSeconds), "seconds": .number(summary.seconds),
        "promptTokensPerSecond": .number(summary.promptTokensPerSecond),
        "tokensPerSecond": summary.tokenCount > 1 ? .number(summary.tokensPerSecond) : .null,
      ]
      try StandardOutput.write(JSONValue.object(members).text(pretty: true) + "\n")
      return
    }
    try StandardOutput.write("\n")
    let rate = summary.tokenCount > 1 ? ", \(fixed(summary.tokensPerSecond, 1)) tokens/s" : ""
    let reason =
      switch summary.stopReason {
      case .endOfText: "end of text"
      case .tokenCount: "--max-tokens"
      case .contextLength: "end of the context"
      case .stopString: "--stop"
      case .cancelled: "interrupted"
      }
    messages.note(
      "prompt     \(summary.promptTokenCount) tokens, \(fixed(summary.promptTokensPerSecond, 1)) tokens/s")
    messages.note("generated  \(summary.tokenCount) tokens\(rate); ended by \(reason)")
  }
}
