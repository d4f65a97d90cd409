import OTFoundation

extension RegularExpression {
  /// Compiles `pattern`, written in the syntax of Oniguruma.
  ///
  /// - Throws: `Refusal` `tokenizer-regex` for a pattern that is malformed or
  ///   beyond what this type does.
  init(_ pattern: String, in section: TokenizerSection) throws {
    var parser = RegularExpressionParser(pattern, section)
    try parser.parseAlternatives(depth: 0)
    guard parser.isAtEnd else { throw parser.failure("has an unmatched ')'") }
    parser.program.append(.accept)
    program = parser.program
    sets = parser.sets
  }

  /// Compiles a pattern that is part of this package.
  init(builtIn pattern: String) {
    let section = TokenizerSection(json: .null, path: "", file: "")
    guard let expression = try? RegularExpression(pattern, in: section) else {
      preconditionFailure("a pattern of this package does not compile")
    }
    self = expression
  }
}

struct RegularExpressionParser {
  private static let deepestNesting = 16
  private static let longestProgram = 4096

  private let pattern: [Unicode.Scalar]
  private let section: TokenizerSection
  private var position = 0
  private var ignoresCase = false
  /// The letter before, where case is ignored: see `appendLiteral`.
  private var previousLetter: Unicode.Scalar?
  fileprivate(set) var program: [RegularExpression.Instruction] = []
  fileprivate(set) var sets: [ScalarSet] = []

  init(_ pattern: String, _ section: TokenizerSection) {
    self.pattern = Array(pattern.unicodeScalars)
    self.section = section
  }

  var isAtEnd: Bool { position == pattern.count }
  private var next: Unicode.Scalar? { isAtEnd ? nil : pattern[position] }

  func failure(_ message: String) -> Refusal {
    let text = String(String.UnicodeScalarView(pattern))
    return section.refusal("tokenizer-regex", "the pattern '\(text.prefix(200))' \(message)")
  }

  private mutating func take(_ text: String) -> Bool {
    let scalars = Array(text.unicodeScalars)
    guard pattern[position...].starts(with: scalars) else { return false }
    position += scalars.count
    return true
  }

  // MARK: Structure

  mutating func parseAlternatives(depth: Int) throws {
    guard depth <= Self.deepestNesting else { throw failure("is nested too deeply") }
    let start = program.count
    var jumps: [Int] = []
    var branch = start
    try parseSequence(depth: depth)
    while take("|") {
      // The split goes before the alternative just compiled.
      insert(.split(first: branch + 1, second: program.count + 2), at: branch)
      jumps.append(program.count)
      program.append(.jump(0))
      branch = program.count
      try parseSequence(depth: depth)
    }
    for jump in jumps { program[jump] = .jump(program.count) }
  }

  /// Inserts an instruction and moves the targets behind it.
  private mutating func insert(_ instruction: RegularExpression.Instruction, at place: Int) {
    for index in place..<program.count {
      program[index] = Self.moved(program[index], by: 1)
    }
    program.insert(instruction, at: place)
  }

  private static func moved(
    _ instruction: RegularExpression.Instruction, by distance: Int
  ) -> RegularExpression.Instruction {
    switch instruction {
    case .split(let first, let second): .split(first: first + distance, second: second + distance)
    case .jump(let target): .jump(target + distance)
    case .look(let end, let isNegative): .look(end: end + distance, isNegative: isNegative)
    default: instruction
    }
  }

  private mutating func parseSequence(depth: Int) throws {
    previousLetter = nil
    while true {
      // As it grows: a pattern may be as long as its file.
      guard program.count <= Self.longestProgram else { throw failure("is too long") }
      guard let scalar = next, scalar != "|", scalar != ")" else { return }
      let start = program.count
      try parseAtom(depth: depth)
      try parseQuantifier(from: start)
    }
  }

  private mutating func parseAtom(depth: Int) throws {
    let scalar = pattern[position]
    position += 1
    switch scalar {
    case "(": try parseGroup(depth: depth)
    case "[": append(try parseClass(depth: depth))
    // The reference lets the dot match line ends.
    case ".": append(ScalarSet([], isNegated: true))
    case "^": program.append(.lineStart)
    case "$": program.append(.lineEnd)
    case "*", "+", "?": throw failure("has a quantifier with nothing before it")
    case "\\":
      switch try parseEscape() {
      case .literal(let literal): try appendLiteral(literal)
      case .member(let member): append(ScalarSet([member]))
      }
    default: try appendLiteral(scalar)
    }
    if scalar == "(" || scalar == "[" || scalar == "." { previousLetter = nil }
  }

  private mutating func append(_ set: ScalarSet) {
    sets.append(set)
    program.append(.one(set: sets.count - 1))
  }

  private mutating func appendLiteral(_ literal: Unicode.Scalar) throws {
    if ignoresCase {
      // Some letters equal two others ('ß' and "ss", 'ﬁ' and "fi"), which a
      // set of single characters cannot say.
      let letter = literal.properties.lowercaseMapping.unicodeScalars.first ?? literal
      let pair = previousLetter.map { "\($0)\(letter)" } ?? ""
      guard literal.isASCII, !["ss", "st", "ff", "fi", "fl"].contains(pair) else {
        throw failure("ignores case where a letter equals two others, which is not supported")
      }
      previousLetter = letter
    }
    append(ScalarSet([.range(literal.value...literal.value)], ignoresCase: ignoresCase))
  }

  private mutating func parseGroup(depth: Int) throws {
    let outerCase = ignoresCase
    defer { ignoresCase = outerCase }
    var look: Int?
    if take("?") {
      if take("=") || take("!") {
        look = program.count
        program.append(.look(end: 0, isNegative: pattern[position - 1] == "!"))
      } else if take("i:") {
        ignoresCase = true
      } else if !take(":") {
        throw failure("has a group '(?\(next.map { String($0) } ?? "")', which is not supported")
      }
    }
    try parseAlternatives(depth: depth + 1)
    guard take(")") else { throw failure("has an unmatched '('") }
    if let look, case .look(_, let isNegative) = program[look] {
      program.append(.accept)
      program[look] = .look(end: program.count, isNegative: isNegative)
    }
  }

  // MARK: Quantifiers

  private mutating func parseQuantifier(from start: Int) throws {
    guard let (minimum, maximum, isInterval) = try parseBounds() else { return }
    previousLetter = nil
    if next == "?" || (isInterval && next == "+") {
      throw failure("has a lazy or a doubled quantifier, which is not supported")
    }
    let isPossessive = take("+")
    if let next, ["*", "+", "{"].contains(next) { throw failure("has a doubled quantifier") }
    let atom = Array(program[start...])
    if atom.count == 1, case .one(let set) = atom[0] {
      program[start] = .run(
        set: set, minimum: minimum, maximum: maximum, isPossessive: isPossessive)
      return
    }
    guard maximum != .max, !isPossessive, maximum * (atom.count + 1) <= Self.longestProgram else {
      throw failure("repeats a group without bound, which is not supported")
    }
    program.removeSubrange(start...)
    for copy in 0..<maximum {
      if copy >= minimum {
        // Each optional copy nests the next: leaving one leaves all.
        let rest = (maximum - copy) * (atom.count + 1)
        program.append(.split(first: program.count + 1, second: program.count + rest))
      }
      let distance = program.count - start
      program += atom.map { Self.moved($0, by: distance) }
    }
  }

  private mutating func parseBounds() throws -> (Int, Int, isInterval: Bool)? {
    if take("*") { return (0, .max, false) }
    if take("+") { return (1, .max, false) }
    if take("?") { return (0, 1, false) }
    guard next == "{" else { return nil }
    guard let close = pattern[position...].firstIndex(of: "}") else {
      throw failure("has an unmatched '{'")
    }
    let text = String(String.UnicodeScalarView(pattern[position + 1..<close]))
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    position = close + 1
    let numbers = parts.map { Int($0) }
    guard (1...2).contains(parts.count), let minimum = numbers[0] ?? (parts[0].isEmpty ? 0 : nil),
      let maximum = parts.count == 1
        ? numbers[0] : (numbers[1] ?? (parts[1].isEmpty ? Int.max : nil)),
      minimum >= 0, maximum >= minimum, maximum == .max || maximum <= Self.longestProgram
    else { throw failure("has a malformed '{\(text)}'") }
    return (minimum, maximum, true)
  }
}

// MARK: - Characters

extension RegularExpressionParser {
  private enum Escape {
    case literal(Unicode.Scalar)
    case member(ScalarSet.Member)
  }

  /// Parses what follows a backslash.
  private mutating func parseEscape() throws -> Escape {
    guard let scalar = next else { throw failure("ends with a backslash") }
    position += 1
    func negated(_ member: ScalarSet.Member) -> Escape {
      .member(.set(ScalarSet([member], isNegated: true)))
    }
    switch scalar {
    case "s": return .member(.whitespace)
    case "S": return negated(.whitespace)
    case "d": return .member(.categories(.decimalNumber))
    case "D": return negated(.categories(.decimalNumber))
    case "w": return .member(.word)
    case "W": return negated(.word)
    case "p", "P":
      guard take("{"), let close = pattern[position...].firstIndex(of: "}") else {
        throw failure("has a malformed '\\\(scalar)'")
      }
      var name = String(String.UnicodeScalarView(pattern[position..<close]))
      position = close + 1
      var isNegated = scalar == "P"
      if name.hasPrefix("^") {
        name.removeFirst()
        isNegated.toggle()
      }
      guard let categories = CharacterCategories.named[name] else {
        throw failure("names the property '\(name)', which is not supported")
      }
      return isNegated ? negated(.categories(categories)) : .member(.categories(categories))
    case "n": return .literal("\n")
    case "r": return .literal("\r")
    case "t": return .literal("\t")
    case "f": return .literal("\u{C}")
    case "v": return .literal("\u{B}")
    case "u": return .literal(try parseHexadecimal(digitCount: 4))
    case "x":
      if take("{") {
        guard let close = pattern[position...].firstIndex(of: "}") else {
          throw failure("has a malformed '\\x'")
        }
        let literal = try parseHexadecimal(digitCount: close - position)
        position += 1
        return .literal(literal)
      }
      return .literal(try parseHexadecimal(digitCount: 2))
    default:
      guard !scalar.properties.isAlphabetic, !("0"..."9").contains(scalar) else {
        throw failure("has the escape '\\\(scalar)', which is not supported")
      }
      return .literal(scalar)
    }
  }

  private mutating func parseHexadecimal(digitCount: Int) throws -> Unicode.Scalar {
    guard (1...8).contains(digitCount), position + digitCount <= pattern.count else {
      throw failure("has a malformed character number")
    }
    let digits = String(String.UnicodeScalarView(pattern[position..<position + digitCount]))
    guard let value = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(value) else {
      throw failure("has a malformed character number")
    }
    position += digitCount
    return scalar
  }

  /// Parses a class behind its `[`; classes may contain classes.
  private mutating func parseClass(depth: Int) throws -> ScalarSet {
    guard depth <= Self.deepestNesting else { throw failure("is nested too deeply") }
    let isNegated = take("^")
    guard next != "]" else { throw failure("has an empty class") }
    var members: [ScalarSet.Member] = []
    while !take("]") {
      guard !isAtEnd else { throw failure("has an unmatched '['") }
      if take("&&") || take("[:") {
        throw failure("intersects or names classes, which is not supported")
      }
      if take("[") {
        members.append(.set(try parseClass(depth: depth + 1)))
        continue
      }
      guard let first = try parseClassItem(&members) else { continue }
      let isRange = next == "-" && position + 1 < pattern.count && pattern[position + 1] != "]"
      guard isRange else {
        members.append(.range(first.value...first.value))
        continue
      }
      position += 1
      guard next != "[", let last = try parseClassItem(&members), last >= first else {
        throw failure("has a malformed range")
      }
      members.append(.range(first.value...last.value))
    }
    return ScalarSet(members, isNegated: isNegated, ignoresCase: ignoresCase)
  }

  /// One character, or nil when it was a set, which is added to `members`.
  private mutating func parseClassItem(
    _ members: inout [ScalarSet.Member]
  ) throws -> Unicode.Scalar? {
    guard let scalar = next else { throw failure("has an unmatched '['") }
    position += 1
    guard scalar == "\\" else { return scalar }
    switch try parseEscape() {
    case .literal(let literal): return literal
    case .member(let member):
      members.append(member)
      return nil
    }
  }
}
