import ArgumentParser
import Foundation
import OTFoundation
import OTJSON
import OTQ
import OTText

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

      --lines continues each line of a file, or each text of lines of JSON, several at
      once: faster than one after the other, with the same texts from a packed file. A line of
      JSON for each comes in their order, to standard output or -o.

      EXAMPLES
        otconvert run model.otq --prompt "In the beginning"
        otconvert run model.otq --prompt-file story.txt --max-tokens 500 \\
          --temperature 0.8 --top-p 0.95 --seed 7
        echo "Once upon a time" |
          otconvert run model/ --prompt-file - --stop "The end" --quiet
        otconvert run model.otq --prompt "2 + 2 =" --max-tokens 4 --json
        otconvert run model.otq --lines prompts.jsonl --sequences 16 -o texts.jsonl
      """)

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var model: String
  @Option(help: ArgumentHelp("The text to continue.", valueName: "text")) var prompt: String?
  @Option(
    help: ArgumentHelp(
      "Read it from a file, - for standard input; one line break at its end is left out.", valueName: "file"),
    completion: .file())
  var promptFile: String?
  @Option(
    help: ArgumentHelp(
      "Texts to continue, one a line, or lines of JSON with a text under 'text'; - for standard input.",
      valueName: "file"), completion: .file())
  var lines: String?
  @OptionGroup var field: TextFieldArgument
  @Option(help: ArgumentHelp("Texts of --lines that are written at once.", valueName: "N")) var sequences = 8
  @Option(
    name: .shortAndLong, help: ArgumentHelp("The file to write for --lines.", valueName: "file"),
    completion: .file(extensions: ["jsonl"]))
  var output: String?
  @Flag(help: "Replace it where it exists.") var force = false
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
    guard [prompt, promptFile, lines].count(where: { $0 != nil }) == 1 else {
      throw ValidationError("Give one of --prompt, --prompt-file and --lines.")
    }
    guard lines != nil || (output == nil && !force) else { throw ValidationError("-o and --force are for --lines.") }
    guard output != nil || !force else { throw ValidationError("--force is for -o.") }
    guard lines == nil || !messages.json else {
      throw ValidationError("--lines gives lines of JSON without --json.")
    }
    guard sequences > 0 else { throw ValidationError("--sequences must be positive.") }
    try validated { try options.check() }
  }

  private var options: GenerationOptions {
    GenerationOptions(
      maximumTokenCount: maxTokens, temperature: temperature, topK: topK, topP: topP, seed: seed, stopStrings: stop)
  }

  func run() throws {
    guard let lines else { return try runPrompt(promptText()) }
    let inputs = FileIdentity.all([model, lines])
    if let output { try AtomicFile.check([output], force: force, inputs: inputs) }
    let prompts = try TextFile(path: lines, field: field.textField).texts(emptyRule: "generate-empty-prompt")
    let file = try output.map { try AtomicFile(path: $0, force: force, inputs: inputs) }
    try runLines(prompts) { line in
      if let file { try file.append(line.utf8) } else { try StandardOutput.write(line) }
    }
    try file?.commit()
  }

  private func loadedModel() throws -> LanguageModel {
    let model = try LanguageModel(
      readingText: model, threadCount: threads.threads, attentionBits: attention.quantizeAttention)
    model.file.warnings.forEach(messages.warn)
    return model
  }

  private func runPrompt(_ prompt: String) throws {
    let model = try loadedModel()
    let loop = try GenerationLoop(model, tokenIDs: model.promptTokenIDs(prompt), options: options)
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

  /// - Parameter write: is given a line for each prompt, in their order.
  private func runLines(_ prompts: [String], write: (String) throws -> Void) throws {
    let model = try loadedModel()
    let loop = try GenerationLoop(
      model, prompts: prompts.map { try model.promptTokenIDs($0) }, options: options, sequenceCount: sequences)
    Interruption.watch()
    let start = ContinuousClock.now
    var texts = [(text: String, tokenIDs: [Int])](repeating: ("", []), count: prompts.count)
    /// Texts that wait for one before them.
    var ended: [Int: GeneratedPiece.Summary] = [:]
    var (writtenCount, tokenCount) = (0, 0)
    while true {
      let pieces = try loop.step(isCancelled: { Interruption.hasCome })
      // What has been cut off is not a result.
      if Interruption.hasCome || pieces.isEmpty { break }
      for (index, piece) in pieces.map({ ($0.index, $0.piece) }) {
        texts[index].text += piece.text
        texts[index].tokenIDs += piece.tokenIDs
        tokenCount += piece.tokenIDs.count
        ended[index] = piece.summary
      }
      while let summary = ended.removeValue(forKey: writtenCount) {
        let (text, tokenIDs) = texts[writtenCount]
        try write(JSONValue.object(members(summary, text: text, tokenIDs: tokenIDs)).text(pretty: false) + "\n")
        texts[writtenCount] = ("", [])
        writtenCount += 1
      }
      messages.status("continuing, \(writtenCount) of \(prompts.count) texts")
    }
    messages.status("")
    Interruption.endProcessIfCome()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    messages.note(
      "generated  \(tokenCount) tokens of \(prompts.count) texts, "
        + "\(fixed(Double(tokenCount) / max(seconds, 1e-9), 1)) tokens/s")
  }

  private func promptText() throws -> String {
    if let prompt { return prompt }
    var text = try TextInput.read(promptFile ?? "-")
    if text.last?.isNewline ?? false { text.removeLast() }
    return text
  }

  private func members(_ summary: GeneratedPiece.Summary, text: String, tokenIDs: [Int]) -> JSONObject {
    [
      "text": .string(text), "tokenIDs": .array(tokenIDs.map { .integer($0) }),
      "stopReason": .string(summary.stopReason.rawValue),
      "promptTokenCount": .integer(summary.promptTokenCount), "tokenCount": .integer(summary.tokenCount),
    ]
  }

  private func finish(_ summary: GeneratedPiece.Summary, text: String, tokenIDs: [Int]) throws {
    if messages.json {
      var members: JSONObject = ["model": .string(model)]
      let times: JSONObject = [
        "promptSeconds": .number(summary.promptSeconds), "seconds": .number(summary.seconds),
        "promptTokensPerSecond": .number(summary.promptTokensPerSecond),
        "tokensPerSecond": summary.tokenCount > 1 ? .number(summary.tokensPerSecond) : .null,
      ]
      for part in [self.members(summary, text: text, tokenIDs: tokenIDs), times] {
        for (name, value) in part.members { members[name] = value }
      }
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
