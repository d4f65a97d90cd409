import ArgumentParser
import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTQ

struct EvalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "Run a model on text, token IDs or a task: perplexity, accuracy, speed, logits, distance from another.",
    discussion: """
      MODEL is an .otq file, which runs as packed, or a checkpoint, which runs in
      float32. In each window of tokens the first is context only.

      Text is tokenized as a whole by the model's own tokenizer and cut into
      windows. Beside the tokens of --ids, the same file's token_type_ids,
      attention_mask (0 hides a token) and labels (a class for each window) count.

      A task of the field asks questions: --data is its file, .jsonl, .tsv, .csv or
      .txt. The numbers are those of lm-eval. With --against, both models do it, and
      McNemar's p says whether answers flipped by more than chance. Tasks:

      \(TaskReport.listing)

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
        otconvert eval model.otq --task piqa --data piqa.jsonl --against model/
        otconvert eval model.otq --task multiple_choice --data questions.jsonl
        otconvert eval model.otq --text wiki.test.txt -o eval.json --part 3 --of 8
        otconvert eval --merge eval.json.part-*

      With --of, this run takes its share of the windows, or of a task's questions, and
      writes OUT.part-N; parts that are merged give the figures of one machine, bit for
      bit. In an array job of Slurm, of as many tasks, --part can be left out.
      """)

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var model: String?
  @OptionGroup var measuring: MeasuringArguments
  @Option(help: ArgumentHelp("A task to do: see above.", valueName: "name")) var task: String?
  @Option(
    help: ArgumentHelp("The task's data, as they are published; - for standard input.", valueName: "file"),
    completion: .file())
  var data: String?
  @Option(help: ArgumentHelp("Use only the first items of --data.", valueName: "N")) var limit: Int?
  @Option(
    help: ArgumentHelp(
      "Of a perplexity as a task: run all documents as one text, in windows that begin so many tokens apart.",
      valueName: "N"))
  var stride: Int?
  @Option(
    help: ArgumentHelp(
      "Write each item of --data, an object of JSON a line: scores, what is chosen, what is right.",
      valueName: "file"),
    completion: .file())
  var itemsOut: String?
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
  @OptionGroup(title: "Parts") var parts: PartFileArguments
  @Flag(help: "Replace the files to write where they exist.") var force = false
  @OptionGroup var attention: AttentionArguments
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  mutating func validate() throws {
    guard parts.merge.isEmpty else {
      guard model == nil, !measuring.input.isGiven, task == nil, data == nil, !parts.share.isGiven, parts.output == nil
      else {
        throw ValidationError("--merge takes parts of evaluations alone, and --items-out.")
      }
      return
    }
    guard model != nil else { throw ValidationError("Missing the model, or --merge with parts.") }
    try validated { try options.check() }
    guard parts.share.isGiven == (parts.output != nil) else { throw ValidationError("--of and -o need each other.") }
    guard !parts.share.isGiven || outputs.isEmpty && itemsOut == nil else {
      throw ValidationError("A part has no outputs of windows, and its items are written with --merge.")
    }
    guard !parts.share.isGiven || data != "-" else {
      throw ValidationError("--data is read by every part, so it must be a file.")
    }
    guard task != nil || itemsOut == nil else { throw ValidationError("--items-out needs --task.") }
    guard task == nil || logitsOut == nil && hiddenOut == nil && pooledOut == nil else {
      throw ValidationError("The outputs of windows do not go with --task.")
    }
  }

  private var options: EvaluationOptions {
    var options = measuring.options(threadCount: threads.threads)
    (options.task, options.data, options.limit, options.stride) = (task, data, limit, stride)
    return options
  }

  func run() throws {
    guard let path = model else { return try merge() }
    // Before models are opened.
    let task = try options.evaluatedTask
    let file = try ModelFile(path: path)
    let other = try against.map { try ModelFile(path: $0) }
    (file.warnings + (other?.warnings ?? [])).forEach(messages.warn)
    let inputs =
      file.model.inputs + (other?.model.inputs ?? [])
      + FileIdentity.all(measuring.input.text + [measuring.input.ids, data])
    if let output = parts.output, let share = try parts.share.share() {
      return try runPart(share, of: output, file, against: other, inputs: inputs, task)
    }
    if let task, let data {
      return try report(inputs).write {
        try TaskEvaluation(
          task, data: data, limit: limit, of: loaded(file), against: { try other.map(reference) },
          progress: { progress(task) })
      }
    }
    let files = outputs
    // Before time goes into what cannot be written.
    if !files.isEmpty { try AtomicFile.check(files.map(\.path), force: force, inputs: inputs) }
    let model = try loaded(file)
    var writers: [EvaluationFile] = []
    let evaluation = try options.evaluation(
      of: model, against: other.map(reference), nodes: files.map { try $0.value.node(of: model) }, messages.observer
    ) { tokens in
      writers = try files.map {
        try EvaluationFile($0.value, to: $0.path, of: model, on: tokens, force: force, inputs: inputs)
      }
      return { values in for file in writers.indices { try writers[file].add(values) } }
    }
    for file in writers.indices { try writers[file].commit() }
    try messages.result(evaluation.figures.text, json: evaluation.figures.json)
  }

  private func loaded(_ file: ModelFile) throws -> LanguageModel {
    try LanguageModel(file, threadCount: threads.threads, attentionBits: attention.quantizeAttention)
  }

  private func reference(_ file: ModelFile) throws -> LanguageModel {
    try LanguageModel(file, threadCount: threads.threads)
  }

  private func report(_ inputs: [FileIdentity]) -> TaskReport {
    TaskReport(itemsOut: itemsOut, force: force, inputs: inputs, messages: messages)
  }

  private func progress(_ task: EvaluationTask) -> WorkObserver.Progress {
    let line = messages.progress(task.name, unit: "items")
    return { line.update($0, $1) }
  }

  // MARK: Parts

  private func merge() throws {
    let files = try parts.merge.map {
      try PartFile(path: $0, of: [EvaluationFigures.partKind, TaskEvaluation.partKind])
    }
    if files.contains(where: { $0.kind == TaskEvaluation.partKind }) {
      return try report(FileIdentity.all(parts.merge)).write {
        try TaskEvaluation(files, threadCount: threads.threads)
      }
    }
    guard itemsOut == nil else { throw ValidationError("--items-out needs parts of a --task.") }
    let figures = try EvaluationFigures.merged(files)
    try messages.result(figures.text, json: figures.json)
  }

  /// Runs a share of the windows or of the task's questions, and writes what it gives.
  private func runPart(
    _ share: WorkShare, of output: String, _ file: ModelFile, against other: ModelFile?, inputs: [FileIdentity],
    _ task: EvaluationTask?
  ) throws {
    let path = "\(output).part-\(share.number)"
    try AtomicFile.check([path], force: force, inputs: inputs)
    let counts = inputs.map(\.byteCount).sorted() + [attention.quantizeAttention ?? 0]
    let name = "\(path): part \(share.number) of \(share.count)"
    if let task, let data {
      let identity = try task.identity(data: data, limit: limit, counts)
      let content = try TaskEvaluation.part(
        share, task, data: data, limit: limit, of: loaded(file), against: { try other.map(reference) },
        progress: { progress(task) })
      try PartFile(TaskEvaluation.partKind, identity: identity, share: share, content: content)
        .write(to: path, force: force, inputs: inputs)
      return try messages.result("\(name) of \(task.name)", json: .object(["file": .string(path)]))
    }
    var options = self.options
    options.share = share
    var identity = ""
    let evaluation = try options.evaluation(of: loaded(file), against: other.map(reference), messages.observer) {
      identity = try $0.identity(of: counts)
      return { _ in }
    }
    try PartFile(EvaluationFigures.partKind, identity: identity, share: share, content: evaluation.figures.content)
      .write(to: path, force: force, inputs: inputs)
    try messages.result("\(name)\n\(evaluation.figures.text)", json: evaluation.figures.json)
  }

  /// The files to write.
  private var outputs: [(value: EvaluationFile.Value, path: String)] {
    let paths: [(EvaluationFile.Value, String?)] = [(.logits, logitsOut), (.hidden, hiddenOut), (.pooled, pooledOut)]
    return paths.compactMap { value, path in path.map { (value, $0) } }
  }
}
