/// Why an input was refused: one struct for every boundary of the package.
///
/// A refusal names what a person needs to find the fault: the file, the
/// tensor, the place in bytes, the rule that was broken and, where something
/// can be done, what to do.
public struct Refusal: Error, Sendable, Equatable {
  /// The rule that was broken, in kebab case: `safetensors-hole`. Stable.
  public let rule: String
  /// The fault in words, without the file's name.
  public let message: String
  /// Path of the offending file, as the user gave it.
  public var file: String?
  /// Name of the offending tensor.
  public var tensor: String?
  /// Position in the file, in bytes from its start.
  public var byteOffset: Int?
  /// A remedy: something the user can do about it.
  public var remedy: String?

  /// A refusal; a caller that knows more adds it.
  public init(
    _ rule: String, _ message: String, file: String? = nil,
    tensor: String? = nil, byteOffset: Int? = nil, remedy: String? = nil
  ) {
    self.rule = rule
    self.message = message
    self.file = file
    self.tensor = tensor
    self.byteOffset = byteOffset
    self.remedy = remedy
  }
}

extension Refusal {
  /// Gives what `body` gives; a refusal that names no file names `file` when it leaves.
  public static func naming<Result>(_ file: String?, _ body: () throws -> Result) rethrows -> Result {
    do {
      return try body()
    } catch var refusal as Refusal where refusal.file == nil {
      refusal.file = file
      throw refusal
    }
  }
}

extension Refusal: CustomStringConvertible {
  /// One line, control characters escaped:
  /// `FILE: tensor 'T': byte 12: MESSAGE [RULE]; REMEDY`.
  public var description: String {
    var parts: [String] = []
    if let file { parts.append(file) }
    if let tensor { parts.append("tensor '\(tensor)'") }
    if let byteOffset { parts.append("byte \(byteOffset)") }
    parts.append("\(message) [\(rule)]")
    var line = parts.joined(separator: ": ")
    if let remedy { line += "; \(remedy)" }
    return Refusal.printable(line)
  }

  /// Escapes control characters, so that a name from an untrusted file can
  /// neither break the line nor drive the terminal.
  public static func printable(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      result += PrintableName.isControl(scalar) ? scalar.escaped(asASCII: true) : String(scalar)
    }
    return result
  }
}
