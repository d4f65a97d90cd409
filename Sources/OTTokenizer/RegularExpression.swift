/// A regular expression as tokenizers use it to split text.
///
/// The first alternative that matches wins and quantifiers are greedy, as in
/// the engine of the reference, whose results it gives. What it lacks, it
/// refuses: back references, look-behind, lazy quantifiers, and an unbounded
/// quantifier on anything but one character.
///
/// The patterns of published tokenizers take linear time. No pattern takes
/// exponential time: a match tries no place of the pattern twice at the same
/// character.
struct RegularExpression: Sendable {
  enum Instruction: Sendable {
    case one(set: Int)
    /// As many of `set` as there are, at least `minimum`.
    case run(set: Int, minimum: Int, maximum: Int, isPossessive: Bool)
    /// Goes on at `first`; when that fails, at `second`.
    case split(first: Int, second: Int)
    case jump(Int)
    /// Goes on at `end` when the program after this does (not) match here.
    case look(end: Int, isNegative: Bool)
    case lineStart
    case lineEnd
    case accept
  }

  let program: [Instruction]
  let sets: [ScalarSet]

  /// The matches in `text`, leftmost first, none empty.
  func matches(in text: [Unicode.Scalar]) -> [Range<Int>] {
    var matcher = Matcher(expression: self)
    var matches: [Range<Int>] = []
    var position = 0
    text.withUnsafeBufferPointer { text in
      while position < text.count {
        if let end = matcher.match(text, from: position, at: 0), end > position {
          matches.append(position..<end)
          position = end
        } else {
          position += 1
        }
      }
    }
    return matches
  }
}

/// Runs a program with a stack of places to go back to.
private struct Matcher {
  private struct Retry {
    let instruction: Int
    /// Positions from which to try, the last one first.
    let first: Int
    var last: Int
  }

  /// From this many retries on, places tried are remembered.
  private static let patience = 1024

  let expression: RegularExpression
  private var retries: [Retry] = []

  init(expression: RegularExpression) { self.expression = expression }

  /// Where the match that starts at `start` ends. Recursion is as deep as the
  /// look-aheads of the pattern are nested, which its parser bounds.
  mutating func match(
    _ text: UnsafeBufferPointer<Unicode.Scalar>, from start: Int, at entry: Int
  ) -> Int? {
    let base = retries.count
    defer { retries.removeSubrange(base...) }
    var retryCount = 0
    var tried: Set<Int> = []
    var position = start
    var instruction = entry
    while true {
      var isMatch = true
      switch expression.program[instruction] {
      case .one(let set):
        isMatch = position < text.count && expression.sets[set].contains(text[position])
        position += 1
        instruction += 1
      case .run(let set, let minimum, let maximum, let isPossessive):
        let first = position
        let limit = maximum < text.count - first ? first + maximum : text.count
        let members = expression.sets[set]
        while position < limit, members.contains(text[position]) { position += 1 }
        isMatch = position - first >= minimum
        instruction += 1
        if isMatch, !isPossessive, position - first > minimum {
          retries.append(
            Retry(instruction: instruction, first: first + minimum, last: position - 1))
        }
      case .split(let first, let second):
        retries.append(Retry(instruction: second, first: position, last: position))
        instruction = first
      case .jump(let target):
        instruction = target
      case .look(let end, let isNegative):
        let found = match(text, from: position, at: instruction + 1) != nil
        isMatch = found != isNegative
        instruction = end
      case .lineStart:
        isMatch = position == 0 || text[position - 1] == "\n"
        instruction += 1
      case .lineEnd:
        isMatch = position == text.count || text[position] == "\n"
        instruction += 1
      case .accept:
        return position
      }
      while !isMatch {
        guard retries.count > base else { return nil }
        let top = retries.count - 1
        instruction = retries[top].instruction
        position = retries[top].last
        if position > retries[top].first {
          retries[top].last -= 1
        } else {
          retries.removeLast()
        }
        retryCount += 1
        isMatch =
          retryCount < Self.patience
          || tried.insert((position - start) * expression.program.count + instruction).inserted
      }
    }
  }
}
