import ArgumentParser
import Foundation
import OTCheckpoint
import OTFoundation
import OTQ

struct EvalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "Run a model on text or token IDs: perplexity, speed, logits, distance from another model.",
    discussion: """
      MODEL is an .otq file, which runs as packed, or a checkpoint, which runs in
      float32. In each window of tokens the first is context only.

      Text is tokenized as a whole by the model's own tokenizer and cut into
      windows. Beside the tokens of --ids, the same file's token_type_ids,
      attention_mask (0 hides a token) and labels (a class for each window) count.

      EXAMPLES
        otconvert eval model.otq --text wiki.test.txt --windows 40
        otconvert eval model.otq --text wiki.test.txt --against model/
        otconvert eval model.otq --ids ids.safetensors
        otconvert eval model.otq --ids ids.safetensors --against model/ --json
        otconvert eval model.otq --ids goldens.safetensors \\
          --logits-out logits.safetensors
        otconvert eval model/ --ids goldens.safetensors --tensor test_ids \\
          --context 128 --windows 40
        otconvert eval bert.otq --ids pairs.safetensors --hidden-out hidden.safetensors
      """)

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var model: String
  @Option(
    help: ArgumentHelp(
      "Tokens: a safetensors file with int64 input_ids [windows, tokens], or one row of test_ids.",
      valueName: "file"),
    completion: .file())
  var ids: String?
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text: plain or .jsonl (field 'text'), either also .gz or .zst; one or more files, - for standard input.",
      valueName: "file"),
    completion: .file())
  var text: [String] = []
  @Option(
    help: ArgumentHelp(
      "The tensor of --ids to read. [default: input_ids, else test_ids]", valueName: "name"))
  var tensor: String?
  @Option(
    help: ArgumentHelp(
      "Tokens of a window that text or one row of tokens is cut into; a matrix of tokens has its own. [default: 512, or the model's limit]",
      valueName: "N"))
  var context: Int?
  @Option(help: ArgumentHelp("Use only the first windows.", valueName: "N")) var windows: Int?
  @Option(
    help: ArgumentHelp(
      "Write logits, float32 [windows, tokens, vocabulary]; of a classifier [windows, labels] or [windows, tokens, labels].",
      valueName: "file"),
    completion: .file())
  var logitsOut: String?
  @Option(
    help: ArgumentHelp("Write the last hidden states, float32 [windows, tokens, channels].", valueName: "file"),
    completion: .file())
  var hiddenOut: String?
  @Option(
    help: ArgumentHelp("Write the pooled vectors, float32 [windows, channels].", valueName: "file"),
    completion: .file())
  var pooledOut: String?
  @Option(
    help: ArgumentHelp(
      "Compare with another model, the reference: KL divergence, agreement, ratio of perplexities.",
      valueName: "model"),
    completion: .file())
  var against: String?
  @Flag(help: "Replace the files to write where they exist.") var force = false
  @OptionGroup var attention: AttentionArguments
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    try validated { try options.check() }
  }

  private var options: EvaluationOptions {
    var options = EvaluationOptions()
    (options.paths, options.ids, options.tensor) = (text, ids, tensor)
    (options.context, options.windowCount) = (context, windows)
    options.threadCount = threads.threads
    return options
  }

  func run() throws {
    let file = try ModelFile(path: model)
    let other = try against.map { try ModelFile(path: $0) }
    (file.warnings + (other?.warnings ?? [])).forEach(messages.warn)
    let inputs = file.model.inputs + (other?.model.inputs ?? []) + FileIdentity.all(text + [ids])
    let files = outputs
    // Before time goes into what cannot be written.
    if !files.isEmpty { try AtomicFile.check(files.map(\.path), force: force, inputs: inputs) }
    let model = try LanguageModel(
      file, threadCount: threads.threads, attentionBits: attention.quantizeAttention)
    let reference = try other.map { try LanguageModel($0, threadCount: threads.threads) }
    let tokens = try tokens(model, reference)
    var evaluation = try Evaluation(
      model, reference: reference, nodes: files.map { try $0.value.node(of: model) }, threadCount: threads.threads)
    let writers = try files.map {
      try EvaluationFile($0.value, to: $0.path, of: model, on: tokens, force: force, inputs: inputs)
    }
    for (index, window) in tokens.windows.enumerated() {
      let result = try evaluation.add(window, label: tokens.labels?[index])
      for file in writers.indices { try writers[file].add(result) }
      show(index + 1, of: tokens.windows.count)
    }
    for file in writers.indices { try writers[file].commit() }
    try messages.result(evaluation.text, json: evaluation.json)
  }

  /// The files to write.
  private var outputs: [(value: EvaluationFile.Value, path: String)] {
    let paths: [(EvaluationFile.Value, String?)] = [(.logits, logitsOut), (.hidden, hiddenOut), (.pooled, pooledOut)]
    return paths.compactMap { value, path in path.map { (value, $0) } }
  }

  private func tokens(_ model: LanguageModel, _ reference: LanguageModel?) throws -> TokenWindows {
    try options.windows(for: model, and: reference)
  }

  /// Shows how far it is.
  private func show(_ doneCount: Int, of count: Int) {
    messages.status(doneCount == count ? "" : "evaluating, window \(doneCount) of \(count)")
  }
}
