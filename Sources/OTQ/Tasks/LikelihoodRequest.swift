import OTFoundation
import OTJSON
import OTModel
import OTRuntime
import OTTokenizer

/// A text whose probability after another is asked for.
package struct LikelihoodRequest: Sendable, Hashable {
  /// What stands before it; empty: nothing does.
  package let context: String
  /// The text itself.
  package let continuation: String
}

/// The answer to a request.
struct Likelihood {
  /// ln p of all tokens of the continuation.
  let logProbability: Double
  /// True when at each of them no token was likelier.
  let isGreedy: Bool
}

extension LanguageModel {
  /// Rows that go through the model together, at most; a longer item goes alone.
  private static let batchRowCount = 512

  /// The likelihood of each request of each item.
  ///
  /// Texts become tokens as in lm-eval: context and continuation are tokenized together and cut where the context's
  /// own tokens end; white space at the end of the context belongs to the continuation; an empty context is one token,
  /// the beginning of a text or its end. What is longer than the model reads is cut on the left.
  ///
  /// - Parameters:
  ///   - records: the items' lines, for refusals.
  ///   - share: as in `scores`.
  /// - Throws: `Refusal` with rule `task-data-choice` or `task-data-length` for an item that has no answer;
  ///   `task-model` for a model that does not continue texts.
  func likelihoods(
    of items: [[LikelihoodRequest]], records: [TaskRecord], share: WorkShare?, progress: (Int, Int) throws -> Void
  ) throws -> [[Likelihood]?] {
    try checkContinuesTexts()
    let encoder = try RequestEncoder(self)
    let sequences = try zip(items, records).map { requests, record in
      try requests.enumerated().map { try encoder.sequence($1, number: $0 + 1, record) }
    }
    return try scores(of: sequences, share: share, progress: progress).map { scores in
      scores?.map { tokens in
        Likelihood(
          logProbability: tokens.reduce(0) { $0 + $1.logProbability }, isGreedy: tokens.allSatisfy(\.isLikeliest))
      }
    }
  }

  /// The scores of the tokens of each sequence of each item, items together that fit into a batch, the longest first.
  ///
  /// - Parameter share: whose scores are wanted; nil is given for the others, and no score depends on the number of parts
  ///   in its last bits.
  /// - Throws: as running the model.
  func scores(
    of items: [[ScoredSequence]], share: WorkShare?, progress: (Int, Int) throws -> Void
  ) throws -> [[[TokenScore]]?] {
    let lengths = items.map { $0.map(\.tokenIDs.count).max() ?? 0 }
    // Of one length, those that begin alike are neighbours.
    let order = items.indices.sorted { first, second in
      guard lengths[first] == lengths[second] else { return lengths[first] > lengths[second] }
      let (a, b) = (items[first].first?.tokenIDs ?? [], items[second].first?.tokenIDs ?? [])
      return a == b ? first < second : a.lexicographicallyPrecedes(b)
    }
    var results = [[[TokenScore]]?](repeating: nil, count: items.count)
    let batches = SharedBatches(
      costs: order.map { Self.rowCount(of: items[$0]) }, limit: Self.batchRowCount, share)
    for range in batches.own {
      let batch = order[range]
      var scores = try Refusal.naming(file.path) { try executor.scores(of: batch.flatMap { items[$0] }) }[...]
      for item in batch {
        results[item] = Array(scores.prefix(items[item].count))
        scores = scores.dropFirst(items[item].count)
      }
      try progress(range.upperBound - batches.items.lowerBound, batches.items.count)
    }
    return results
  }

  /// Rows that an item takes, but for what it shares with another.
  private static func rowCount(of sequences: [ScoredSequence]) -> Int {
    guard let first = sequences.first else { return 0 }
    return first.tokenIDs.count
      + sequences.dropFirst().reduce(0) { count, sequence in
        count + sequence.tokenIDs.count - zip(first.tokenIDs, sequence.tokenIDs).prefix { $0 == $1 }.count
      }
  }

  /// Checks that the model gives probabilities of tokens after others.
  ///
  /// - Throws: `Refusal` with rule `task-model`.
  func checkContinuesTexts() throws {
    guard !isCausal || graph.outputs["logits"] == nil else { return }
    throw Refusal(
      "task-model", "does not continue texts, which the task asks for", file: file.path,
      remedy: "use a task for classifiers or embeddings, or another model")
  }
}

/// Makes tokens of requests and documents, as lm-eval's `HFLM` does.
struct RequestEncoder {
  private let tokenizer: Tokenizer
  /// The token that stands before a text without context; its spelling.
  private let prefix: (id: Int, text: String)?
  private let path: String
  /// The most tokens that the model reads.
  let maximumLength: Int

  /// What lm-eval assumes of a model and a tokenizer that do not say.
  private static let usualLength = 2048

  /// - Throws: as reading the tokenizer and its configuration.
  init(_ model: LanguageModel) throws {
    let tokenizer = try model.tokenizer()
    let configuration = try model.file.model.json(.configuration)
    let settings = try model.file.model.json(.tokenizerConfiguration)
    func token(_ name: String) -> Int? {
      let value = settings?[name]
      return (value?.string ?? value?["content"]?.string).flatMap(tokenizer.id(of:))
    }
    func number(_ name: String) -> Int? {
      configuration?[name]?.integer ?? configuration?[name]?.array?.first?.integer
    }
    let id =
      token("bos_token") ?? tokenizer.specialTokens.leading.first ?? number("bos_token_id") ?? token("eos_token")
      ?? number("eos_token_id")
    prefix = id.map { ($0, tokenizer.decode([$0], skipSpecialTokens: false)) }
    self.tokenizer = tokenizer
    path = model.file.path
    let limit = settings?["model_max_length"]?.double.flatMap { $0 >= 1 && $0 < 0x1p31 ? Int($0) : nil }
    maximumLength = model.contextLength ?? limit ?? Self.usualLength
  }

  /// The token before a text without context.
  ///
  /// - Throws: `Refusal` with rule `task-model`.
  func prefixToken() throws -> Int {
    guard let prefix else {
      throw Refusal(
        "task-model", "its tokenizer has no token for the beginning of a text or its end", file: path,
        remedy: "put the model's tokenizer_config.json beside it")
    }
    return prefix.id
  }

  /// The tokens of a text, with special ones where the tokenizer adds them, unless it begins with one.
  ///
  /// - Throws: as encoding.
  func tokens(_ text: String) throws -> [Int] {
    let hasPrefix = prefix.map { !$0.text.isEmpty && text.utf8.starts(with: $0.text.utf8) } ?? false
    return try tokenizer.encode(text, addSpecialTokens: !hasPrefix)
  }

  /// The tokens of a request, its continuation's being scored.
  ///
  /// - Throws: `Refusal` with rule `task-data-choice` or `task-data-length`.
  func sequence(_ request: LikelihoodRequest, number: Int, _ record: TaskRecord) throws -> ScoredSequence {
    let (context, continuation) = try split(request)
    guard !continuation.isEmpty else {
      throw record.refusal("task-data-choice", "has no tokens of its own in text \(number) that is to be scored")
    }
    guard continuation.count <= maximumLength else {
      throw record.refusal(
        "task-data-length", "has \(continuation.count) tokens to be scored, the model reads \(maximumLength)")
    }
    let all = (context + continuation).suffix(maximumLength + 1)
    return ScoredSequence(Array(all), firstScored: all.count - continuation.count)
  }

  private func split(_ request: LikelihoodRequest) throws -> (context: [Int], continuation: [Int]) {
    let (context, space) = HarnessText.splitTrailingSpace(request.context)
    if request.context.isEmpty || context.isEmpty {
      let tokens = try tokenizer.encode(space + request.continuation, addSpecialTokens: false)
      let prefix = try prefixToken()
      return tokens.first == prefix ? (Array(tokens.prefix(1)), Array(tokens.dropFirst())) : ([prefix], tokens)
    }
    let count = try tokens(context).count
    let all = try tokens(context + space + request.continuation)
    // A continuation that melts into the context's last token leaves at least that for the model to see.
    let start = max(1, min(count, all.count))
    return (Array(all.prefix(start)), Array(all.dropFirst(start)))
  }
}
