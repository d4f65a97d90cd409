import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import OTTokenizer

/// A model that is ready to run: a packed file as it is packed, with integer
/// matrix products; a checkpoint in float32.
///
/// ```swift
/// let model = try LanguageModel(path: "model.otq")
/// for try await piece in try model.generate("In the beginning") {
///   print(piece.text, terminator: "")
/// }
/// ```
///
/// A value may be used from several threads at once. Functions that are not
/// `async` work until they are done: call them where that may take a while.
public struct LanguageModel: Sendable {
  /// The files that it was made from.
  public let file: ModelFile
  /// Runs it.
  package let executor: any Executor
  private let lazyTokenizer: OnDemand<Tokenizer?>

  /// Loads a model.
  ///
  /// - Parameters:
  ///   - path: an `.otq` file or a checkpoint, as ``ModelFile`` takes it.
  ///   - threadCount: the most threads that work at a time; results do not
  ///     depend on it. Nil: all cores.
  ///   - attentionBits: bits, 2 to 8, of the queries, keys and values of a packed
  ///     model's attention, with one scale per token; nil: they are float.
  /// - Throws: ``Refusal`` as `ModelFile.init(path:)`; with rule `run-no-graph`
  ///   or `run-incomplete` for a model that cannot be run; `run-attention` for
  ///   attention bits of a checkpoint, which runs in float32; `parameter-…` or
  ///   `otq-…` for tensors that are missing or damaged. Codes of an uncompressed
  ///   file are not read before they are used: see ``ModelFile/verify(threadCount:)``.
  public init(path: String, threadCount: Int? = nil, attentionBits: Int? = nil) throws(Refusal) {
    try self.init(ModelFile(path: path), threadCount: threadCount, attentionBits: attentionBits)
  }

  /// Loads a model from a file that is open already.
  ///
  /// - Throws: as `init(path:threadCount:attentionBits:)`.
  public init(_ file: ModelFile, threadCount: Int? = nil, attentionBits: Int? = nil) throws(Refusal) {
    try self.init(file, threadCount: threadCount, attentionBits: attentionBits, readsText: false)
  }

  /// Loads a model that reads text: its tokenizer is read at the same time, where there is more than one thread.
  ///
  /// - Throws: as `init(path:threadCount:attentionBits:)`; what is wrong with the tokenizer is thrown when it is used.
  package init(readingText path: String, threadCount: Int?, attentionBits: Int?) throws(Refusal) {
    try self.init(ModelFile(path: path), threadCount: threadCount, attentionBits: attentionBits, readsText: true)
  }

  private init(_ file: ModelFile, threadCount: Int?, attentionBits: Int?, readsText: Bool) throws(Refusal) {
    if let attentionBits {
      guard (2...8).contains(attentionBits), file.isPacked else {
        throw Refusal(
          "run-attention", file.isPacked ? "attention has 2 to 8 bits" : "is a checkpoint: all of it runs in float32",
          file: file.path)
      }
    }
    let threadCount = threadCount ?? Machine.processorCount
    self.file = file
    let tokenizer = OnDemand {
      let tokenizer = try file.model.tokenizer()
      returnFreeMemory()
      return tokenizer
    }
    lazyTokenizer = tokenizer
    if readsText, threadCount > 1 { tokenizer.prepare() }
    executor = try refusing(naming: file.path) { () -> any Executor in
      let graph = try file.model.graph()
      switch file.model {
      case .packed(let packed):
        return try QuantizedExecutor(
          graph: graph, container: packed.container, threadCount: threadCount, attentionBits: attentionBits)
      case .source(let source):
        // In float32 they are kept as long as they take at most half of the memory.
        let byteCount = source.checkpoint.tensors.reduce(0.0) { $0 + Double($1.shape.elementCount) * 4 }
        return try FloatExecutor(
          graph: graph, parameters: source.parameters, threadCount: threadCount,
          cachesParameters: byteCount < Double(Machine.memoryByteCount) / 2)
      }
    }
  }

  /// The graph of its operations.
  package var graph: Graph { executor.graph }

  /// Rows of the token embedding: token IDs are less.
  public var vocabularySize: Int? { graph.vocabularySize }
  /// The most tokens of a sequence; nil where there is no limit.
  public var contextLength: Int? { graph.contextLength }

  /// True when a token sees only those before it, so that the model can continue
  /// a text: OPT, BLOOM and LLaMA can, BERT cannot.
  public var isCausal: Bool { graph.isCausal }

  /// Runs the model on a sequence of tokens.
  ///
  /// - Returns: `[tokens, vocabulary]`: row i holds the logits of the token
  ///   after token i (for BERT with its masked-LM head, of token i itself).
  /// - Throws: ``Refusal`` with rule `run-empty`, `run-context` or
  ///   `run-token-id` for tokens that the model cannot read, `run-output` for a
  ///   model that gives no logits.
  public func logits(for tokenIDs: [Int]) throws(Refusal) -> Matrix {
    try refusing(naming: file.path) { try executor.run(tokenIDs: tokenIDs).output("logits") }
  }

  // MARK: Text

  /// The model's tokenizer.
  ///
  /// - Throws: ``Refusal`` with rule `tokenizer-missing`, or `tokenizer-…` for
  ///   one that cannot be read.
  package func tokenizer() throws(Refusal) -> Tokenizer {
    guard let tokenizer = try refusing(lazyTokenizer.get) else {
      throw Refusal(
        "tokenizer-missing", "has no tokenizer, so it cannot read text", file: file.path,
        remedy: "put the model's tokenizer.json beside the checkpoint (and convert it again)")
    }
    return tokenizer
  }

  /// The token IDs of a text.
  ///
  /// - Parameters:
  ///   - text: any text.
  ///   - addsSpecialTokens: true puts the tokens around it that the model expects (`<s>`, `[CLS]` … `[SEP]`).
  /// - Throws: ``Refusal`` with a rule `tokenizer-…`.
  public func encode(_ text: String, addsSpecialTokens: Bool = true) throws(Refusal) -> [Int] {
    try tokenizer().encode(text, addSpecialTokens: addsSpecialTokens)
  }

  /// The text of token IDs; bytes that are no UTF-8 become U+FFFD.
  ///
  /// - Throws: ``Refusal`` with a rule `tokenizer-…`.
  public func decode(_ tokenIDs: [Int], skipsSpecialTokens: Bool = true) throws(Refusal) -> String {
    try tokenizer().decode(tokenIDs, skipSpecialTokens: skipsSpecialTokens)
  }
}
