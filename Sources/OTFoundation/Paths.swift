// Paths as they were given: nothing is looked up, no dots are taken out.

extension String {
  /// This path of a folder, a slash, and `component`.
  package func appendingPathComponent(_ component: String) -> String {
    hasSuffix("/") ? self + component : "\(self)/\(component)"
  }

  /// The path up to its last slash, `.` when there is none.
  package var parentPath: String {
    guard let slash = utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == startIndex ? "/" : String(self[..<slash])
  }

  /// The path behind its last slash; slashes at its end do not count.
  package var lastPathComponent: String {
    utf8.split(separator: UInt8(ascii: "/")).last.map { String(Substring($0)) } ?? self
  }
}
