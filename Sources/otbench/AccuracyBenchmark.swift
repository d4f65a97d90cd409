import ArgumentParser
import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTTensor
import OTText
import OTTokenizer

/// Accuracy of a model in every scheme beside its float32 form.
struct AccuracyBenchmark: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "accuracy",
    abstract: "Perplexity of a language model, or cosine of a sentence model's embeddings, quantized beside float.",
    discussion: """
      Converts the model in every scheme, with statistics measured on --calibration,
      and runs all files beside the float32 model on the same windows or sentences.

      A fixture with goldens.safetensors and reference.json needs no text: its own
      tokens are used, and the perplexities of its simulation stand beside.

      EXAMPLES
        otbench accuracy fixtures/models/opt-mini
        otbench accuracy smollm2/ --text wiki.test.txt --calibration wiki.valid.txt --wikitext
        otbench accuracy minilm/ --text wiki.test.txt --calibration wiki.valid.txt --wikitext
      """)

  @Argument(help: "A folder in the layout of Hugging Face, with its tokenizer.json.", completion: .directory)
  var model: String
  @Option(help: ArgumentHelp("Text to measure on.", valueName: "file"), completion: .file()) var text: String?
  @Option(
    help: ArgumentHelp("Text to calibrate on. [default: the sample in the package]", valueName: "file"),
    completion: .file())
  var calibration: String?
  @Flag(
    help: ArgumentHelp(
      "The texts are WikiText's: '<unk>' is spelled 'unk' and ' @-@ ' '-' before they are tokenized."))
  var wikitext = false
  @Option(help: ArgumentHelp("Tokens of a window.", valueName: "N")) var context = 512
  @Option(help: ArgumentHelp("Windows of a language model.", valueName: "N")) var windows = 40
  @Option(help: ArgumentHelp("Sentences of a sentence model.", valueName: "N")) var sentences = 500
  @Option(help: ArgumentHelp("Samples to calibrate on.", valueName: "N")) var samples = 128
  @Option(
    help: ArgumentHelp(
      "Measure this scheme instead of the usual ones, such as w6a8,best, w4a8/g64,best, 5.0bpwa8,best, w6a6/group:64,best or w6a8@gptq,passes=10,best: settings as of otconvert compare (repeatable).",
      valueName: "setting,method"))
  var scheme: [String] = []
  @Option(help: ArgumentHelp("Bits of embeddings and the output head: 8 or 16.", valueName: "bits"))
  var embeddingBits = 8
  @Option(help: ArgumentHelp("Threads to use.", valueName: "N"))
  var threads = Machine.processorCount
  @Flag(help: "Print JSON.") var json = false

  func validate() throws {
    for (value, name) in [
      (context, "context"), (windows, "windows"), (sentences, "sentences"), (samples, "samples"), (threads, "threads"),
    ] where value < 1 {
      throw ValidationError("--\(name) must be positive.")
    }
    _ = try chosenSchemes()
    guard embeddingBits == 8 || embeddingBits == 16 else { throw ValidationError("--embedding-bits must be 8 or 16.") }
  }

  func run() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("otbench-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let source = try SourceModel(path: model)
    let graph = try source.graph()
    let fixture = text == nil ? try SimulatedFixture(model, windows: windows) : nil
    guard let text = try text.map({ try prepared($0, "text", folder.path) }) ?? (fixture == nil ? nil : "") else {
      throw ValidationError("Give --text, or a fixture with goldens.safetensors and reference.json.")
    }
    let calibration = try calibrationSettings(graph, folder.path)
    let samples = try fixture?.samples ?? calibration.samples(tokenizer: tokenizer(of: source), graph: graph)
    let isLanguageModel = graph.outputs["logits"] != nil && graph.isCausal
    let usual = isLanguageModel ? AccuracyScheme.ofLanguageModels : AccuracyScheme.ofSentenceModels
    let chosen = try chosenSchemes()
    let schemes = chosen.isEmpty ? usual : chosen
    let needs = try AccuracyScheme.needs(schemes)
    let statistics =
      needs.isEmpty
      ? nil
      : try calibration.run(
        on: source, samples: samples, kinds: needs,
        progress: { done, total in show("calibrating, \(done) of \(total) tokens") })
    show(nil)
    let files = try schemes.map { scheme in
      show("converting \(scheme.name) \(scheme.method)")
      return try scheme.convert(
        source, statistics, calibration, samples,
        // The simulation keeps embeddings in float.
        embeddingBits: fixture == nil ? embeddingBits : 16, into: folder.path)
    }
    let byteCount = source.checkpoint.files.reduce(0) { $0 + $1.mapped.byteCount }
    if isLanguageModel {
      var rows = try LanguageAccuracy(
        source: source, files: files, windows: fixture?.windows ?? windows(of: text, source),
        fixture: fixture, threads: threads)
      try rows.measure { done, total in show("window \(done) of \(total)") }
      show(nil)
      report(rows.json(sourceByteCount: byteCount), rows.table(sourceByteCount: byteCount))
    } else {
      let rows = try SentenceAccuracy(
        model: model, files: files, sentences: WikiText.sentences(of: text, count: sentences),
        threads: threads)
      report(rows.json(sourceByteCount: byteCount), rows.table(sourceByteCount: byteCount))
    }
  }

  private func report(_ members: JSONObject, _ table: String) {
    if json {
      var members = members
      members["processor"] = .string(processorName())
      print(JSONValue.object(members).text(pretty: true))
    } else {
      print(table)
    }
  }

  private func chosenSchemes() throws -> [AccuracyScheme] {
    try scheme.map { text in
      guard let scheme = AccuracyScheme(text) else {
        throw ValidationError("--scheme '\(text)' is not SETTING,METHOD, such as w6a8,best.")
      }
      return scheme
    }
  }

  private func calibrationSettings(_ graph: Graph, _ folder: String) throws -> Calibration {
    var settings = Calibration()
    settings.text.paths = try calibration.map { [try prepared($0, "calibration", folder)] } ?? []
    settings.text.count = samples
    settings.text.length = min(context, graph.contextLength ?? context)
    settings.threadCount = threads
    return settings
  }

  private func tokenizer(of source: SourceModel) throws -> Tokenizer {
    guard let tokenizer = try Model.source(source).tokenizer() else {
      throw Refusal("tokenizer-missing", "has no tokenizer.json", file: model)
    }
    return tokenizer
  }

  private func windows(of text: String, _ source: SourceModel) throws -> [[Int]] {
    try TokenSampling.windows(of: [text], tokenizer: tokenizer(of: source), length: context, limit: windows)
  }

  /// The text's path, or that of its rewritten copy.
  private func prepared(_ path: String, _ name: String, _ folder: String) throws -> String {
    guard wikitext else { return path }
    let copy = "\(folder)/\(name).txt"
    try WikiText.prepare(path, to: copy)
    return copy
  }

  /// Shows on a terminal how far it is; nil clears the line.
  private func show(_ text: String?) {
    guard isatty(STDERR_FILENO) == 1 else { return }
    FileHandle.standardError.write(Data("\r\u{1B}[K\(text ?? "")".utf8))
  }
}
