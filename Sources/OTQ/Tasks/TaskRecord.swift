import OTFoundation
import OTJSON

/// An item as it stands in a file: an object of JSON, or a row of a table.
struct TaskRecord {
  enum Content {
    case object(JSONObject)
    case row([String], columns: [String])
  }

  let file: String
  /// The line that it begins on, from 1.
  let line: Int
  let content: Content

  /// True for a row of a table.
  var isRow: Bool { if case .row = content { true } else { false } }

  /// A refusal of the item.
  func refusal(_ rule: String, _ message: String, remedy: String? = nil) -> Refusal {
    Refusal(rule, "line \(line) \(message)", file: file, remedy: remedy)
  }

  /// The value of the first field or column of these names that there is; nil: there is none.
  func value(_ names: [String]) -> JSONValue? {
    for name in names {
      switch content {
      case .object(let members): if let value = members[name], value != .null { return value }
      case .row(let cells, let columns):
        if let index = columns.firstIndex(of: name) { return .string(cells[index]) }
      }
    }
    return nil
  }

  /// The value of a field or column; nil: there is none.
  func value(_ name: String) -> JSONValue? { value([name]) }

  private func present(_ names: [String]) throws -> JSONValue {
    guard let value = value(names) else {
      let listed = names.map { "'\($0)'" }.joined(separator: " or ")
      throw refusal("task-data-field", "has no \(isRow ? "column" : "field") \(listed)")
    }
    return value
  }

  /// The names for a message: that which the item has, else the first.
  private func shownName(_ names: [String]) -> String { names.first { value($0) != nil } ?? names[0] }

  /// A text under the first of these names that there is.
  ///
  /// - Throws: `Refusal` with rule `task-data-field` where there is none, or something else.
  func text(_ names: String...) throws -> String { try text(names) }

  /// The same of a list of names.
  ///
  /// - Throws: as the other.
  func text(_ names: [String]) throws -> String {
    guard let text = try present(names).string else {
      throw refusal("task-data-field", "has no text under '\(shownName(names))'")
    }
    return text
  }

  /// Texts, at least two.
  ///
  /// - Throws: `Refusal` with rule `task-data-field`.
  func texts(_ name: String) throws -> [String] {
    guard let list = try present([name]).array?.map(\.string), list.count > 1, !list.contains(nil) else {
      throw refusal("task-data-field", "has no list of two texts or more under '\(name)'")
    }
    return list.compactMap { $0 }
  }

  /// A number, also one written as text.
  ///
  /// - Throws: `Refusal` with rule `task-data-field` or `task-data-label`.
  func number(_ names: [String]) throws -> Double {
    let value = try present(names)
    guard let number = value.double ?? value.string.flatMap({ Double($0) }), number.isFinite else {
      throw refusal("task-data-label", "has no number under '\(shownName(names))'")
    }
    return number
  }

  /// A label: a whole number, also one written as text, or one of the names of labels.
  ///
  /// - Parameters:
  ///   - count: the labels that there are.
  ///   - first: the number that counts as 0.
  ///   - labels: their names, in any case of letters; empty: numbers alone.
  /// - Throws: `Refusal` with rule `task-data-field` or `task-data-label`.
  func label(_ names: String..., count: Int, first: Int = 0) throws -> Int {
    try label(names, count: count, first: first)
  }

  /// The same of a list of names.
  ///
  /// - Throws: as the other.
  func label(_ names: [String], count: Int, first: Int = 0, labels: [String] = []) throws -> Int {
    let value = try present(names)
    if let text = value.string, let index = labels.firstIndex(of: text.lowercased()) { return index }
    guard let label = value.integer ?? value.string.flatMap({ Int($0) }), (first..<first + count).contains(label) else {
      let shown = value.string ?? value.integer.map { "\($0)" } ?? value.double.map { "\($0)" } ?? "…"
      let known = labels.isEmpty ? "" : labels.joined(separator: ", ") + " or "
      throw refusal(
        "task-data-label", "has '\(shown)' under '\(shownName(names))', not \(known)\(first) to \(first + count - 1)")
    }
    return label - first
  }
}
