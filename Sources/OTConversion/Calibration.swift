import Foundation
import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTObservation
import OTRuntime
import OTText
import OTTokenizer

/// How a checkpoint is calibrated on text.
package struct Calibration: Sendable {
  /// Tokens of a sample, unless told otherwise or the model reads fewer.
  package static let standardLength = 512

  /// Files of text; none: the sample that comes with the package.
  package var paths: [String] = []
  /// Samples, if the text has as many.
  package var sampleCount = 128
  /// Tokens of a sample; nil: 512, or what the model can read.
  package var length: Int?
  /// Says where in the text samples are.
  package var seed: UInt64 = 0
  /// Threads to use.
  package var threadCount = 1
  /// Memory for parameters and values, the mapped source not counted; nil: half
  /// of the machine's, or more if a single sample takes more.
  package var maximumByteCount: Int?

  /// Calibration on the sample that comes with the package.
  package init() {}

  /// Samples of tokens, and the record of how they were drawn.
  package struct Samples: Sendable {
    /// Token IDs of each sample.
    package let tokens: [[Int]]
    /// Their origin.
    package let run: CalibrationRun
    /// What the user should know, if anything.
    package let note: String?

    /// Samples that were drawn elsewhere.
    package init(tokens: [[Int]], run: CalibrationRun, note: String? = nil) {
      self.tokens = tokens
      self.run = run
      self.note = note
    }
  }

  /// Draws samples of text for the model with this graph.
  ///
  /// - Throws: `Refusal` with rule `calibration-context` or `text-token`, or as
  ///   `TokenSampling` throws.
  package func samples(tokenizer: Tokenizer, graph: Graph) throws -> Samples {
    let longest = graph.contextLength ?? .max
    if let length, length > longest {
      throw Refusal(
        "calibration-context", "samples of \(length) tokens are longer than the model's \(longest)",
        remedy: "choose a smaller --length")
    }
    let length = sampleLength(graph)
    let tokens: [[Int]]
    let texts: [FileRecord]
    if paths.isEmpty {
      tokens = TokenSampling.samples(
        ofDocuments: try SampleText.documents(), tokenizer: tokenizer, count: sampleCount, length: length, seed: seed)
      let bytes = SampleText.bytes
      texts = [FileRecord(name: SampleText.name, byteCount: bytes.count, sha256: try SHA256Digest.hex(of: bytes))]
    } else {
      tokens = try TokenSampling.samples(
        of: paths, tokenizer: tokenizer, count: sampleCount, length: length, seed: seed)
      texts = try paths.map { path in
        let file = try MappedFile(path: path)
        return FileRecord(
          name: URL(fileURLWithPath: path).lastPathComponent, byteCount: file.byteCount,
          sha256: try SHA256Digest.hex(of: file))
      }
    }
    try Calibration.check(tokens, graph, file: paths.first)
    let found = tokens.map(\.count).max() ?? 0
    var note: String?
    if tokens.count < sampleCount || found < length {
      note = "the text has \(tokens.count) samples of \(found) tokens, not \(sampleCount) of \(length)"
    }
    return Samples(
      tokens: tokens,
      run: CalibrationRun(texts: texts, sampleCount: tokens.count, length: found, seed: seed), note: note)
  }

  /// Tokens of a sample, if the text has as many.
  private func sampleLength(_ graph: Graph) -> Int {
    length ?? min(Calibration.standardLength, graph.contextLength ?? .max)
  }

  /// - Throws: `Refusal` with rule `text-token` for a token outside the model's vocabulary.
  package static func check(_ samples: [[Int]], _ graph: Graph, file: String?) throws {
    guard let size = graph.vocabularySize,
      let token = samples.lazy.flatMap({ $0 }).first(where: { !(0..<size).contains($0) })
    else { return }
    throw Refusal(
      "text-token", "the tokenizer gives token \(token), the model's vocabulary has 0...\(size - 1)", file: file,
      remedy: "put the model's own tokenizer.json beside it")
  }

  /// Runs samples through a checkpoint in float32.
  ///
  /// - Parameters:
  ///   - family: instead of what the configuration says.
  ///   - sources: the records of the checkpoint's files.
  ///   - kinds: what is observed of every site.
  /// - Throws: `Refusal` with a rule `family-…`, `graph-…`, `calibration-…`, `run-…` or `parameter-…`.
  package func run(
    on checkpoint: Checkpoint, graph: Graph, samples: Samples, sources: [FileRecord],
    kinds: Set<ObservationKind> = [.ranges], progress: Calibrator.Progress? = nil
  ) throws -> ModelObservations {
    try Refusal.naming(checkpoint.files.first?.path) {
      let pass = CalibrationPass(kinds)
      let calibrator = try calibrator(checkpoint, graph, lengths: samples.tokens.map(\.count), pass)
      return ModelObservations(
        family: graph.family, sources: sources, runs: [samples.run],
        sites: try calibrator.run(samples.tokens, pass: pass, progress: progress).sites)
    }
  }

  /// Memory in bytes that calibrating takes beside the mapped source, if the
  /// text has all samples; no weight is read.
  ///
  /// - Throws: as `run`.
  package func byteCount(
    on checkpoint: Checkpoint, graph: Graph, kinds: Set<ObservationKind> = [.ranges]
  ) throws -> Int {
    let lengths = [Int](repeating: sampleLength(graph), count: sampleCount)
    return try Refusal.naming(checkpoint.files.first?.path) {
      let pass = CalibrationPass(kinds)
      return try calibrator(checkpoint, graph, lengths: lengths, pass).byteCount(lengths: lengths, pass: pass)
    }
  }

  /// - Throws: `Refusal` with rule `calibration-memory` where the smallest batch takes more than there may be.
  private func calibrator(
    _ checkpoint: Checkpoint, _ graph: Graph, lengths: [Int], _ pass: CalibrationPass
  ) throws -> Calibrator {
    func executor(cachesParameters: Bool) throws -> FloatExecutor {
      try FloatExecutor(
        graph: graph, parameters: CheckpointParameters(checkpoint.tensors), threadCount: threadCount,
        cachesParameters: cachesParameters)
    }
    let reading = try executor(cachesParameters: false)
    let least = try Calibrator.leastByteCount(reading, lengths: lengths, pass: pass)
    if let maximumByteCount, maximumByteCount < least {
      throw Refusal(
        "calibration-memory", "samples of \(lengths.max() ?? 0) tokens take at least \(least) bytes",
        remedy: "give as much with --max-memory, or choose a smaller --length")
    }
    let room = maximumByteCount ?? max(least, Int(clamping: ProcessInfo.processInfo.physicalMemory / 2))
    let byteCount = checkpoint.tensors.reduce(0) { $0 + $1.shape.elementCount * 4 }
    // Kept in memory where they leave as much again for values.
    guard byteCount < room / 2, room - byteCount >= least else {
      return Calibrator(executor: reading, parameterByteCount: nil, maximumByteCount: room)
    }
    return Calibrator(
      executor: try executor(cachesParameters: true), parameterByteCount: byteCount, maximumByteCount: room)
  }
}

extension PackedFile {
  /// The model's tokenizer; nil where the source had no `tokenizer.json`.
  ///
  /// - Throws: as `Tokenizer` throws.
  package func tokenizer() throws -> Tokenizer? {
    guard let bytes = try container.attachment(ModelAttachments.Kind.tokenizer.rawValue) else { return nil }
    let json = try bytes.withUnsafeBytes { try JSONValue.parse($0, limits: .configuration, file: path) }
    return try Tokenizer(json: json, file: path)
  }
}

extension Checkpoint {
  /// The model's graph as its family builds it.
  ///
  /// - Throws: `Refusal` with a rule `family-…` or `graph-…`.
  package func graph(family: String? = nil) throws -> Graph {
    try Families.graph(
      configuration: attachments.json(.configuration), tensors: TensorCatalog(tensors, file: files.first?.path),
      override: family)
  }

  /// The model's tokenizer; nil where there is no `tokenizer.json` beside it.
  ///
  /// - Throws: as `Tokenizer` throws.
  package func tokenizer() throws -> Tokenizer? {
    try attachments[.tokenizer].map { try Tokenizer(path: $0) }
  }
}
