import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTQ
import OTRuntime
import OTVerify

/// Converts a model in several ways and measures every file beside the source.
///
/// Rows that were measured before with the same source, text and options are taken from the folder.
package struct Comparison {
  /// Makes the file of a row.
  ///
  /// - Returns: seconds of calibration, and of the rest of the conversion.
  package typealias Convert = (_ row: ComparisonRow, _ path: String) throws -> (calibration: Double, rest: Double)
  /// Sees what is done next: the row, nil for the source, and how many there are.
  package typealias Progress = (_ row: ComparisonRow?, _ number: Int, _ count: Int) -> Void

  /// What decides about the figures of all rows.
  package struct Subject {
    /// The model.
    package let source: SourceModel
    /// The tokens on which outputs are compared, none of them hidden.
    package let windows: [TokenSequence]
    /// Tasks that the models do.
    package let tasks: [ComparedTask]
    /// True when errors of sites are measured, too.
    package let comparesSites: Bool
    /// Threads to use.
    package let threadCount: Int

    /// A subject.
    package init(
      source: SourceModel, windows: [TokenSequence], tasks: [ComparedTask] = [], comparesSites: Bool = false,
      threadCount: Int
    ) {
      (self.source, self.windows, self.tasks) = (source, windows, tasks)
      (self.comparesSites, self.threadCount) = (comparesSites, threadCount)
    }
  }

  private let subject: Subject
  private let folder: ComparisonFolder
  private let identity: JSONObject
  private let conversionIdentity: JSONValue

  /// A comparison.
  ///
  /// - Parameters:
  ///   - conversion: what decides about conversions beside method and setting: options, calibration.
  ///   - program: the digest of the program: another build may round otherwise.
  /// - Throws: `Refusal` where a file cannot be read.
  package init(_ subject: Subject, in folder: ComparisonFolder, conversion: JSONValue, program: String) throws {
    self.subject = subject
    self.folder = folder
    conversionIdentity = conversion
    let source = subject.source
    let attached = source.attachments.sorted { $0.key.rawValue < $1.key.rawValue }
    let records = try SourceDigests(
      source.checkpoint.files.map { ($0.name, $0.mapped) } + attached.map { ($0.key.rawValue, $0.value) },
      threadCount: subject.threadCount
    ).records()
    identity = [
      "producer": .string(Converter.producer), "program": .string(program),
      "family": .string(try source.graph().family), "source": .array(records.map(\.json)),
      "text": .string(try Comparison.digest(subject.windows)),
      "tasks": .array(try subject.tasks.map { try $0.identity() }),
    ]
  }

  /// The digest of tokens, their segments and the ends of sequences.
  private static func digest(_ windows: [TokenSequence]) throws -> String {
    var text = ""
    for window in windows {
      text += window.tokenIDs.map(String.init).joined(separator: " ")
      if let types = window.tokenTypeIDs { text += ";" + types.map(String.init).joined(separator: " ") }
      text += "\n"
    }
    return try SHA256Digest.hex(of: Array(text.utf8))
  }

  private func identity(of row: ComparisonRow) -> JSONObject {
    var members = identity
    members["method"] = .string(row.method)
    members["setting"] = .string(row.setting.description)
    members["conversion"] = conversionIdentity
    if subject.comparesSites { members["sites"] = .bool(true) }
    return members
  }

  /// Makes and measures the rows that are missing, one after the other; each is kept as soon as it is whole.
  ///
  /// - Parameters:
  ///   - keepsFiles: whether packed files stay, under `files/` of the folder.
  ///   - convert: makes a row's file. A refusal of it is the row's: it is shown, and tried again by the next run.
  ///   - publish: called with all results so far whenever there is another.
  /// - Throws: `Refusal` of the folder or of the source.
  package func run(
    _ rows: [ComparisonRow], keepsFiles: Bool = false, convert: Convert, progress: Progress? = nil,
    publish: (ComparisonRecord) throws -> Void
  ) throws -> ComparisonRecord {
    var outputs = SourceOutputs(subject)
    var result = ComparisonRecord(
      source: try sourceFigures(&outputs, progress, rows.count),
      entries: try rows.map { row in (row, try finished(row, keepsFiles: keepsFiles).map { .measured($0) } ?? .missing)
      })
    try publish(result)
    for (index, row) in rows.enumerated() {
      guard case .missing = result.entries[index].outcome else { continue }
      // Two rows may be one conversion.
      if let figures = try finished(row, keepsFiles: keepsFiles) {
        result.entries[index].outcome = .measured(figures)
        try publish(result)
        continue
      }
      progress?(row, index + 1, rows.count)
      do {
        let members = identity(of: row)
        let seconds = try convert(row, folder.conversionPath)
        var figures = try measure(row, &outputs)
        (figures.calibrationSeconds, figures.conversionSeconds) = (seconds.calibration, seconds.rest)
        let key = try ComparisonFolder.key(members)
        // The file first: a row that is kept is finished.
        try folder.finishConversion(keepingAs: keepsFiles ? Comparison.fileName(row, key) : nil)
        try folder.keep(figures, key: key, identity: members)
        result.entries[index].outcome = .measured(figures)
      } catch let refusal as Refusal where !refusal.rule.hasPrefix("compare-") {
        try folder.finishConversion(keepingAs: nil)
        // The packed file has a name that says nothing to anybody.
        var refusal = refusal
        if refusal.file == folder.conversionPath { refusal.file = nil }
        result.entries[index].outcome = .refused(refusal)
      }
      try publish(result)
    }
    return result
  }

  /// The figures of a row that is finished; nil for one that is not, or whose file is wanted and is not there.
  private func finished(_ row: ComparisonRow, keepsFiles: Bool) throws -> RowFigures? {
    let key = try ComparisonFolder.key(identity(of: row))
    guard !keepsFiles || folder.hasFile(Comparison.fileName(row, key)) else { return nil }
    return folder.figures(key)
  }

  private static func fileName(_ row: ComparisonRow, _ key: String) -> String {
    let text = "\(row.method)-\(row.setting)".map {
      $0.isASCII && ($0.isLetter || $0.isNumber || ".-".contains($0)) ? $0 : "_"
    }
    return String(text.prefix(120)) + "-\(key.prefix(8)).otq"
  }

  // MARK: Measuring

  /// The source's own figures, kept as a row is.
  private func sourceFigures(
    _ outputs: inout SourceOutputs, _ progress: Progress?, _ count: Int
  ) throws -> RowFigures {
    var members = identity
    members["method"] = .string("none")
    let key = try ComparisonFolder.key(members)
    if let figures = folder.figures(key) { return figures }
    progress?(nil, 0, count)
    var figures = RowFigures()
    figures.byteCount = subject.source.checkpoint.files.reduce(0) { $0 + $1.mapped.byteCount }
    let source = try outputs.model
    var likelihood = TokenLikelihood()
    for (index, window) in subject.windows.enumerated() {
      let values = try outputs[index]
      guard source.isCausal, let logits = values.outputs["logits"] else { continue }
      try likelihood.add(logits: logits, tokenIDs: window.tokenIDs, threadCount: subject.threadCount)
    }
    figures.perplexity = likelihood.perplexity
    figures.tokensPerSecond = outputs.tokensPerSecond
    figures.tasks = try subject.tasks.map { try $0.figures(of: source) }
    try folder.keep(figures, key: key, identity: members)
    return figures
  }

  private func measure(_ row: ComparisonRow, _ outputs: inout SourceOutputs) throws -> RowFigures {
    let path = folder.conversionPath
    let file = try PackedModel(path: path)
    let model = try LanguageModel(ModelFile(.packed(file)), threadCount: subject.threadCount)
    var figures = RowFigures()
    figures.byteCount = file.container.file.byteCount
    figures.linearBitsPerWeight = file.linearBitsPerWeight
    var comparison = ModelComparison(isCausal: model.isCausal)
    var seconds = 0.0
    for (index, window) in subject.windows.enumerated() {
      let expected = try outputs[index]
      let start = ContinuousClock.now
      guard let actual = try Refusal.naming(path, { try model.executor.run([window], observe: nil) }).first else {
        continue
      }
      seconds += start.duration(to: .now) / .seconds(1)
      try actual.checkFinite()
      try comparison.add(actual, reference: expected, tokenIDs: window.tokenIDs, threadCount: subject.threadCount)
    }
    if seconds > 0 { figures.tokensPerSecond = Double(outputs.tokenCount) / seconds }
    if let perplexity = comparison.perplexity {
      figures.perplexity = perplexity.packed
      figures.perplexityRatio = perplexity.ratio
      figures.perplexityRatioStandardError = perplexity.standardError
    }
    (figures.divergence, figures.similarities) = (comparison.divergence, comparison.similarities)
    figures.tasks = try subject.tasks.map { try $0.figures(of: model) }
    if subject.comparesSites {
      let source = try file.comparable(subject.source, in: folder.path)
      let float =
        try file.offlineRotation() == nil
        ? outputs.model.executor
        : LanguageModel(ModelFile(.source(source)), threadCount: subject.threadCount).executor
      figures.sites = try SiteAnalysis(of: file, source: source, threadCount: subject.threadCount).run(
        packed: model.executor, float: float, sequences: SiteAnalysis.sample(of: subject.windows))
    }
    return figures
  }
}

extension ExecutionResult {
  /// - Throws: `Refusal` with rule `eval-not-finite`: figures of NaN look like figures.
  fileprivate func checkFinite() throws {
    for name in Graph.scoreOutputs {
      guard let value = outputs[name]?.values.first(where: { !$0.isFinite }) else { continue }
      throw Refusal("eval-not-finite", "a logit is \(value)")
    }
  }
}

/// What the source gives on each window: kept while there is room, else run again. It is loaded when it is first asked.
private struct SourceOutputs {
  /// Bytes of outputs that are kept at most.
  private static let mostByteCount = min(2 << 30, Machine.memoryByteCount / 8)

  private let subject: Comparison.Subject
  private var windows: [TokenSequence] { subject.windows }
  private var loaded: LanguageModel?
  private var kept: [Int: ExecutionResult] = [:]
  private var keptByteCount = 0
  private var seconds = 0.0
  private var runTokenCount = 0

  init(_ subject: Comparison.Subject) { self.subject = subject }

  /// The source, ready to run.
  var model: LanguageModel {
    mutating get throws {
      if let loaded { return loaded }
      let model = try LanguageModel(ModelFile(.source(subject.source)), threadCount: subject.threadCount)
      loaded = model
      return model
    }
  }

  var tokenCount: Int { windows.reduce(0) { $0 + $1.tokenIDs.count } }
  var tokensPerSecond: Double? { seconds > 0 ? Double(runTokenCount) / seconds : nil }

  subscript(index: Int) -> ExecutionResult {
    mutating get throws {
      if let result = kept[index] { return result }
      let model = try model
      let start = ContinuousClock.now
      let results = try Refusal.naming(model.file.path) { try model.executor.run([windows[index]], observe: nil) }
      guard let result = results.first else { preconditionFailure("there is a result for each sequence") }
      seconds += start.duration(to: .now) / .seconds(1)
      try Refusal.naming(model.file.path) { try result.checkFinite() }
      runTokenCount += windows[index].tokenIDs.count
      let byteCount = result.outputs.values.reduce(0) { $0 + $1.values.count * 4 }
      if keptByteCount + byteCount <= SourceOutputs.mostByteCount {
        kept[index] = result
        keptByteCount += byteCount
      }
      return result
    }
  }
}
