import OTFoundation
import OTGraph
import OTTensor

/// A regular expression over names, as the user wrote it.
package struct NamePattern: Sendable {
  /// The expression.
  package let text: String
  private nonisolated(unsafe) let regex: Regex<AnyRegexOutput>

  /// Nil when `text` is no regular expression.
  package init?(_ text: String) {
    guard let regex = try? Regex(text) else { return nil }
    self.text = text
    self.regex = regex
  }

  /// True when the expression is found anywhere in `name`.
  package func matches(_ name: String) -> Bool { (try? regex.firstMatch(in: name)) ?? nil != nil }

  /// The names that look most like the expression, one of each kind: names that differ in numbers alone are of one.
  func nearest(_ names: [String], count: Int = 3) -> [String] {
    let literal = Array(
      text.unicodeScalars.filter { $0.properties.isAlphabetic || "_.0123456789".contains(Character($0)) })
    var kinds: Set<String> = []
    let ones = names.filter { name in kinds.insert(String(name.map { $0.isNumber ? "#" : $0 })).inserted }
    let ranked = ones.map { name in (name, distance: NamePattern.distance(literal, fromPartOf: name)) }
    return ranked.enumerated().sorted { ($0.element.distance, $0.offset) < ($1.element.distance, $1.offset) }
      .prefix(count).map(\.element.0)
  }

  /// The least edit distance from `literal` to parts of `name` that follow one another.
  private static func distance(_ literal: [Unicode.Scalar], fromPartOf name: String) -> Int {
    let parts = name.split(separator: ".")
    var least = Int.max
    for first in parts.indices {
      for last in first..<parts.count {
        let run = Array(parts[first...last].joined(separator: ".").unicodeScalars)
        least = min(least, literal.editDistance(to: run))
      }
    }
    return least
  }
}

extension [Unicode.Scalar] {
  /// Insertions, removals and replacements that lead to `other` (Levenshtein).
  fileprivate func editDistance(to other: [Unicode.Scalar]) -> Int {
    var row = Array<Int>(0...other.count)
    for (index, scalar) in enumerated() {
      var diagonal = row[0]
      row[0] = index + 1
      for column in other.indices {
        let replaced = diagonal + (scalar == other[column] ? 0 : 1)
        diagonal = row[column + 1]
        row[column + 1] = Swift.min(replaced, Swift.min(diagonal, row[column]) + 1)
      }
    }
    return row[other.count]
  }
}

extension ConversionOptions {
  /// Checks that each of the user's patterns names something that would be quantized.
  ///
  /// - Parameter tensors: the checkpoint's, which have the names where there is no graph.
  /// - Throws: `Refusal` with rule `pattern-no-match`.
  func checkPatterns(_ graph: Graph?, tensors: [TensorView], file: String) throws {
    let patterns = exclude.map { ("--exclude", $0) } + bitsFor.map { ("--bits-for", $0.pattern) }
    guard !patterns.isEmpty else { return }
    let names = graph.map(ConversionOptions.names) ?? tensors.filter { $0.shape.rank == 2 }.map(\.name)
    for (option, pattern) in patterns where !names.contains(where: pattern.matches) {
      let nearest = pattern.nearest(names).map { "'\($0)'" }.joined(separator: ", ")
      throw Refusal(
        "pattern-no-match",
        "\(option) '\(pattern.text)' is found in no name of a matrix that is quantized"
          + (nearest.isEmpty ? "" : "; the nearest are \(nearest)"), file: file,
        remedy: pattern.text.hasPrefix("re:")
          ? "leave out 're:': all patterns are regular expressions" : "give a regular expression of such names")
    }
  }

  /// The names by which bits are chosen: linears of blocks, and the other matrices' nodes and tensors.
  private static func names(_ graph: Graph) -> [String] {
    let others = graph.parameterUses.filter {
      $0.role == .table || $0.role == .weight && $0.linearRole != .block
    }
    return graph.sites.flatMap(\.consumers) + others.flatMap { [$0.node, $0.outputName] }
  }
}
