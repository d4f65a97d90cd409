/// One sequence of tokens as a model reads it.
package struct TokenSequence: Sendable, Hashable {
  /// The tokens; positions count from 0.
  package var tokenIDs: [Int]
  /// The segment of each token; nil: all 0.
  package var tokenTypeIDs: [Int]?
  /// True for each token that may be attended to; nil: all may. A token that would see none sees itself.
  package var attentionMask: [Bool]?

  /// A sequence; what is left out is nil.
  package init(_ tokenIDs: [Int], tokenTypeIDs: [Int]? = nil, attentionMask: [Bool]? = nil) {
    self.tokenIDs = tokenIDs
    self.tokenTypeIDs = tokenTypeIDs
    self.attentionMask = attentionMask
  }

  /// A sequence for a part of a model that reads no tokens, only values that are given.
  package init(length: Int) { self.init([Int](repeating: 0, count: length)) }
}

extension TokenSequence: ExpressibleByArrayLiteral {
  /// A sequence of these tokens.
  package init(arrayLiteral tokenIDs: Int...) { self.init(tokenIDs) }
}

extension TokenSequence {
  /// The first tokens, at most so many.
  package func prefix(_ count: Int) -> TokenSequence {
    TokenSequence(
      Array(tokenIDs.prefix(count)), tokenTypeIDs: tokenTypeIDs.map { Array($0.prefix(count)) },
      attentionMask: attentionMask.map { Array($0.prefix(count)) })
  }

  /// The sequence without the tokens at its end that may not be attended to, which change nothing of the
  /// others; nil where such tokens precede others that may.
  package var withoutPadding: TokenSequence? {
    guard let mask = attentionMask else { return self }
    let count = mask.lastIndex(of: true).map { $0 + 1 } ?? 0
    guard mask.prefix(count).allSatisfy({ $0 }) else { return nil }
    return TokenSequence(Array(tokenIDs.prefix(count)), tokenTypeIDs: tokenTypeIDs.map { Array($0.prefix(count)) })
  }

  /// Sequences that float products take together: neighbours that have no more
  /// than 512 tokens in all, or one.
  ///
  /// The BLAS's rounding depends on how many rows it is given. A batch that
  /// begins and ends where such a block does has the results of any other that does.
  ///
  /// - Parameter lengths: tokens of each sequence.
  /// - Returns: ranges of indices of `lengths`.
  package static func productBlocks(lengths: [Int]) -> [Range<Int>] {
    var blocks: [Range<Int>] = []
    var rowCount = 0
    for (index, length) in lengths.enumerated() {
      if let last = blocks.last, rowCount + length <= 512 {
        blocks[blocks.count - 1] = last.lowerBound..<index + 1
        rowCount += length
      } else {
        blocks.append(index..<index + 1)
        rowCount = length
      }
    }
    return blocks
  }
}
