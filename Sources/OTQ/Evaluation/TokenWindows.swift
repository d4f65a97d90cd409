import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTRuntime
import OTTensor
import OTText
import OTTokenizer

/// Windows of tokens from a safetensors file or from text, all of one length.
package struct TokenWindows {
  /// The windows.
  package let windows: [TokenSequence]
  /// Tokens of each window.
  package let length: Int
  /// The class of each window, where the file states it.
  package let labels: [Int]?
  private let path: String?

  /// Reads a matrix, whose rows are the windows, or a row of tokens, which is
  /// cut into windows of `context` tokens; what is left at its end is not used
  /// unless it is all there is.
  ///
  /// Beside `input_ids` the file may have `token_type_ids`, the segment of each token, and `attention_mask`, 0 for
  /// tokens that others do not see, both of the same shape, and `labels`, one for each row. Where the tensor is
  /// called `test_input_ids` or `test_ids`, so are these: `test_token_type_ids`.
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
  package init(
    path: String, tensor name: String?, context: Int?, standard: Int = 512, option: String, limit: Int?,
    graphs: [Graph]
  ) throws {
    let file = try TokenFile(path: path)
    let names = name.map { [$0] } ?? ["input_ids", "test_ids"]
    guard let view = names.lazy.compactMap({ file[$0] }).first else {
      throw Refusal(
        "ids-missing", "has no tensor \(names.map { "'\($0)'" }.joined(separator: " or "))",
        file: path)
    }
    func refusal(_ rule: String, _ message: String, _ remedy: String? = nil) -> Refusal {
      Refusal(rule, message, file: path, tensor: view.name, remedy: remedy)
    }
    try file.checkType(view)
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
    func windows(_ view: TensorView) -> [[Int]] {
      let tokens = TokenFile.integers(view, count: windowCount * length)
      return (0..<windowCount).map { Array(tokens[$0 * length..<($0 + 1) * length]) }
    }
    let tokens = windows(view)
    let types = try file.companion("token_type_ids", of: view).map(windows)
    let masks = try file.companion("attention_mask", of: view).map { mask in
      try file.mask(mask, windows(mask), isCausal: graphs.contains(where: \.isCausal))
    }
    if let size = graphs.compactMap(\.vocabularySize).min() {
      for (window, tokens) in tokens.enumerated() {
        guard let index = tokens.firstIndex(where: { !(0..<size).contains($0) }) else { continue }
        throw refusal(
          "ids-token",
          "token \(index) of window \(window) is \(tokens[index]), the vocabulary has 0...\(size - 1)",
          "use the tokenizer that belongs to the model")
      }
    }
    self.windows = tokens.indices.map { index in
      TokenSequence(tokens[index], tokenTypeIDs: types?[index], attentionMask: masks?[index])
    }
    labels = view.shape.rank == 2 ? file.labels(of: view).map { Array($0.prefix(windowCount)) } : nil
    self.length = length
    self.path = path
  }

  /// Cuts texts into windows of `context` tokens.
  ///
  /// - Parameters:
  ///   - texts: paths of text files.
  ///   - field: the field of lines of JSON that has the text.
  ///   - tokenizer: the models' tokenizer.
  ///   - context: tokens of a window; nil: 512, or less where a model cannot read as many.
  ///   - limit: the most windows.
  ///   - graphs: the models that are to read them.
  /// - Throws: `Refusal` with rule `text-context` or `text-token`, or as `TokenSampling` throws.
  package init(
    texts: [String], field: String, tokenizer: Tokenizer, context: Int?, limit: Int?, graphs: [Graph]
  ) throws {
    let longest = graphs.compactMap(\.contextLength).min()
    let length = context ?? min(512, longest ?? 512)
    if let longest, length > longest {
      throw Refusal(
        "text-context", "windows of \(length) tokens are longer than the model's \(longest)", file: texts.first,
        remedy: "choose a smaller --context")
    }
    let windows = try TokenSampling.windows(
      of: texts, field: field, tokenizer: tokenizer, length: length, limit: limit)
    for graph in graphs { try TextSamples.check(windows, vocabularySize: graph.vocabularySize, file: texts.first) }
    self.windows = windows.map { TokenSequence($0) }
    self.length = windows.first?.count ?? 0
    labels = nil
    path = texts.first
  }

  /// A digest of the tokens, their segments, masks and classes, and of these counts.
  ///
  /// - Throws: as `SHA256Digest`.
  package func identity(of counts: [Int]) throws -> String {
    try windows.identity(of: counts + [length] + (labels ?? [-1]))
  }

  /// The windows without the padding at their ends, which no token sees.
  ///
  /// - Throws: `Refusal` with rule `ids-mask` where a window hides other tokens, too, or all.
  package var unmasked: [TokenSequence] {
    get throws {
      try windows.enumerated().map { index, window in
        guard let sequence = window.withoutPadding, !sequence.tokenIDs.isEmpty else {
          throw Refusal(
            "ids-mask", "the mask of window \(index) hides other tokens than those at its end, or all",
            file: path, remedy: "pad at the end")
        }
        return sequence
      }
    }
  }
}

extension [TokenSequence] {
  /// A digest of the tokens, their segments and masks, and of these numbers.
  ///
  /// - Throws: as `SHA256Digest`.
  func identity(of numbers: [Int]) throws -> String {
    try SHA256Digest.hex { update in
      func add(_ values: [Int]) { ([values.count] + values).map { Int64($0) }.withUnsafeBytes(update) }
      add(numbers)
      for sequence in self {
        add(sequence.tokenIDs)
        add(sequence.tokenTypeIDs ?? [-1])
        add(sequence.attentionMask?.map { $0 ? 1 : 0 } ?? [-1])
      }
    }
  }
}

/// The tensors of a file of tokens.
private struct TokenFile {
  private let path: String
  private let tensors: [TensorView]

  init(path: String) throws {
    self.path = path
    tensors = try SafetensorsFile(mapping: MappedFile(path: path)).tensors
  }

  subscript(name: String) -> TensorView? { tensors.first { $0.name == name } }

  func checkType(_ view: TensorView) throws {
    guard view.elementType == .i64 || view.elementType == .i32 else {
      throw Refusal(
        "ids-type", "has elements \(view.elementType.rawValue), not I64 or I32", file: path, tensor: view.name)
    }
  }

  /// The tensor called `name` that belongs to the tokens of `tokens`: `test_<name>` of `test_ids`.
  private func named(_ name: String, of tokens: TensorView) -> TensorView? {
    for ending in ["input_ids", "ids"] where tokens.name.hasSuffix(ending) {
      return self[tokens.name.dropLast(ending.count) + name]
    }
    return nil
  }

  /// A tensor with an integer for each token of `tokens`.
  func companion(_ name: String, of tokens: TensorView) throws -> TensorView? {
    guard let view = named(name, of: tokens) else { return nil }
    try checkType(view)
    guard view.shape == tokens.shape else {
      throw Refusal(
        "ids-shape", "is \(view.shape), '\(tokens.name)' is \(tokens.shape)", file: path, tensor: view.name)
    }
    return view
  }

  /// The classes of the rows of `tokens`.
  func labels(of tokens: TensorView) -> [Int]? {
    guard let view = named("labels", of: tokens), view.shape.dimensions == [tokens.shape.dimensions[0]],
      view.elementType == .i64 || view.elementType == .i32
    else { return nil }
    return TokenFile.integers(view, count: view.shape.elementCount)
  }

  /// True for tokens that are seen.
  func mask(_ view: TensorView, _ rows: [[Int]], isCausal: Bool) throws -> [[Bool]] {
    try rows.enumerated().map { index, row in
      func refusal(_ message: String, _ remedy: String? = nil) -> Refusal {
        Refusal("ids-mask", "window \(index) \(message)", file: path, tensor: view.name, remedy: remedy)
      }
      guard row.allSatisfy({ $0 == 0 || $0 == 1 }) else { throw refusal("has other entries than 0 and 1") }
      let mask = row.map { $0 == 1 }
      // Implementations count positions of what stands behind hidden tokens in more than one way.
      if isCausal, TokenSequence(row, attentionMask: mask).withoutPadding == nil {
        throw refusal(
          "hides tokens before others that are seen, which a model that continues texts is not given",
          "pad at the end")
      }
      return mask
    }
  }

  /// The first elements of a tensor.
  static func integers(_ view: TensorView, count: Int) -> [Int] {
    view.withRowBytes(0..<view.shape.rowCount) { bytes in
      (0..<count).map { index in
        view.elementType == .i64
          ? Int(Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: Int64.self)))
          : Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 4, as: Int32.self)))
      }
    }
  }
}
