import OTPlatform

// Paths as they were given: nothing is looked up, no dots are taken out.

/// Folders that the system has.
package enum SystemFolder {
  /// The folder for temporary files: that of the environment's `TMPDIR`, else `/tmp`.
  package static var temporary: String {
    guard let path = getenv("TMPDIR"), path.pointee != 0 else { return "/tmp" }
    return String(cString: path)
  }
}

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

  /// This path from the root on, whatever the current folder is later.
  package var absolutePath: String {
    guard !hasPrefix("/"), let folder = getcwd(nil, 0) else { return self }
    defer { free(folder) }
    return String(cString: folder).appendingPathComponent(self)
  }

  /// The name of the folder or file that it leads to, `.` and `..` at its end looked up.
  package var resolvedName: String {
    let name = lastPathComponent
    guard name == "." || name == "..", let found = realpath(self, nil) else { return name }
    defer { free(found) }
    return String(cString: found).lastPathComponent
  }
}
