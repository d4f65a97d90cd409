/// A regular expression as tokenizers use it to split text.
///
/// The first alternative that matches wins and quantifiers are greedy, as in
/// the engine of the reference, whose results it gives. What it lacks, it
/// refuses: back references, look-behind, lazy quantifiers, and an unbounded
/// quantifier on anything but one character.
///
/// The patterns of published tokenizers take linear time, and so do patterns
/// whose repetitions overlap. No pattern takes exponential time: a match tries
/// no place of the pattern twice at the same character.
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

  /// Places that are remembered from one start to the next, about 32 MB.
  private static let longestMemory = 1 << 20

  let program: [Instruction]
  let sets: [ScalarSet]

  /// The matches in `text`, leftmost first, none empty.
  func matches(in text: [Unicode.Scalar]) -> [Range<Int>] {
    var matcher = Matcher(expression: self)
    var matches: [Range<Int>] = []
    var position = 0
    // Where no match began, what was tried has failed for the starts that follow, too.
    var tried: Set<Int> = []
    text.withUnsafeBufferPointer { text in
      while position < text.count {
        let end = matcher.match(text, from: position, at: 0, tried: &tried)
        if end != nil || tried.count > Self.longestMemory { tried.removeAll() }
        if let end, end > position {
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
    /// True when they are places within a `Run`, whose memory they share.
    var isWithinRun = false
  }

  /// The characters of a set that follow one another around some place, and from
  /// where in there it is known that going on leads to no match.
  private struct Run {
    /// The place at which they were met; text before it has not been looked at.
    var start = -1
    var end = -1
    /// From here to `end`, both included, all has been tried.
    var failed = 0
  }

  /// From this many retries on, places tried are remembered.
  private static let patience = 1024

  let expression: RegularExpression
  private var retries: [Retry] = []
  /// The last run that each instruction has met. Nothing behind an instruction
  /// leads back to it, so what has failed there fails for every later start, too.
  private var runs: [Run]
  /// Before this, what was tried may be what has led to a match.
  private var matchedEnd = 0

  init(expression: RegularExpression) {
    self.expression = expression
    runs = [Run](repeating: Run(), count: expression.program.count)
  }

  /// The end of the run of `set` that `first` lies in.
  private mutating func endOfRun(
    _ instruction: Int, of set: Int, from first: Int, in text: UnsafeBufferPointer<Unicode.Scalar>
  ) -> Int {
    let run = runs[instruction]
    if run.start <= first, first <= run.end { return run.end }
    let members = expression.sets[set]
    var position = first
    while position < text.count, position != run.start, members.contains(text[position]) { position += 1 }
    if position == run.start {
      runs[instruction].start = first
    } else {
      runs[instruction] = Run(start: first, end: position, failed: position + 1)
    }
    return runs[instruction].end
  }

  /// The end of the match that starts at `start`. Recursion is as deep as the
  /// look-aheads of the pattern are nested, which its parser bounds.
  ///
  /// - Parameter tried: places that lead to no match; grows by those tried here.
  mutating func match(
    _ text: UnsafeBufferPointer<Unicode.Scalar>, from start: Int, at entry: Int, tried: inout Set<Int>
  ) -> Int? {
    let base = retries.count
    defer { retries.removeSubrange(base...) }
    var retryCount = 0
    var position = start
    var instruction = entry
    let expression = expression
    /// False where it is known that going on leads to no match.
    func goesOn() -> Bool {
      retryCount < Self.patience && tried.isEmpty
        || tried.insert(position * expression.program.count + instruction).inserted
    }
    while true {
      var isMatch = true
      switch expression.program[instruction] {
      case .one(let set):
        isMatch = position < text.count && expression.sets[set].contains(text[position])
        position += 1
        instruction += 1
      case .run(let set, let minimum, let maximum, let isPossessive):
        let first = position
        let end = endOfRun(instruction, of: set, from: first, in: text)
        let isWhole = !isPossessive && end - first <= maximum
        position = end - first <= maximum ? end : first + maximum
        if isWhole { position = min(end, max(runs[instruction].failed, matchedEnd) - 1) }
        isMatch = position - first >= minimum
        if isMatch, isWhole { runs[instruction].failed = position }
        instruction += 1
        if isMatch, !isPossessive, position - first > minimum {
          retries.append(
            Retry(
              instruction: instruction, first: first + minimum, last: position - 1, isWithinRun: isWhole))
        }
        isMatch = isMatch && goesOn()
      case .split(let first, let second):
        retries.append(Retry(instruction: second, first: position, last: position))
        instruction = first
        isMatch = goesOn()
      case .jump(let target):
        instruction = target
      case .look(let end, let isNegative):
        var triedAhead: Set<Int> = []
        let found = match(text, from: position, at: instruction + 1, tried: &triedAhead) != nil
        isMatch = found != isNegative
        instruction = end
      case .lineStart:
        isMatch = position == 0 || text[position - 1] == "\n"
        instruction += 1
      case .lineEnd:
        isMatch = position == text.count || text[position] == "\n"
        instruction += 1
      case .accept:
        matchedEnd = max(matchedEnd, position + 1)
        return position
      }
      while !isMatch {
        guard retries.count > base else { return nil }
        let top = retries.count - 1
        instruction = retries[top].instruction
        position = retries[top].last
        let isWithinRun = retries[top].isWithinRun
        if position > retries[top].first {
          retries[top].last -= 1
        } else {
          retries.removeLast()
        }
        if isWithinRun { runs[instruction - 1].failed = position }
        retryCount += 1
        isMatch = goesOn()
      }
    }
  }
}
