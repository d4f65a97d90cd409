import OTFoundation

/// A piece of HTML, SVG or XML that is well-formed by construction: text gets
/// into it escaped, and elements are closed.
package struct Markup: Sendable {
  /// The piece as it is written.
  package private(set) var text: String

  /// Text; the literal and all that is interpolated into it are escaped.
  package init(_ text: String) { self.text = Markup.escaped(text) }

  private init(raw: String) { text = raw }

  /// Nothing.
  package static let empty = Markup(raw: "")

  /// An element. Names are this program's own; values of attributes are escaped.
  package static func element(
    _ name: StaticString, _ attributes: KeyValuePairs<StaticString, String> = [:], _ children: Markup...
  ) -> Markup {
    element(name, attributes, children)
  }

  /// An element with a list of children.
  package static func element(
    _ name: StaticString, _ attributes: KeyValuePairs<StaticString, String> = [:], _ children: [Markup]
  ) -> Markup {
    var text = "<\(name)"
    for (key, value) in attributes { text += " \(key)=\"\(escaped(value))\"" }
    text += ">"
    for child in children { text += child.text }
    return Markup(raw: text + "</\(name)>")
  }

  /// An element without content, such as `meta`.
  package static func void(_ name: StaticString, _ attributes: KeyValuePairs<StaticString, String> = [:]) -> Markup {
    var text = "<\(name)"
    for (key, value) in attributes { text += " \(key)=\"\(escaped(value))\"" }
    return Markup(raw: text + " />")
  }

  /// A style sheet, which is this program's own.
  package static func style(_ sheet: StaticString) -> Markup { Markup(raw: "<style>\(sheet)</style>") }

  /// Pieces one after the other, a line each.
  package static func lines(_ pieces: [Markup]) -> Markup {
    Markup(raw: pieces.map(\.text).filter { !$0.isEmpty }.joined(separator: "\n"))
  }

  /// One piece after another.
  package static func + (first: Markup, second: Markup) -> Markup { Markup(raw: first.text + second.text) }
}

extension Markup: ExpressibleByStringInterpolation {
  /// Text, escaped.
  package init(stringLiteral text: String) { self.init(text) }
}

extension Markup {
  /// `text` as character data or as the value of a quoted attribute.
  ///
  /// The five characters of markup become entities. What XML 1.0 cannot hold,
  /// control characters and the noncharacters U+FFFE and U+FFFF, becomes an
  /// escape that can be read, and so do the marks that turn the direction of
  /// text, lest a name shows in another order than it has.
  static func escaped(_ text: String) -> String {
    var result = ""
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      case "\n": result += "&#10;"
      case _ where isUnwelcome(scalar): result += scalar.escaped(asASCII: true)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func isUnwelcome(_ scalar: Unicode.Scalar) -> Bool {
    let value = scalar.value
    return PrintableName.isControl(scalar) || value & 0xFFFE == 0xFFFE
      || [0x061C, 0x200E, 0x200F].contains(value) || (0x202A...0x202E).contains(value)
      || (0x2066...0x2069).contains(value)
  }
}
