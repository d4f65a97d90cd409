/// The one rule for names in files, for all who read or write them: a name that one of our writers
/// takes can be read again.
package enum PrintableName {
  /// The most bytes of a name in UTF-8.
  package static let maximumByteCount = 4096

  /// True for U+0000 to U+001F and U+007F to U+009F, which could break a line or drive a terminal.
  package static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
  }

  /// The fault of a name, to stand behind a subject; nil where it has none.
  package static func fault(of name: String) -> String? {
    if name.isEmpty { return "is empty" }
    if name.utf8.count > maximumByteCount { return "is longer than \(maximumByteCount) bytes" }
    return name.unicodeScalars.contains(where: isControl) ? "contains a control character" : nil
  }
}
