import OTFoundation
import OTTokenizer

/// Tokens of texts: samples at random places, and consecutive windows.
///
/// Documents follow one another, each but the last followed by the tokenizer's
/// separator where it has one: `<|endoftext|>`, `<|end_of_text|>`, `</s>`,
/// `<eos>` or `[SEP]`, whichever it knows first.
package enum TokenSampling {
  /// Text that is looked at for each token that samples take. A token is about
  /// four bytes, so samples take about a quarter of it.
  private static let byteCountPerToken = 16
  private static let leastByteCount = 1 << 18
  private static let leastPieceCount = 64
  /// A longer `.txt` is tokenized in parts, cut between lines.
  private static let windowPieceByteCount = 1 << 24

  /// Samples of `length` tokens that do not overlap, at random places.
  ///
  /// Of a text larger than 16 bytes for every token wanted, random documents
  /// (of a `.txt`, at least 64 random pieces) are tokenized; the rest is read
  /// but not parsed, and memory does not grow with the file. The windows of
  /// `length` tokens, counted from a random token, are then drawn from. Each
  /// has around it what the tokenizer puts around a text (`[CLS]` and `[SEP]`,
  /// `<s>`), within its length.
  ///
  /// - Parameters:
  ///   - paths: files as `TextFile` reads them.
  ///   - field: the field of lines of JSON that has the text.
  ///   - count: fewer samples are given when the text has fewer.
  ///   - length: tokens of a sample; a text with fewer gives one shorter sample.
  ///   - seed: the same seed gives the same samples.
  /// - Throws: `Refusal` with rule `text-empty`, or as `TextFile` throws.
  package static func samples(
    of paths: [String], field: String = TextFile.standardField, tokenizer: Tokenizer, count: Int, length: Int,
    seed: UInt64
  ) throws -> [[Int]] {
    let files = try paths.map { try TextFile(path: $0, field: field) }
    let wanted = count.multipliedReportingOverflow(by: length)
    let budget = max(min(wanted.overflow ? .max : wanted.partialValue, 1 << 26) * byteCountPerToken, leastByteCount)
    var reservoir = TextReservoir(byteCount: budget, seed: seed)
    for (index, file) in files.enumerated() {
      switch file.layout {
      case .plain:
        try file.forEachPiece(byteCount: budget / leastPieceCount) { piece in
          reservoir.add(.piece(piece), file: index)
          return true
        }
      case .lines:
        try file.forEachLine { line in
          reservoir.add(.line(line), file: index)
          return true
        }
      }
    }
    let documents = try documents(reservoir.finish(), files, maximumByteCount: budget)
    let samples = try samples(ofDocuments: documents, tokenizer: tokenizer, count: count, length: length, seed: seed)
    guard !samples.isEmpty else { throw empty(paths) }
    return samples
  }

  /// Samples of documents that are in memory, as `samples(of:)` draws them;
  /// none when the documents have no tokens.
  ///
  /// - Throws: as `Tokenizer.encode`.
  package static func samples(
    ofDocuments documents: [String], tokenizer: Tokenizer, count: Int, length: Int, seed: UInt64
  ) throws -> [[Int]] {
    let tokens = try tokens(of: documents, tokenizer)
    guard !tokens.isEmpty else { return [] }
    var generator = SplitMix64(seed: seed ^ 0x6F74_712D_7361_6D70)
    let around = tokenizer.specialTokens
    let inner = max(length - around.leading.count - around.trailing.count, 1)
    return places(tokenCount: tokens.count, count: count, length: inner, &generator).map {
      around.leading + tokens[$0] + around.trailing
    }
  }

  /// The first windows of `length` consecutive tokens of the whole text, which
  /// is encoded as the tokenizer encodes a text, special tokens included. A rest
  /// at the end is left out, unless it is all there is.
  ///
  /// - Parameters:
  ///   - field: the field of lines of JSON that has the text.
  ///   - limit: the most windows; nil: all. No more text is tokenized than they need.
  /// - Throws: `Refusal` with rule `text-empty`, or as `TextFile` throws.
  package static func windows(
    of paths: [String], field: String = TextFile.standardField, tokenizer: Tokenizer, length: Int, limit: Int?
  ) throws -> [[Int]] {
    let wanted = limit.flatMap { limit -> Int? in
      let product = limit.multipliedReportingOverflow(by: length)
      return product.overflow ? nil : product.partialValue
    }
    let separator = separator(of: tokenizer)
    var tokens: [Int] = []
    func isEnough() -> Bool { wanted.map { tokens.count >= $0 } ?? false }
    for file in try paths.map({ try TextFile(path: $0, field: field) }) where !isEnough() {
      func begin() {
        if !tokens.isEmpty, let separator { tokens.append(separator) }
      }
      switch file.layout {
      case .plain:
        var isFirst = true
        try file.forEachPiece(byteCount: windowPieceByteCount) { piece in
          let text = try file.text(piece.bytes, byteOffset: piece.byteOffset)
          if isFirst { begin() }
          tokens += try tokenizer.encode(text, addSpecialTokens: isFirst)
          isFirst = false
          return !isEnough()
        }
      case .lines:
        try file.forEachDocument { text in
          begin()
          tokens += try tokenizer.encode(text, addSpecialTokens: tokens.isEmpty)
          return !isEnough()
        }
      }
    }
    guard tokens.count > tokenizer.specialTokens.leading.count + tokenizer.specialTokens.trailing.count else {
      throw empty(paths)
    }
    guard tokens.count > length else { return [tokens] }
    return (0..<min(tokens.count / length, limit ?? .max)).map { Array(tokens[$0 * length..<($0 + 1) * length]) }
  }

  private static func empty(_ paths: [String]) -> Refusal {
    Refusal(
      "text-empty", paths.count == 1 ? "holds no text" : "and \(paths.count - 1) other files hold no text",
      file: paths.first)
  }

  /// The token between documents.
  static func separator(of tokenizer: Tokenizer) -> Int? {
    ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]"].lazy.compactMap(tokenizer.id)
      .first(where: tokenizer.isSpecial)
  }

  /// The texts of what was kept, pieces that follow one another joined.
  private static func documents(
    _ units: [TextReservoir.Unit], _ files: [TextFile], maximumByteCount: Int
  ) throws -> [String] {
    var documents: [String] = []
    var joined: (file: Int, position: Int, piece: TextFile.Piece)?
    func finishPieces() throws {
      guard let pieces = joined else { return }
      let text = try files[pieces.file].text(pieces.piece.bytes, byteOffset: pieces.piece.byteOffset)
      if !text.isEmpty { documents.append(text) }
      joined = nil
    }
    for unit in units {
      switch unit.content {
      case .line(let line):
        try finishPieces()
        guard let text = try files[unit.file].document(line), !text.isEmpty else { continue }
        documents.append(part(of: text, maximumByteCount: maximumByteCount, key: unit.key))
      case .piece(let piece):
        if let previous = joined, previous.file == unit.file, previous.position + 1 == unit.position {
          joined?.piece.bytes += piece.bytes
          joined?.position = unit.position
        } else {
          try finishPieces()
          joined = (unit.file, unit.position, piece)
        }
      }
    }
    try finishPieces()
    return documents
  }

  /// A document, or a random part of one that is too long.
  private static func part(of text: String, maximumByteCount: Int, key: UInt64) -> String {
    let excess = text.utf8.count - maximumByteCount
    guard excess > 0 else { return text }
    var generator = SplitMix64(seed: key)
    let offset = generator.next(below: excess + 1)
    let start = text.utf8.index(text.utf8.startIndex, offsetBy: offset)
    let end = text.utf8.index(start, offsetBy: maximumByteCount)
    // Rounded to whole characters.
    return String(text.unicodeScalars[start..<end])
  }

  private static func tokens(of documents: [String], _ tokenizer: Tokenizer) throws -> [Int] {
    let separator = separator(of: tokenizer)
    var tokens: [Int] = []
    for document in documents {
      if !tokens.isEmpty, let separator { tokens.append(separator) }
      tokens += try tokenizer.encode(document, addSpecialTokens: false)
    }
    return tokens
  }

  /// The places of samples, in the order of the text.
  private static func places(
    tokenCount: Int, count: Int, length: Int, _ generator: inout SplitMix64
  ) -> [Range<Int>] {
    guard tokenCount > length else { return [0..<tokenCount] }
    let windowCount = tokenCount / length
    let first = generator.next(below: tokenCount - windowCount * length + 1)
    var windows = Array(0..<windowCount)
    // The beginning of a Fisher–Yates shuffle.
    for index in 0..<min(count, windowCount) {
      windows.swapAt(index, index + generator.next(below: windowCount - index))
    }
    return windows.prefix(count).sorted().map { first + $0 * length..<first + ($0 + 1) * length }
  }
}
