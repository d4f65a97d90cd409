import OTFoundation

/// The user's options for a method or a rounding: `alpha=0.6` of `--method smoothquant,alpha=0.6`.
package struct MethodOptions: Sendable {
  private let owner: String
  private var values: [String: String]

  /// Options as given.
  package init(method: String, _ values: [String: String] = [:]) { self.init(owner: "method '\(method)'", values) }

  private init(owner: String, _ values: [String: String]) {
    self.owner = owner
    self.values = values
  }

  /// Reads `NAME[,key=value]…`.
  ///
  /// - Parameters:
  ///   - types: what there is, by name.
  ///   - kind: `method` or `rounding`, for refusals.
  ///   - rule: the rule of the refusal of a name that there is not.
  /// - Throws: `Refusal` with that rule or `method-option`.
  static func parse<Type>(
    _ text: String, of types: [(name: String, type: Type)], kind: String, rule: String
  ) throws -> (type: Type, options: MethodOptions) {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard let type = types.first(where: { $0.name == parts[0] }) else {
      throw Refusal(
        rule, "there is no \(kind) '\(parts[0])'",
        remedy: "\(kind)s: \(types.map(\.name).joined(separator: ", "))")
    }
    var options = MethodOptions(owner: "\(kind) '\(type.name)'", [:])
    for part in parts.dropFirst() {
      guard let mark = part.firstIndex(of: "="),
        options.values.updateValue(String(part[part.index(after: mark)...]), forKey: String(part[..<mark])) == nil
      else { throw options.refusal("'\(part)' is not one KEY=VALUE") }
    }
    return (type.type, options)
  }

  /// A refusal of what was given, with rule `method-option`.
  func refusal(_ message: String) -> Refusal { Refusal("method-option", "\(owner): \(message)") }

  /// Takes a text; nil where none is given.
  mutating func text(_ key: String) -> String? { values.removeValue(forKey: key) }

  /// Takes a number.
  ///
  /// - Throws: `Refusal` with rule `method-option` where it is none, or outside `range`.
  package mutating func number(_ key: String, in range: ClosedRange<Double>, default standard: Double) throws -> Double
  {
    guard let text = values.removeValue(forKey: key) else { return standard }
    guard let value = Double(text), range.contains(value) else {
      throw refusal("'\(key)' is '\(text)', not a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  /// Takes a switch: `true` or `false`.
  ///
  /// - Throws: `Refusal` with rule `method-option` where it is neither.
  package mutating func flag(_ key: String, default standard: Bool) throws -> Bool {
    guard let text = values.removeValue(forKey: key) else { return standard }
    guard let value = Bool(text) else { throw refusal("'\(key)' is '\(text)', not true or false") }
    return value
  }

  /// Takes one of some integers; nil where none is given.
  ///
  /// - Throws: `Refusal` with rule `method-option` where it is none of them.
  package mutating func choice(_ key: String, of integers: [Int]) throws -> Int? {
    guard let text = values.removeValue(forKey: key) else { return nil }
    guard let value = Int(text), integers.contains(value) else {
      throw refusal("'\(key)' is '\(text)', not one of \(integers.map { "\($0)" }.joined(separator: ", "))")
    }
    return value
  }

  /// Takes an integer.
  ///
  /// - Throws: `Refusal` with rule `method-option` where it is none, or outside `range`.
  package mutating func integer(_ key: String, in range: ClosedRange<Int>, default standard: Int) throws -> Int {
    guard let text = values.removeValue(forKey: key) else { return standard }
    guard let value = Int(text), range.contains(value) else {
      throw refusal("'\(key)' is '\(text)', not an integer from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  /// Takes one of the names of `Choice`.
  ///
  /// - Throws: `Refusal` with rule `method-option` where it is none of them.
  package mutating func choice<Choice: CaseIterable & RawRepresentable<String>>(
    _ key: String, default standard: Choice
  ) throws -> Choice {
    guard let text = values.removeValue(forKey: key) else { return standard }
    guard let value = Choice(rawValue: text) else {
      throw refusal("'\(key)' is '\(text)', not one of \(Choice.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return value
  }

  /// - Throws: `Refusal` with rule `method-option` for options that nobody took.
  func refuseRest() throws {
    guard let key = values.keys.min() else { return }
    throw refusal("it has no option '\(key)'")
  }
}
