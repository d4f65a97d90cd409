import OTFoundation

/// The pattern of a Split or a Replace.
enum SplitPattern: Sendable {
  case literal([Unicode.Scalar])
  case regex(RegularExpression)
  case scalar(@Sendable (Unicode.Scalar) -> Bool)

  /// Reads `{"String": …}`, `{"Regex": …}` or a bare string.
  init(_ section: TokenizerSection) throws {
    if let text = section.json.string {
      self = .literal(Array(text.unicodeScalars))
    } else if let text = try section.optionalString("String") {
      self = .literal(Array(text.unicodeScalars))
    } else {
      self = .regex(try RegularExpression(try section.string("Regex"), in: section))
    }
  }

  /// The matches in `text`, in order; those of a regular expression may be empty.
  func matches(in text: [Unicode.Scalar]) throws(Refusal) -> [Range<Int>] {
    switch self {
    case .regex(let expression):
      return try expression.matches(in: text)
    case .scalar(let isMatch):
      return text.indices.filter { isMatch(text[$0]) }.map { $0..<$0 + 1 }
    case .literal(let literal):
      guard let first = literal.first else { return [] }
      var matches: [Range<Int>] = []
      var position = 0
      while position + literal.count <= text.count {
        if text[position] == first, text[position...].starts(with: literal) {
          matches.append(position..<position + literal.count)
          position += literal.count
        } else {
          position += 1
        }
      }
      return matches
    }
  }

  /// `text` with every match replaced, and whether there was one at its beginning.
  func replacing(in text: [Unicode.Scalar], with content: [Unicode.Scalar]) throws(Refusal)
    -> (text: [Unicode.Scalar], isAtStart: Bool)
  {
    let matches = try matches(in: text)
    guard let first = matches.first else { return (text, false) }
    var result: [Unicode.Scalar] = []
    var position = 0
    for match in matches {
      result += text[position..<match.lowerBound]
      result += content
      position = match.upperBound
    }
    return (result + text[position...], first.lowerBound == 0 && !first.isEmpty)
  }
}

/// The fate of the matches when text is split at them.
enum SplitBehavior: String, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"

  init(_ section: TokenizerSection) throws {
    let name = try section.string("behavior")
    guard let behavior = SplitBehavior(rawValue: name) else {
      throw section.unsupported("the behavior '\(name)'")
    }
    self = behavior
  }

  /// The parts of a text of `count` scalars with the given matches.
  func split(count: Int, at matches: [Range<Int>], isInverted: Bool = false) -> [Range<Int>] {
    var parts: [(range: Range<Int>, isMatch: Bool)] = []
    var position = 0
    for match in matches {
      if match.lowerBound > position {
        parts.append((position..<match.lowerBound, isInverted))
      }
      parts.append((match, !isInverted))
      position = match.upperBound
    }
    if position < count { parts.append((position..<count, isInverted)) }

    switch self {
    case .isolated: return parts.map(\.range)
    case .removed: return parts.filter { !$0.isMatch }.map(\.range)
    case .contiguous: return join(parts) { $0.isMatch == $1.isMatch }
    case .mergedWithPrevious: return join(parts) { !$0.isMatch && $1.isMatch }
    case .mergedWithNext: return join(parts) { $0.isMatch && !$1.isMatch }
    }
  }

  /// Joins neighbours that `joins` says belong together.
  private func join(
    _ parts: [(range: Range<Int>, isMatch: Bool)],
    where joins: ((range: Range<Int>, isMatch: Bool), (range: Range<Int>, isMatch: Bool)) -> Bool
  ) -> [Range<Int>] {
    var result: [Range<Int>] = []
    for (index, part) in parts.enumerated() {
      if let last = result.last, joins(parts[index - 1], part) {
        result[result.count - 1] = last.lowerBound..<part.range.upperBound
      } else {
        result.append(part.range)
      }
    }
    return result
  }
}
