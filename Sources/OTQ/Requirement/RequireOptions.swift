import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTRuntime
import OTText

/// What the file of a conversion has to hold before it appears.
///
/// A limit is `FIGURE<=N` or `FIGURE>=N`: `kl<=0.02`, `perplexity-ratio<=1.01`, `agreement>=0.95`,
/// `accuracy-drop(piqa.jsonl)<=0.5`. Figures are `perplexity-ratio`, `kl`, `kl-99`, `kl-max`, `agreement`, `cosine`,
/// `accuracy(FILE)` and `accuracy-drop(FILE)`.
public struct RequireOptions: Sendable, Hashable {
  /// Limits of the file that the other options give.
  public var limits: [String] = []
  /// Limits by which the bits are chosen: the smallest file from 4 bits to 8 that holds them all.
  public var until: [String] = []
  /// Paths of the text on which the file is compared with its source; empty, without ``ids``: samples that are held
  /// out of the calibration.
  public var textPaths: [String] = []
  /// The field of lines of JSON that has that text.
  public var textField = "text"
  /// Tokens instead of text: path of a safetensors file with int64 `input_ids`.
  public var ids: String?
  /// The most windows of that text or those tokens.
  public var windowCount = 40

  /// Nothing is required.
  public init() {}

  /// True when a file has to hold something.
  package var isGiven: Bool { !limits.isEmpty || !until.isEmpty }

  /// True when samples of the calibration judge the file.
  var usesHeldOut: Bool { textPaths.isEmpty && ids == nil }

  /// Files that are read, which must not be overwritten.
  package var inputs: [FileIdentity] {
    FileIdentity.all(textPaths + [ids] + ((try? requirements()) ?? []).map { $0.data?.path })
  }

  /// - Throws: ``Refusal`` with rule `option-value` or `option-conflict`.
  package func check() throws(Refusal) {
    try OptionFault.refuse(!limits.isEmpty && !until.isEmpty, conflict: "--require and --until exclude each other")
    try OptionFault.refuse(
      !textPaths.isEmpty && ids != nil, conflict: "--require-text and --require-ids exclude each other")
    try OptionFault.refuse(
      !isGiven && !usesHeldOut, conflict: "--require-text and --require-ids need --require or --until")
    try OptionFault.refuse(windowCount < 1, value: "--require-windows must be positive")
    do {
      _ = try requirements()
    } catch {
      throw Refusal(
        "option-value", "\(limits.isEmpty ? "--until" : "--require"): \(error.message)", remedy: error.remedy)
    }
  }

  /// Checks that files can be read, for a caller that has much to do before they are.
  ///
  /// - Throws: as readers of text and files throw.
  func checkFiles() throws {
    for path in textPaths { _ = try TextFile(path: path, field: textField) }
    if let ids { _ = try MappedFile(path: ids) }
    for requirement in try requirements() {
      if let path = requirement.data?.path { _ = try TextFile(path: path) }
    }
  }

  /// - Throws: ``Refusal`` with rule `option-value` where data are to come from the standard input.
  func refuseStandardInput() throws(Refusal) {
    let reads = (limits + until).contains { (try? Requirement($0))?.data?.path == "-" }
    try OptionFault.refuse(reads, value: "--require and --until take files, not the standard input")
  }

  private func requirements() throws(Refusal) -> [Requirement] {
    var requirements: [Requirement] = []
    for text in limits + until { requirements.append(try Requirement(text)) }
    return requirements
  }

  /// The gate of a conversion; nil where nothing is required.
  ///
  /// - Throws: as `Gate`, as tokenizers and as readers of text and tokens.
  func gate(
    _ plan: ConversionPlan, heldOut samples: Calibration.Samples?, threadCount: Int, _ observer: WorkObserver
  ) throws -> Gate? {
    guard isGiven else { return nil }
    let requirements = try requirements()
    let readsText = requirements.contains { $0.data == nil }
    let text = try text(plan, samples, isNeeded: readsText)
    if readsText { text.note.map(observer.warn) }
    return try Gate(
      requirements, text: text, source: plan.model, threadCount: threadCount, observer)
  }

  private func text(_ plan: ConversionPlan, _ samples: Calibration.Samples?, isNeeded: Bool) throws -> Gate.Text {
    let graph = try plan.model.graph()
    func run(_ records: [FileRecord], _ tokens: TokenWindows) -> CalibrationRun {
      CalibrationRun(texts: records, sampleCount: tokens.windows.count, length: tokens.length, seed: nil)
    }
    if let ids {
      let tokens = try TokenWindows(
        path: ids, tensor: nil, context: nil, option: "--length", limit: windowCount, graphs: [graph])
      return Gate.Text(
        sequences: try tokens.unmasked, run: run([try FileRecord(of: MappedFile(path: ids))], tokens))
    }
    if !textPaths.isEmpty {
      guard let tokenizer = try Model.source(plan.model).tokenizer() else {
        throw Refusal(
          "tokenizer-missing", "has no tokenizer beside it, so that --require-text cannot be read",
          file: plan.model.path, remedy: "put its tokenizer.json beside it, or give tokens with --require-ids")
      }
      let tokens = try TokenWindows(
        texts: textPaths, field: textField, tokenizer: tokenizer, context: nil, limit: windowCount, graphs: [graph])
      let records = try textPaths.map {
        try FileRecord(
          of: TextFile(path: $0, field: textField).file, name: TextFile.recordName($0, field: textField))
      }
      return Gate.Text(sequences: tokens.windows, run: run(records, tokens))
    }
    if let samples, !samples.heldOut.isEmpty {
      let run = CalibrationRun(
        texts: samples.run.texts, sampleCount: samples.heldOut.count, length: samples.run.length,
        seed: samples.run.seed)
      return Gate.Text(sequences: samples.heldOut, run: run)
    }
    // Nothing was calibrated on text, so that the package's is as good as any.
    if samples == nil, isNeeded, let tokenizer = try Model.source(plan.model).tokenizer() {
      var calibration = Calibration()
      calibration.text.count = 8
      let drawn = try calibration.samples(tokenizer: tokenizer, graph: graph)
      return Gate.Text(sequences: drawn.tokens, run: drawn.run)
    }
    return Gate.Text(sequences: [], run: CalibrationRun(texts: [], sampleCount: 0, length: 0, seed: nil))
  }
}
