import OTQ

/// Reads a model's facts, a tensor and logits, and lets it write or embed:
/// `Example MODEL.otq [MODEL.otq …]`. A folder is converted first, beside it.
@main struct Example {
  static func main() async throws {
    for path in CommandLine.arguments.dropFirst() {
      do {
        try await show(path.hasSuffix(".otq") ? path : converted(path))
      } catch let refusal as Refusal {
        print("refused by \(refusal.rule): \(refusal)")
      }
    }
  }

  /// Converts a checkpoint, verifies the file and gives its path.
  static func converted(_ checkpoint: String) async throws -> String {
    let output = checkpoint + ".otq"
    var options = ConvertOptions()
    options.bits = 6
    options.isCalibrated = false
    options.replacesOutput = true
    var stages: Set<WorkStage> = []
    for try await step in try ModelFile.convert(checkpoint, to: output, options: options) {
      switch step {
      case .progress(let progress): stages.insert(progress.stage)
      case .finished(let result):
        print("converted to \(result.byteCount) bytes by \(result.method), told of \(stages.count) stage")
      }
    }
    let verified = try await ModelFile.verify(output, against: checkpoint).result()
    print("verified: \(verified.hasPassed)")
    let copy = try await ModelFile.export(
      checkpoint, to: checkpoint + ".gguf", format: "gguf", options: ExportOptions(named: ["method": ["per-token"]])
    ).result()
    print("exported to \(copy.format)")
    return output
  }

  static func show(_ path: String) async throws {
    let model = try LanguageModel(path: path, threadCount: 2)
    let metadata = try model.file.metadata()
    print(
      "\(metadata.name): \(metadata.family ?? "?"), \(metadata.parameterCount) parameters at \(metadata.weightBits) "
        + "bits, \(metadata.byteCount) bytes, from \(metadata.sources.map(\.name))")

    if let tensor = model.file.tensors.first(where: { $0.bits != nil }) {
      let values = try tensor.values()
      print("\(tensor.name) \(tensor.shape): \(values.min() ?? 0) … \(values.max() ?? 0)")
      if case .quantized(let scheme) = tensor.storage { print("  a scale for each: \(scheme.granularity)") }
    }

    guard model.isCausal else {
      let texts = ["And God said, Let there be light.", "And there was light.", "Jesus wept."]
      let vectors = try model.embed(texts)
      for (text, vector) in zip(texts, vectors) {
        print("cosine \(cosine(vectors[0], vector)) to the first: \(text)")
      }
      return
    }
    let tokens = try model.encode("And God said")
    let logits = try model.logits(for: tokens)
    print("logits [\(logits.rowCount), \(logits.channelCount)] for \(tokens)")
    print(try model.decode(tokens), terminator: "")
    let options = GenerationOptions(maximumTokenCount: 24, temperature: 0.7, topP: 0.9, seed: 1, stopStrings: ["\n"])
    for try await piece in try model.generate("And God said", options: options) {
      print(piece.text, terminator: "")
      if let summary = piece.summary { print("\n\(summary.tokenCount) tokens, ended by \(summary.stopReason)") }
    }
  }

  static func cosine(_ a: [Float], _ b: [Float]) -> Float {
    func dot(_ a: [Float], _ b: [Float]) -> Float { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
    return dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
  }
}
