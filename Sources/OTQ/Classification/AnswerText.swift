import OTFoundation
import OTTokenizer

/// Finds the part of a text that some of its tokens stand for.
///
/// Tokens do not say where they were found. The beginning of a text up to the end of a word or of a mark has the
/// first tokens of the whole, and so many of them are counted.
struct AnswerText {
  private let text: String
  private let tokenizer: Tokenizer
  private let tokenIDs: [Int]
  /// Places between words and marks, the text's start and end among them.
  private let borders: [String.Index]

  /// - Parameter tokenIDs: of `text`, without special tokens.
  init(_ text: String, _ tokenIDs: [Int], _ tokenizer: Tokenizer) {
    (self.text, self.tokenIDs, self.tokenizer) = (text, tokenIDs, tokenizer)
    func isOfWord(_ character: Character) -> Bool { character.isLetter || character.isNumber }
    var borders = [text.startIndex]
    for index in text.indices.dropFirst() {
      let isInside = isOfWord(text[index]) && isOfWord(text[text.index(before: index)])
      if !isInside { borders.append(index) }
    }
    self.borders = borders + (text.isEmpty ? [] : [text.endIndex])
  }

  /// The text of some tokens, widened to whole words; as tokens spell it where no words are found around them.
  ///
  /// - Throws: as the tokenizer throws.
  func part(_ tokens: Range<Int>) throws -> String {
    var start = try firstBorder { $0 > tokens.lowerBound } - 1
    while start >= 0, try !counted(start).isExact { start -= 1 }
    var end = try firstBorder { $0 >= tokens.upperBound }
    while end < borders.count, try !counted(end).isExact { end += 1 }
    guard start >= 0, end < borders.count, start < end else {
      return tokenizer.decode(tokenIDs[tokens], skipSpecialTokens: false)
    }
    let part = text[borders[start]..<borders[end]]
    guard let first = part.firstIndex(where: { !$0.isWhitespace }),
      let last = part.lastIndex(where: { !$0.isWhitespace })
    else { return "" }
    return String(part[first...last])
  }

  /// The first border in front of which are so many tokens; the count of borders where there is none.
  private func firstBorder(where isEnough: (Int) -> Bool) throws -> Int {
    var range = 0..<borders.count
    while let middle = range.isEmpty ? nil : (range.lowerBound + range.upperBound) / 2 {
      range = try isEnough(counted(middle).count) ? range.lowerBound..<middle : middle + 1..<range.upperBound
    }
    return range.lowerBound
  }

  /// The tokens of the text before a border, and whether they are those that the whole begins with.
  private func counted(_ border: Int) throws -> (count: Int, isExact: Bool) {
    let tokens = try tokenizer.encode(String(text[..<borders[border]]), addSpecialTokens: false)
    return (tokens.count, tokenIDs.starts(with: tokens))
  }
}
