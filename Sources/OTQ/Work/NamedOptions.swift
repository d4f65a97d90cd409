import OTFoundation

/// Faults of options, whose names are those of the command.
package enum OptionFault {
  /// - Throws: `Refusal` with rule `option-value` where `isWrong`.
  package static func refuse(_ isWrong: Bool, value message: @autoclosure () -> String) throws(Refusal) {
    if isWrong { throw Refusal("option-value", message()) }
  }

  /// - Throws: `Refusal` with rule `option-conflict` where `isWrong`.
  package static func refuse(_ isWrong: Bool, conflict message: @autoclosure () -> String) throws(Refusal) {
    if isWrong { throw Refusal("option-conflict", message()) }
  }

  /// - Throws: `Refusal` with rule `option-value` for a number of threads that nobody means.
  package static func checkThreads(_ count: Int?) throws(Refusal) {
    try refuse(count.map { !(1...1024).contains($0) } ?? false, value: "--threads must be 1 to 1024")
  }
}

/// Options by the names that the command `otconvert` gives them, without the dashes in front.
///
/// They are taken out one by one; what is left in the end has no meaning.
package struct NamedOptions {
  private var values: [String: [String]]

  /// Options; a flag that is set has no value.
  package init(_ values: [String: [String]]) { self.values = values }

  /// A flag.
  package mutating func flag(_ name: String) throws(Refusal) -> Bool {
    guard let given = values.removeValue(forKey: name) else { return false }
    try OptionFault.refuse(!given.isEmpty, value: "--\(name) is a flag, and has no value")
    return true
  }

  /// The values of an option that may have several.
  package mutating func texts(_ name: String) throws(Refusal) -> [String] {
    guard let given = values.removeValue(forKey: name) else { return [] }
    try OptionFault.refuse(given.isEmpty, value: "--\(name) needs a value")
    return given
  }

  /// The value of an option.
  package mutating func text(_ name: String) throws(Refusal) -> String? {
    let given = try texts(name)
    try OptionFault.refuse(given.count > 1, value: "--\(name) has one value")
    return given.first
  }

  /// The paths of an option that may have several; standard input is none.
  package mutating func paths(_ name: String) throws(Refusal) -> [String] {
    let given = try texts(name)
    try OptionFault.refuse(given.contains("-"), value: "--\(name) takes files, not the standard input")
    return given
  }

  /// The value of an option, read by `read`, which gives nil for what it cannot read.
  package mutating func value<Value>(
    _ name: String, _ what: @autoclosure () -> String, _ read: (String) -> Value?
  ) throws(Refusal) -> Value? {
    guard let text = try text(name) else { return nil }
    guard let value = read(text) else { throw Refusal("option-value", "--\(name) '\(text)' is not \(what())") }
    return value
  }

  /// A whole number.
  package mutating func integer(_ name: String) throws(Refusal) -> Int? {
    try value(name, "a whole number", { Int($0) })
  }

  /// The number of threads; nil: not given.
  package mutating func threadCount() throws(Refusal) -> Int? {
    let count = try integer("threads")
    try OptionFault.checkThreads(count)
    return count
  }

  /// One of a set of names.
  package mutating func choice<Choice: RawRepresentable & CaseIterable>(
    _ name: String, _ type: Choice.Type
  ) throws(Refusal) -> Choice? where Choice.RawValue == String {
    try value(name, Choice.allCases.map(\.rawValue).joined(separator: ", "), { Choice(rawValue: $0) })
  }

  /// - Throws: `Refusal` with rule `option-unknown` where an option is left.
  package func finish() throws(Refusal) {
    guard let name = values.keys.min() else { return }
    throw Refusal("option-unknown", "there is no option --\(name) here", remedy: "see 'otconvert --help'")
  }

  /// The text of options to draw samples from.
  package mutating func sampledText(_ defaults: SampledText) throws(Refusal) -> SampledText {
    var text = defaults
    text.paths = try paths("text")
    text.field = try self.text("text-field") ?? defaults.field
    text.ids = try self.text("ids")
    text.tensor = try self.text("tensor")
    text.sampleCount = try integer("samples") ?? defaults.sampleCount
    text.length = try integer("length")
    text.seed = try value("seed", "a whole number of at least 0", { UInt64($0) }) ?? 0
    return text
  }
}
