import OTFoundation
import OTText

extension TextFile {
  /// The texts of all lines: results have the lines' places, so that none is left out.
  ///
  /// - Parameter rule: that of a refusal of an empty line, or of a file without text.
  /// - Throws: `Refusal` with that rule, or as reading lines throws.
  func texts(emptyRule rule: String) throws -> [String] {
    var texts: [String] = []
    try forEachLine { line in
      guard let text = try text(of: line), text.contains(where: { !$0.isWhitespace }) else {
        throw Refusal(rule, "line \(line.number) is empty", file: file.path)
      }
      texts.append(text)
      return true
    }
    guard !texts.isEmpty else { throw Refusal(rule, "holds no text", file: file.path) }
    return texts
  }
}
