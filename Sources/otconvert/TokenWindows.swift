import OTCheckpoint
import OTFoundation
import OTGraph
import OTTensor
import OTText
import OTTokenizer

/// Windows of token IDs from a safetensors file or from text, all of one length.
struct TokenWindows {
  let windows: [[Int]]
  /// Tokens of each window.
  let length: Int

  /// Reads a matrix, whose rows are the windows, or a row of tokens, which is
  /// cut into windows of `context` tokens; what is left at its end is not used
  /// unless it is all there is.
  ///
  /// - Parameters:
  ///   - path: the safetensors file.
  ///   - name: the tensor's name; nil: `input_ids`, or else `test_ids`.
  ///   - context: tokens of a window, as `option` asks for; nil: `standard`, or less where a model cannot read as many.
  ///   - standard: tokens of a window unless asked for.
  ///   - option: the command's option, which refusals name.
  ///   - limit: the most windows.
  ///   - graphs: the models that are to read them.
  /// - Throws: `Refusal` with a rule `ids-…`, or as `SafetensorsFile` throws.
  init(
    path: String, tensor name: String?, context: Int?, standard: Int = 512, option: String, limit: Int?,
    graphs: [Graph]
  ) throws {
    let tensors = try SafetensorsFile(mapping: MappedFile(path: path)).tensors
    let names = name.map { [$0] } ?? ["input_ids", "test_ids"]
    guard let view = names.lazy.compactMap({ name in tensors.first { $0.name == name } }).first
    else {
      throw Refusal(
        "ids-missing", "has no tensor \(names.map { "'\($0)'" }.joined(separator: " or "))",
        file: path)
    }
    func refusal(_ rule: String, _ message: String, _ remedy: String? = nil) -> Refusal {
      Refusal(rule, message, file: path, tensor: view.name, remedy: remedy)
    }
    guard view.elementType == .i64 || view.elementType == .i32 else {
      throw refusal("ids-type", "has elements \(view.elementType.rawValue), not I64 or I32")
    }
    guard view.shape.rank == 1 || view.shape.rank == 2 else {
      throw refusal("ids-shape", "is \(view.shape), not [tokens] or [windows, tokens]")
    }
    guard view.shape.elementCount > 0 else { throw refusal("ids-empty", "holds no tokens") }
    let longest = graphs.compactMap(\.contextLength).min()
    let tokenCount = view.shape.dimensions[view.shape.rank - 1]
    let wanted = view.shape.rank == 2 ? tokenCount : context ?? min(standard, longest ?? standard)
    if let longest, wanted > longest {
      throw refusal(
        "ids-context", "windows of \(wanted) tokens are longer than the model's \(longest)",
        view.shape.rank == 2 ? "cut them" : "choose a smaller \(option)")
    }
    // Its rows are the windows: cutting them would be other windows than those that were given.
    if view.shape.rank == 2, let context, context != tokenCount {
      throw refusal(
        "ids-context", "its rows are windows of \(tokenCount) tokens, not \(context)", "leave out \(option)")
    }
    let length = min(wanted, tokenCount)
    let windowCount = min(view.shape.elementCount / length, limit ?? .max)
    let tokens = TokenWindows.integers(view, count: windowCount * length)
    if let size = graphs.compactMap(\.vocabularySize).min(),
      let index = tokens.firstIndex(where: { !(0..<size).contains($0) })
    {
      throw refusal(
        "ids-token",
        "token \(index % length) of window \(index / length) is \(tokens[index]), "
          + "the vocabulary has 0...\(size - 1)", "use the tokenizer that belongs to the model")
    }
    windows = (0..<windowCount).map { Array(tokens[$0 * length..<($0 + 1) * length]) }
    self.length = length
  }

  /// Cuts texts into windows of `context` tokens.
  ///
  /// - Parameters:
  ///   - texts: paths of text files.
  ///   - tokenizer: the models' tokenizer.
  ///   - context: tokens of a window; nil: 512, or less where a model cannot read as many.
  ///   - limit: the most windows.
  ///   - graphs: the models that are to read them.
  /// - Throws: `Refusal` with rule `text-context` or `text-token`, or as `TokenSampling` throws.
  init(texts: [String], tokenizer: Tokenizer, context: Int?, limit: Int?, graphs: [Graph]) throws {
    let longest = graphs.compactMap(\.contextLength).min()
    let length = context ?? min(512, longest ?? 512)
    if let longest, length > longest {
      throw Refusal(
        "text-context", "windows of \(length) tokens are longer than the model's \(longest)", file: texts.first,
        remedy: "choose a smaller --context")
    }
    windows = try TokenSampling.windows(of: texts, tokenizer: tokenizer, length: length, limit: limit)
    for graph in graphs { try TextSamples.check(windows, vocabularySize: graph.vocabularySize, file: texts.first) }
    self.length = windows.first?.count ?? 0
  }

  /// The first elements of a tensor.
  private static func integers(_ view: TensorView, count: Int) -> [Int] {
    view.withRowBytes(0..<view.shape.rowCount) { bytes in
      (0..<count).map { index in
        view.elementType == .i64
          ? Int(Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: Int64.self)))
          : Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 4, as: Int32.self)))
      }
    }
  }
}
