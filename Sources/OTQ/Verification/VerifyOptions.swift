import OTFoundation
import OTVerify

/// The options of comparing an `.otq` file with its source; the defaults are those of `otconvert verify`.
public struct VerifyOptions: Sendable, Hashable {
  /// How deep to look; each level includes those before it.
  public enum Level: String, Sendable, CaseIterable {
    /// Every weight is recomputed from the source.
    case weights
    /// Both models run on text, and the outputs of linears and norms are compared.
    case layers
    /// Perplexity and distributions of the next token are compared too, or vectors of sentences.
    case model
  }

  /// How deep to look.
  public var level = Level.weights
  /// Thresholds: a name that the package knows, or the path of a JSON file; nil: the standard.
  public var tolerance: String?
  /// The text to run the models on: 8 sequences of 256 tokens.
  public var text = SampledText(sampleCount: 8)
  /// Tasks that both models do.
  public var tasks: [ComparedTask] = []
  /// Path of an HTML page to write.
  public var report: String?
  /// Path of a JUnit file to write.
  public var junit: String?
  /// True when these files are replaced.
  public var replacesOutput = false
  /// The most threads that work at a time; nil: all cores.
  public var threadCount: Int?

  /// The share of the weights and of the text that is compared; nil: all.
  package var share: WorkShare?
  /// The file of that part: with `share`, written as `part-N` beside it.
  package var part: String?
  /// Parts of the comparison, to be put together instead of comparing.
  package var merged: [String] = []

  /// The defaults.
  public init() {}

  /// Options by the names that `otconvert verify` gives them, without the dashes in front; without `reference`.
  ///
  /// - Parameter options: the values of each option; none for a flag that is set.
  /// - Throws: ``Refusal`` with rule `option-unknown`, `option-value` or `option-conflict`.
  public init(named options: [String: [String]]) throws(Refusal) {
    var named = NamedOptions(options)
    try self.init(taking: &named)
    try named.finish()
  }

  /// Takes the options of a verification out of others.
  package init(taking options: inout NamedOptions) throws(Refusal) {
    self.init()
    level = try options.choice("level", Level.self) ?? level
    tolerance = try options.text("tolerance")
    text = try options.sampledText(text)
    let (names, data) = (try options.texts("task"), try options.paths("data"))
    try OptionFault.refuse(names.count != data.count, conflict: "every --task needs its --data")
    let limit = try options.integer("limit")
    try OptionFault.refuse(limit != nil && names.isEmpty, conflict: "--limit needs --task")
    tasks = zip(names, data).map { ComparedTask(name: $0, path: $1, limit: limit) }
    report = try options.text("report")
    junit = try options.text("junit")
    replacesOutput = try options.flag("force")
    threadCount = try options.threadCount()
  }

  /// Checks what can be checked without the files.
  ///
  /// - Throws: ``Refusal`` with rule `option-value` or `option-conflict`.
  package func check(hasReference: Bool) throws(Refusal) {
    if !hasReference {
      try OptionFault.refuse(tolerance != nil, conflict: "--tolerance needs --reference")
      try OptionFault.refuse(level != .weights, conflict: "--level \(level.rawValue) needs --reference")
      try OptionFault.refuse(!tasks.isEmpty, conflict: "--task needs --reference")
      try OptionFault.refuse(report != nil || junit != nil, conflict: "--report and --junit need --reference")
    }
    try OptionFault.refuse((share == nil) != (part == nil), conflict: "--of and -o need each other")
    try OptionFault.refuse(
      share != nil && (!tasks.isEmpty || report != nil || junit != nil || !hasReference),
      conflict: "--of needs --reference; --task, --report and --junit go with --merge of all parts")
    try OptionFault.refuse(
      !merged.isEmpty && (share != nil || !hasReference), conflict: "--merge needs --reference and no --of")
    try OptionFault.refuse(
      tasks.contains { $0.limit ?? 1 < 1 }, value: "--limit must be positive")
    for task in tasks { _ = try EvaluationTask.named(task.name) }
    try OptionFault.refuse(
      level == .weights && text.isGiven, conflict: "--text and --ids are for --level layers or model")
    try text.check(leastLength: 2)
    try OptionFault.checkThreads(threadCount)
  }

  /// The threads to use.
  package var threads: Int { threadCount ?? Machine.processorCount }
}
