import OTFoundation
import OTPlatform
import OTRuntime

/// The perplexity of documents.
///
/// As in lm-eval, each document is run alone: the token that begins a text, then windows of as many tokens as the model
/// reads, each beginning with the last token of the window before; every token is scored once. With a stride all
/// documents are one text, as the papers on quantization run WikiText-2 and C4.
struct Perplexity: TaskDefinition {
  let name: String
  let summary: String
  let fields: String
  let hasWindows = true

  /// Documents as they are.
  static let texts = Perplexity(
    name: "perplexity", summary: "Perplexity of documents, by word, byte and token",
    fields: "text; or a file that is one document")
  /// Articles of WikiText, whose tokens become text again.
  static let wikiText = Perplexity(
    name: "wikitext", summary: "WikiText-2: perplexity of articles, by word, byte and token",
    fields: "page or text; or the raw file, cut into articles at its headings")

  private var isWikiText: Bool { name == "wikitext" }

  /// A document.
  private struct Document {
    let line: Int
    /// As the data have it: words and bytes are counted in it.
    let source: String
    /// As the model reads it.
    let text: String
  }

  /// Each window is a question, answered by −ln p of the tokens that are scored in it.
  func questions(_ run: TaskRun) throws -> TaskQuestions {
    try run.model.checkContinuesTexts()
    let documents = try documents(run.data, limit: run.limit)
    let encoder = try RequestEncoder(run.model)
    let length = run.windows.context ?? encoder.maximumLength
    guard length <= run.model.contextLength ?? .max else {
      throw Refusal(
        "task-windows", "reads at most \(run.model.contextLength ?? length) tokens, a window has \(length)",
        file: run.model.file.path)
    }
    let windows: [[ScoredSequence]]
    let items: [TaskSource]
    if let stride = run.windows.stride {
      windows = try oneText(run, documents, encoder, length: length, stride: min(stride, length)).map { [$0] }
      // The line of a window is not known: its number.
      items = windows.indices.map { TaskSource(line: $0 + 1) }
    } else {
      let prefix = try encoder.prefixToken()
      windows = try documents.map { document in
        ScoredSequence.windows(ofDocument: try encoder.tokens(document.text), prefix: prefix, length: length)
      }
      items = zip(documents, windows).map { document, windows in
        TaskSource(
          line: document.line, lengths: [HarnessText.wordCount(document.source), document.source.utf8.count],
          questionCount: windows.count)
      }
    }
    return TaskQuestions(items: items) { share in
      try run.model.scores(of: windows.flatMap { $0 }.map { [$0] }, share: share, progress: run.progress)
        .map { $0?.flatMap { $0 }.map { -$0.logProbability } }
    }
  }

  func canAnswer(_ source: TaskSource, _ answers: [[Double]]) -> Bool { !answers.contains(where: \.isEmpty) }

  func result(_ items: [(source: TaskSource, answers: [[Double]])], threadCount: Int) throws -> TaskResult {
    let losses = items.flatMap { $0.answers.flatMap { $0 } }
    let (sources, items) = (
      items.map(\.source), items.map { TaskItem($0, scores: [-$1.flatMap { $0 }.reduce(0, +)]) }
    )
    let perplexity = TaskFigure.exponentialOfMean("perplexity", losses)
    // All documents as one text have no words of their own.
    guard sources.allSatisfy({ $0.lengths.count == 2 }) else { return TaskResult(figures: [perplexity], items: items) }
    let total = -items.reduce(0) { $0 + $1.scores[0] }
    let wordCount = sources.reduce(0) { $0 + $1.lengths[0] }
    let byteCount = sources.reduce(0) { $0 + $1.lengths[1] }
    func figure(_ name: String, _ value: Double) -> TaskFigure { TaskFigure(name, value, higherIsBetter: false) }
    return TaskResult(
      figures: [
        figure("word_perplexity", exp(total / Double(wordCount))),
        figure("byte_perplexity", exp(total / Double(byteCount))),
        figure("bits_per_byte", total / Double(byteCount) / log(2)), perplexity,
      ], items: items)
  }

  /// The windows of all documents as one text, which begin `stride` tokens apart.
  private func oneText(
    _ run: TaskRun, _ documents: [Document], _ encoder: RequestEncoder, length: Int, stride: Int
  ) throws -> [ScoredSequence] {
    let tokens = try encoder.tokens(documents.map(\.text).joined(separator: "\n\n"))
    let windows = Self.stridingWindows(tokens, length: length, stride: stride)
    guard !windows.isEmpty else {
      throw Refusal("task-data-length", "has fewer than two tokens", file: run.data.path)
    }
    return windows
  }

  /// Windows of `length` tokens that begin `stride` apart, until one has the last token: what no window before has is
  /// scored, but for the first token of a window, which has nothing before it.
  static func stridingWindows(_ tokens: [Int], length: Int, stride: Int) -> [ScoredSequence] {
    var windows: [ScoredSequence] = []
    var (start, scoredEnd) = (0, 0)
    while scoredEnd < tokens.count {
      let end = min(start + length, tokens.count)
      let first = max(scoredEnd - start, 1)
      if first < end - start { windows.append(ScoredSequence(Array(tokens[start..<end]), firstScored: first)) }
      scoredEnd = end
      start += stride
    }
    return windows
  }

  func requests(_ data: TaskData, limit: Int?) throws -> [[LikelihoodRequest]] {
    try documents(data, limit: limit).map { [LikelihoodRequest(context: "", continuation: $0.text)] }
  }

  private func documents(_ data: TaskData, limit: Int?) throws -> [Document] {
    let texts: [(line: Int, text: String)]
    if data.layout == .text {
      let whole = try data.wholeText()
      texts = isWikiText ? WikiText.articles(whole) : [(1, whole)]
    } else {
      texts = try data.records(limit: limit).map { record in
        (record.line, try record.text(isWikiText ? ["page", "text"] : ["text"]))
      }
    }
    let kept = texts.prefix(limit ?? .max)
    if let empty = kept.first(where: { $0.text.isEmpty }) {
      throw Refusal("task-data-empty", "line \(empty.line) has an empty text", file: data.path)
    }
    return kept.map { line, text in
      Document(line: line, source: text, text: isWikiText ? WikiText.detokenized(text) : text)
    }
  }
}

extension ScoredSequence {
  /// Windows of a document: the first of the prefix and the first tokens, each other of the `length` tokens before its
  /// last and that; every token of the document is scored once.
  package static func windows(ofDocument tokens: [Int], prefix: Int, length: Int) -> [ScoredSequence] {
    let all = [prefix] + tokens
    return stride(from: 0, to: tokens.count, by: length).map { start in
      let end = min(start + length, tokens.count)
      // Counted with the prefix: tokens start ..< end are at start + 1 ... end.
      let first = max(0, end - length)
      return ScoredSequence(Array(all[first...end]), firstScored: start + 1 - first)
    }
  }
}
