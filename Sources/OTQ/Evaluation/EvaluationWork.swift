import OTFoundation
import OTGraph
import OTJSON
import OTRuntime
import OTTokenizer

/// The options of `eval` that do not write files.
package struct EvaluationOptions: Sendable, Hashable {
  /// Paths of text files.
  package var paths: [String] = []
  /// The field of lines of JSON that has the text.
  package var field = "text"
  /// Path of a file of tokens, instead of text.
  package var ids: String?
  /// The tensor of `ids` to read.
  package var tensor: String?
  /// Tokens of a window; nil: 512, or the model's limit.
  package var context: Int?
  /// The most windows.
  package var windowCount: Int?
  /// The threads to use; nil: all cores.
  package var threadCount: Int?
  /// The name of a task to do, instead of running windows.
  package var task: String?
  /// The task's data.
  package var data: String?
  /// The most items of the data; nil: all.
  package var limit: Int?
  /// As in `EvaluationTask.withWindows`.
  package var stride: Int?
  /// The share of the windows that is run; nil: all.
  package var share: WorkShare?

  /// The defaults.
  package init() {}

  /// Options by the names that `otconvert eval` gives them.
  ///
  /// - Throws: ``Refusal`` with rule `option-unknown`, `option-value` or `option-conflict`.
  package init(named options: [String: [String]]) throws(Refusal) {
    var named = NamedOptions(options)
    paths = try named.paths("text")
    field = try named.text("text-field") ?? field
    ids = try named.text("ids")
    tensor = try named.text("tensor")
    context = try named.integer("context")
    windowCount = try named.integer("windows")
    threadCount = try named.threadCount()
    task = try named.text("task")
    data = try named.text("data")
    limit = try named.integer("limit")
    stride = try named.integer("stride")
    try OptionFault.refuse(data == "-", value: "--data takes a file, not the standard input")
    try named.finish()
    try check()
  }

  /// - Throws: ``Refusal`` with rule `option-value` or `option-conflict`.
  package func check() throws(Refusal) {
    try OptionFault.refuse(
      [!paths.isEmpty, ids != nil, task != nil].count(where: { $0 }) != 1,
      conflict: "Give one of --text with files of text, --ids with a file of tokens, and --task with its --data.")
    try OptionFault.refuse((task == nil) != (data == nil), conflict: "--task and --data need each other.")
    try OptionFault.refuse(
      task == nil && (limit != nil || stride != nil), conflict: "--limit and --stride need --task.")
    try OptionFault.refuse(
      task != nil && (windowCount != nil || tensor != nil), conflict: "--windows and --tensor do not go with --task.")
    try OptionFault.refuse(tensor != nil && ids == nil, conflict: "--tensor needs --ids")
    try OptionFault.refuse(limit.map { $0 < 1 } ?? false, value: "--limit must be positive.")
    try OptionFault.refuse(stride.map { $0 < 1 } ?? false, value: "--stride must be positive.")
    try OptionFault.refuse(context.map { $0 < 1 } ?? false, value: "--context must be positive")
    try OptionFault.checkThreads(threadCount)
    try OptionFault.refuse(windowCount.map { $0 < 1 } ?? false, value: "--windows must be positive")
  }

  /// The task to do; nil: none.
  ///
  /// - Throws: ``Refusal`` with rule `task-unknown` or `task-windows`.
  package var evaluatedTask: EvaluationTask? {
    get throws(Refusal) {
      guard let task else { return nil }
      let known = try EvaluationTask.named(task)
      return context == nil && stride == nil ? known : try known.withWindows(context: context, stride: stride)
    }
  }

  /// Runs a model on windows or has it do the task: what `otconvert eval --json` prints.
  ///
  /// - Throws: as `evaluation(of:against:nodes:_:begin:)` and `TaskEvaluation`.
  package func result(
    of model: LanguageModel, against reference: LanguageModel?, _ observer: WorkObserver
  ) throws -> JSONValue {
    guard let task = try evaluatedTask, let data else {
      return try evaluation(of: model, against: reference, observer).figures.json
    }
    let done = try TaskEvaluation(task, data: data, limit: limit, of: model, against: { reference }) {
      observer.begin(.answering)
    }
    return .object(done.json)
  }

  /// The windows of text or tokens for a model, and for another that it is compared with.
  ///
  /// - Throws: as `TokenWindows` and tokenizers throw.
  package func windows(for model: LanguageModel, and reference: LanguageModel?) throws -> TokenWindows {
    try windows([model.graph] + (reference.map { [$0.graph] } ?? []), tokenizer: model.tokenizer)
  }

  /// The windows of text or tokens for models with these graphs.
  ///
  /// - Throws: as `TokenWindows`, and as the tokenizer, which is asked for where there is text.
  package func windows(_ graphs: [Graph], tokenizer: () throws -> Tokenizer) throws -> TokenWindows {
    if let ids {
      return try TokenWindows(
        path: ids, tensor: tensor, context: context, option: "--context", limit: windowCount, graphs: graphs)
    }
    return try TokenWindows(
      texts: paths, field: field, tokenizer: tokenizer(), context: context, limit: windowCount, graphs: graphs)
  }

  /// Runs a model on the windows: perplexity, and the distance from another model.
  ///
  /// - Parameters:
  ///   - nodes: nodes of the model that are run, too.
  ///   - begin: called with the windows before the first is run; gives what sees the nodes' values of each window.
  /// - Throws: `Refusal` with a rule `eval-…`, as `windows(for:and:)` and executors throw, and what the observer and
  ///   `begin` throw.
  package func evaluation(
    of model: LanguageModel, against reference: LanguageModel?, nodes: [String] = [], _ observer: WorkObserver,
    begin: (TokenWindows) throws -> ([String: Matrix]) throws -> Void = { _ in { _ in } }
  ) throws -> Evaluation {
    let tokens = try windows(for: model, and: reference)
    var evaluation = try Evaluation(
      model, reference: reference, nodes: nodes, threadCount: threadCount ?? Machine.processorCount)
    let see = try begin(tokens)
    let progress = observer.begin(.evaluating)
    let range = share?.range(of: tokens.windows.count) ?? tokens.windows.indices
    for index in range {
      try progress(index - range.lowerBound, range.count)
      try see(evaluation.add(tokens.windows[index], label: tokens.labels?[index]))
    }
    try progress(range.count, range.count)
    return evaluation
  }
}
