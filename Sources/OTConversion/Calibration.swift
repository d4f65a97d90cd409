import OTContainer
import OTFoundation
import OTGraph
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import OTText
import OTTokenizer

/// The settings of a calibration.
package struct Calibration: Sendable {
  /// The samples of a calibration.
  package var text = TextSamples()
  /// Threads to use.
  package var threadCount = 1
  /// Memory for parameters and values, the mapped source not counted; nil: half
  /// of the machine's, or more if a single sample takes more.
  package var maximumByteCount: Int?

  /// Calibration on the sample that comes with the package.
  package init() {}

  /// The fewest tokens that may decide about a model's activations.
  ///
  /// A static scale is a channel's greatest value: over n tokens, one token in n of the texts to come is
  /// expected to go beyond it, and is clipped in every channel where it does.
  package static let leastTokenCount = 128

  /// Samples of tokens, and the record of how they were drawn.
  package struct Samples: Sendable {
    /// The tokens of each sample, none of them hidden.
    package let tokens: [TokenSequence]
    /// Samples of the same text that are kept from calibration, to judge its result on.
    package var heldOut: [TokenSequence] = []
    /// Their origin.
    package let run: CalibrationRun
    /// A warning to the user, if there is one.
    package let note: String?

    /// Samples that were drawn elsewhere.
    package init(tokens: [TokenSequence], run: CalibrationRun, note: String? = nil) {
      self.tokens = tokens
      self.run = run
      self.note = note
    }

    /// Samples without segments.
    package init(tokens: [[Int]], run: CalibrationRun) {
      self.init(tokens: tokens.map { TokenSequence($0) }, run: run)
    }
  }

  /// Draws samples of text for the model with this graph.
  ///
  /// - Parameter heldOutCount: samples to draw beside those and keep from calibration, evenly among all. Where
  ///   the text has no more than calibration wants, they are taken from that if it keeps seven times as many.
  /// - Throws: as `TextSamples.draw`.
  package func samples(tokenizer: Tokenizer, graph: Graph, holdingOut heldOutCount: Int = 0) throws -> Samples {
    var text = text
    text.count = text.count.addingChecked(heldOutCount) ?? text.count
    let drawn = try text.draw(
      tokenizer: tokenizer, contextLength: graph.contextLength, vocabularySize: graph.vocabularySize)
    let spareCount = drawn.tokens.count - self.text.count
    let chosenCount = spareCount > 0 ? spareCount : drawn.tokens.count >= 8 * heldOutCount ? heldOutCount : 0
    let chosen = (0..<chosenCount).map { (2 * $0 + 1) * drawn.tokens.count / (2 * chosenCount) }
    let tokens = drawn.tokens.enumerated().filter { !chosen.contains($0.offset) }.map { TokenSequence($0.element) }
    let bytes = SampleText.bytes
    let texts =
      text.paths.isEmpty
      ? [FileRecord(name: SampleText.name, byteCount: bytes.count, sha256: try SHA256Digest.hex(of: bytes))]
      : try zip(text.names, text.paths).map { name, path in
        // Also of what a pipe gave.
        try FileRecord(of: TextFile(path: path).file, name: name)
      }
    let run = CalibrationRun(texts: texts, sampleCount: tokens.count, length: drawn.length, seed: text.seed)
    var samples = Samples(tokens: tokens, run: run, note: drawn.note(wanting: self.text.count))
    samples.heldOut = chosen.map { TokenSequence(drawn.tokens[$0]) }
    return samples
  }

  /// Checks that samples have the tokens that observations need.
  ///
  /// - Throws: `Refusal` with rule `calibration-tokens`.
  package func check(_ samples: Samples) throws {
    let tokenCount = samples.tokens.reduce(0) { $0 + $1.tokenIDs.count }
    guard tokenCount < Calibration.leastTokenCount else { return }
    let asked = text.count.multipliedChecked(by: text.length ?? TextSamples.standardLength) ?? .max
    throw Calibration.tooFew(
      tokenCount, file: text.paths.first,
      remedy: asked < Calibration.leastTokenCount
        ? "raise --samples or --length"
        : "give more text, or leave out --text for the sample that comes with the program")
  }

  /// Checks that statistics are of as many tokens as deciding by them needs.
  ///
  /// - Throws: `Refusal` with rule `calibration-tokens`.
  static func check(_ statistics: ModelObservations) throws {
    // Other tools' files do not say.
    guard !statistics.runs.isEmpty, statistics.mostTokenCount < leastTokenCount else { return }
    throw tooFew(
      statistics.mostTokenCount, file: statistics.file?.path,
      remedy: "calibrate on more text, and merge the statistics with 'otconvert calibrate --merge'")
  }

  private static func tooFew(_ tokenCount: Int, file: String?, remedy: String) -> Refusal {
    Refusal(
      "calibration-tokens",
      "\(tokenCount) tokens are too few to calibrate on: ranges of activations need \(leastTokenCount) or more",
      file: file, remedy: remedy)
  }

  /// Runs samples through a checkpoint in float32: of them as many as what is observed needs.
  ///
  /// - Parameters:
  ///   - kinds: what is observed of each site.
  ///   - sources: the records of the checkpoint's files.
  ///   - share: that of one of several parts, whose samples these are.
  ///   - work: keeps ranges batch by batch, where nothing else is observed, and has those that were observed.
  /// - Throws: `Refusal` with a rule `family-…`, `graph-…`, `calibration-…`, `run-…` or `parameter-…`.
  package func run(
    on model: SourceModel, samples: Samples, kinds: Set<ObservationKind> = [.ranges], sources: [FileRecord] = [],
    share: WorkShare? = nil, keptBy work: ResumableWork? = nil, progress: Calibrator.Progress? = nil
  ) throws -> ModelObservations {
    try Refusal.naming(model.checkpoint.files.first?.path) {
      let graph = try model.graph()
      let pass = CalibrationPass(kinds)
      let tokens = kinds.samples(of: graph, lengths: samples.tokens.map(\.tokenIDs.count)).map { samples.tokens[$0] }
      let calibrator = try calibrator(model, graph, lengths: tokens.map(\.tokenIDs.count), pass)
      return ModelObservations(
        family: graph.family, sources: sources, runs: [samples.run],
        sites: try calibrator.run(
          tokens, pass: pass, course: work.map { course(of: $0, graph, samples, share) }, progress: progress
        ).sites)
    }
  }

  private static let step = "observed"

  /// What an earlier process has observed, and the keeping of what comes.
  private func course(
    of work: ResumableWork, _ graph: Graph, _ samples: Samples, _ share: WorkShare?
  ) -> Calibrator.Course {
    var sampleCount = 0
    var seen: [String: SiteObservations] = [:]
    if let row = work.rows(Self.step).first, let name = row["file"]?.string, name.hasPrefix(Self.step),
      let count = row["samples"]?.integer, (0...samples.tokens.count).contains(count),
      let file = try? MappedFile(path: work.path(name.lastPathComponent)),
      row["checksum"]?.integer == Int(Checksum.crc32(file.bytes)),
      let observed = share == nil
        ? try? ModelObservations(path: file.path) : (try? StatisticsPart(path: file.path))?.observations,
      graph.sites.allSatisfy({ observed[$0].channelCount ?? $0.size == $0.size })
    {
      (sampleCount, seen) = (count, observed.sites)
    }
    return Calibrator.Course(sampleCount: sampleCount, seen: seen) { count, sites in
      // Never the file that the last row tells of.
      let name = "\(Self.step)-\(count)"
      let path = work.path(name)
      let record = FileRecord(name: name, byteCount: 0, sha256: "")
      let observed = ModelObservations(family: graph.family, sources: [record], runs: [samples.run], sites: sites)
      if let share {
        try StatisticsPart(observed, share).write(to: path, producer: Converter.producer, force: true, inputs: [])
      } else {
        try observed.write(to: path, producer: Converter.producer, force: true, inputs: [])
      }
      let file = try MappedFile(path: path)
      try work.keep(
        Self.step, 0,
        [
          "file": .string(name), "samples": .integer(count), "checksum": .integer(Int(Checksum.crc32(file.bytes))),
        ])
      work.remove(allBut: name, of: Self.step)
    }
  }

  /// The options of a conversion in which the methods that leave a choice to the model's loss on samples are
  /// replaced by what they chose.
  ///
  /// - Throws: as planning, quantizers and executors throw.
  package func settling(
    _ conversion: Conversion, _ observed: ModelObservations?, samples: Samples,
    progress: SequentialRounding.Progress? = nil
  ) throws -> ConversionOptions {
    var options = conversion.options
    guard let graph = conversion.graph, conversion.comparesOnText else { return options }
    let trial = try ModelTrial(
      of: graph, conversion.model.parameters, samples: samples.tokens, threadCount: threadCount)
    for (index, method) in options.methods.enumerated() {
      let candidates = method.candidates
      var best: (method: any QuantizationMethod, loss: Double)?
      for (number, candidate) in candidates.enumerated() {
        try progress?(number, candidates.count)
        options.methods[index] = candidate
        let recipe = try conversion.plan(observed, options: options).recipe
        guard let graph = recipe.graph else { continue }
        let loss = try trial.loss(of: graph, weights: recipe.weights) { try progress?(number, candidates.count) }
        if loss < best?.loss ?? .infinity { best = (candidate, loss) }
      }
      try progress?(candidates.count, candidates.count)
      options.methods[index] = best?.method ?? method
    }
    return options
  }

  /// The plan with its weights rounded, where their rule goes by what the network gives on text.
  ///
  /// - Parameters:
  ///   - folder: has room for a byte for each such weight, until the plan has been carried out.
  ///   - work: keeps them, and has those that an earlier process has rounded.
  /// - Throws: `Refusal` with a rule `calibration-…`, `rounding-…`, `run-…`, `weight-…` or `scratch-…`.
  package func rounding(
    _ plan: ConversionPlan, samples: Samples, in folder: String, keptBy work: ResumableWork? = nil,
    progress: SequentialRounding.Progress? = nil
  ) throws -> ConversionPlan {
    var state = RoundingState()
    return try rounding(plan, samples: samples, from: &state, in: folder, keptBy: work, progress: progress)
  }

  /// The same for some sites alone.
  ///
  /// - Parameters:
  ///   - sites: their places in `SequentialRounding.sites`; nil: all.
  ///   - state: what rounding the sites before them has left; then what the sites after them need.
  /// - Throws: as rounding all.
  func rounding(
    _ plan: ConversionPlan, sites: Range<Int>? = nil, samples: Samples, from state: inout RoundingState,
    in folder: String, keptBy work: ResumableWork? = nil, progress: SequentialRounding.Progress?
  ) throws -> ConversionPlan {
    guard let graph = plan.graph, plan.recipe.sampledRounding != nil else { return plan }
    let sites = sites ?? SequentialRounding.sites(of: graph, weights: plan.recipe.weights).indices
    var plan = plan
    plan.roundingRun = samples.run
    plan.rounded = try Refusal.naming(plan.checkpoint.files.first?.path) {
      let least = try leastByteCount(ofRounding: graph, plan, samples)
      return try rounding(graph, plan, maximumByteCount: maximumByteCount ?? max(least, Machine.memoryByteCount / 2))
        .run(samples.tokens, sites: sites, from: &state, in: folder, keptBy: work, progress: progress)
    }
    return plan
  }

  /// Refuses, before the model is calibrated, what would be refused when its weights are to be rounded.
  ///
  /// - Throws: `Refusal` with rule `calibration-memory` where rounding needs more than there may be, and as planning
  ///   throws.
  package func checkRounding(of conversion: Conversion, samples: Samples) throws {
    guard maximumByteCount != nil, conversion.roundsOnText else { return }
    let plan = try conversion.uncalibratedPlan()
    guard let graph = plan.graph else { return }
    _ = try Refusal.naming(plan.checkpoint.files.first?.path) {
      try leastByteCount(ofRounding: graph, plan, samples)
    }
  }

  private func rounding(_ graph: Graph, _ plan: ConversionPlan, maximumByteCount: Int) -> SequentialRounding {
    SequentialRounding(
      graph: graph, parameters: plan.model.parameters, weights: plan.recipe.weights, threadCount: threadCount,
      maximumByteCount: maximumByteCount)
  }

  /// - Throws: `Refusal` with rule `calibration-memory` where there may be less.
  private func leastByteCount(ofRounding graph: Graph, _ plan: ConversionPlan, _ samples: Samples) throws -> Int {
    let lengths = samples.tokens.map(\.tokenIDs.count)
    let least = try rounding(graph, plan, maximumByteCount: 0).leastByteCount(lengths: lengths)
    try check(least: least, lengths: lengths)
    return least
  }

  /// - Throws: `Refusal` with rule `calibration-memory` where there may be less than is needed.
  func check(least: Int, lengths: [Int]) throws {
    guard let maximumByteCount, maximumByteCount < least else { return }
    throw Refusal(
      "calibration-memory", "samples of \(lengths.max() ?? 0) tokens take at least \(least) bytes",
      remedy: "give as much with --max-memory, choose a smaller --length, or --effort fast")
  }

  /// Memory in bytes that calibrating takes beside the mapped source; no weight is read.
  ///
  /// - Parameter lengths: tokens of each sample; nil: as of a text that has all samples.
  /// - Throws: as `run`.
  package func byteCount(
    on model: SourceModel, kinds: Set<ObservationKind> = [.ranges], lengths: [Int]? = nil
  ) throws -> Int {
    try Refusal.naming(model.checkpoint.files.first?.path) {
      let graph = try model.graph()
      let length = text.sampleLength(contextLength: graph.contextLength)
      let lengths = lengths ?? [Int](repeating: length, count: text.count)
      let pass = CalibrationPass(kinds)
      let used = kinds.samples(of: graph, lengths: lengths).map { lengths[$0] }
      return try calibrator(model, graph, lengths: used, pass).byteCount(lengths: used, pass: pass)
    }
  }

  /// - Throws: `Refusal` with rule `calibration-memory` where the smallest batch takes more than there may be.
  private func calibrator(_ model: SourceModel, _ graph: Graph, lengths: [Int], _ pass: CalibrationPass) throws
    -> Calibrator
  {
    func executor(cachesParameters: Bool) throws -> FloatExecutor {
      try FloatExecutor(
        graph: graph, parameters: model.parameters, threadCount: threadCount,
        cachesParameters: cachesParameters)
    }
    let reading = try executor(cachesParameters: false)
    let least = try Calibrator.leastByteCount(reading, lengths: lengths, pass: pass)
    try check(least: least, lengths: lengths)
    let room = maximumByteCount ?? max(least, Machine.memoryByteCount / 2)
    let byteCount = model.checkpoint.tensors.reduce(0) { $0 + $1.shape.elementCount * 4 }
    // Kept in memory where they leave as much again for values.
    guard byteCount < room / 2, room - byteCount >= least else {
      return Calibrator(executor: reading, parameterByteCount: nil, maximumByteCount: room)
    }
    return Calibrator(
      executor: try executor(cachesParameters: true), parameterByteCount: byteCount, maximumByteCount: room)
  }
}
