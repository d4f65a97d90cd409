import ArgumentParser
import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTProof
import OTRuntime

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

  mutating func validate() throws {
    guard require.isEmpty || until.isEmpty else { throw ValidationError("--require and --until exclude each other.") }
    guard requireText.isEmpty || requireIds == nil else {
      throw ValidationError("--require-text and --require-ids exclude each other.")
    }
    guard isGiven || (requireText.isEmpty && requireIds == nil) else {
      throw ValidationError("--require-text and --require-ids need --require or --until.")
    }
    guard requireWindows > 0 else { throw ValidationError("--require-windows must be positive.") }
    do {
      _ = try requirements()
    } catch {
      throw ValidationError(
        "\(require.isEmpty ? "--until" : "--require"): \(error.message)\(error.remedy.map { "; \($0)" } ?? "").")
    }
  }

  /// True when a file has to hold something.
  var isGiven: Bool { !require.isEmpty || !until.isEmpty }

  /// Files that are read.
  var inputs: [FileIdentity] {
    FileIdentity.all(requireText + [requireIds] + ((try? requirements()) ?? []).map { $0.data?.path })
  }

  private func requirements() throws(Refusal) -> [Requirement] {
    var requirements: [Requirement] = []
    for text in require + until { requirements.append(try Requirement(text)) }
    return requirements
  }

  /// The gate of a conversion; nil where nothing is required.
  ///
  /// - Throws: as `Gate`, as tokenizers and as readers of text and tokens.
  func gate(
    _ plan: ConversionPlan, heldOut samples: Calibration.Samples?, _ threadCount: Int, _ messages: OutputArguments
  ) throws -> Gate? {
    guard isGiven else { return nil }
    let requirements = try requirements()
    let text = try text(plan, samples, isNeeded: requirements.contains { $0.data == nil })
    if requirements.contains(where: { $0.data == nil }) { text.note.map(messages.warn) }
    let progress = messages.progress("the source's tasks", unit: .items)
    return try Gate(
      requirements, text: text, source: plan.model, threadCount: threadCount, progress: progress.update)
  }

  private func text(_ plan: ConversionPlan, _ samples: Calibration.Samples?, isNeeded: Bool) throws -> Gate.Text {
    let graph = try plan.model.graph()
    func record(_ paths: [String], _ tokens: TokenWindows) throws -> CalibrationRun {
      let records = try paths.map { path in
        let file = try MappedFile(path: path)
        return FileRecord(
          name: path.lastPathComponent, byteCount: file.byteCount, sha256: try SHA256Digest.hex(of: file))
      }
      return CalibrationRun(texts: records, sampleCount: tokens.windows.count, length: tokens.length, seed: nil)
    }
    if let requireIds {
      let tokens = try TokenWindows(
        path: requireIds, tensor: nil, context: nil, option: "--length", limit: requireWindows, graphs: [graph])
      return Gate.Text(sequences: try tokens.unmasked, run: try record([requireIds], tokens))
    }
    if !requireText.isEmpty, let tokenizer = try Model.source(plan.model).tokenizer() {
      let tokens = try TokenWindows(
        texts: requireText, tokenizer: tokenizer, context: nil, limit: requireWindows, graphs: [graph])
      return Gate.Text(sequences: tokens.windows, run: try record(requireText, tokens))
    }
    if let samples, !samples.heldOut.isEmpty {
      let run = CalibrationRun(
        texts: samples.run.texts, sampleCount: samples.heldOut.count, length: samples.run.length,
        seed: samples.run.seed)
      return Gate.Text(sequences: samples.heldOut, run: run)
    }
    // Nothing was calibrated on text, so that the package's is as good as any.
    if requireText.isEmpty, samples == nil, isNeeded, let tokenizer = try Model.source(plan.model).tokenizer() {
      var calibration = Calibration()
      calibration.text.count = 8
      let drawn = try calibration.samples(tokenizer: tokenizer, graph: graph)
      return Gate.Text(sequences: drawn.tokens, run: drawn.run)
    }
    return Gate.Text(sequences: [], run: CalibrationRun(texts: [], sampleCount: 0, length: 0, seed: nil))
  }
}
