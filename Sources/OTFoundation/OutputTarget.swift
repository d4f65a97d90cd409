#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The place of a file to write: a directory and a name in it.
package struct OutputTarget: ~Copyable {
  /// Equal for two targets exactly if they are one file, whatever paths lead to it.
  package struct Key: Hashable {
    private let device: UInt64
    private let inode: UInt64
    private let name: [UInt8]

    fileprivate init(_ directory: FileIdentity, _ name: String) {
      (device, inode, self.name) = (directory.device, directory.inode, Array(name.utf8))
    }
  }

  /// The path as it was given.
  package let path: String
  /// The path of the directory.
  package let parent: String
  /// The file's name in it.
  package let name: String
  /// Held open, so that neither a change of the working directory nor one of
  /// the parent's name sends the file elsewhere.
  let directory: Int32

  /// Opens the directory of a file.
  ///
  /// - Throws: `Refusal` with rule `output-not-regular`, `output-no-parent` or `output-unwritable`.
  package init(path: String) throws {
    let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let name = slash.map { String(path[path.utf8.index(after: $0)...]) } ?? path
    let parent = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard !path.isEmpty else {
      throw Refusal("output-not-regular", "has an empty name", file: "the output", remedy: "give the name of a file")
    }
    guard path != "-" else {
      throw Refusal(
        "output-not-regular", "is not the name of a file: a file is written whole, never to a stream", file: path,
        remedy: "give the name of a file")
    }
    guard !name.isEmpty, name != ".", name != ".." else {
      throw Refusal(
        "output-not-regular", "is the name of a directory", file: path, remedy: "give the name of a file")
    }
    let directory = FileSystem.descriptor { open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard directory >= 0 else {
      let isMissing = errno == ENOENT || errno == ENOTDIR
      throw Refusal(
        isMissing ? "output-no-parent" : "output-unwritable",
        "its directory '\(parent)' cannot be opened: \(String(cString: strerror(errno)))",
        file: path, remedy: isMissing ? "create the directory first" : nil)
    }
    (self.path, self.parent, self.name, self.directory) = (path, parent, name, directory)
  }

  deinit { close(directory) }

  /// Checks that the file can be written there.
  ///
  /// - Throws: `Refusal` with rule `output-is-input`, `output-exists`,
  ///   `output-not-regular` or `output-unwritable`.
  package func check(force: Bool, inputs: [FileIdentity]) throws {
    if let found = FileIdentity(path: path), inputs.contains(where: found.isSameFile) {
      throw Refusal(
        "output-is-input", "is one of the files being read", file: path,
        remedy: "choose another output")
    }
    guard faccessat(directory, ".", W_OK, 0) == 0 else { throw unwritable(code: errno) }
    var status = stat()
    // Not followed: a link that leads nowhere also is something that exists.
    guard fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
      if errno == ENOENT { return }
      throw unwritable(code: errno)
    }
    let isLink = status.st_mode & S_IFMT == S_IFLNK
    // Of a link, what it leads to decides: to replace a link to a pipe would send nothing through it.
    if isLink, fstatat(directory, name, &status, 0) != 0 { status.st_mode = S_IFREG }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw Refusal(
        "output-not-regular",
        isLink
          ? "is a link to a directory, device, pipe or socket, not to a file"
          : "is a directory, device, pipe or socket, not a file", file: path, remedy: "choose another output")
    }
    if !force { throw existsRefusal }
  }

  /// The key that tells it apart from other targets.
  ///
  /// - Throws: `Refusal` with rule `output-unwritable`.
  package var key: Key {
    get throws {
      var status = stat()
      guard fstat(directory, &status) == 0 else { throw unwritable(code: errno) }
      return Key(FileIdentity(status), name)
    }
  }

  var existsRefusal: Refusal {
    Refusal("output-exists", "exists already", file: path, remedy: "use --force to replace it")
  }

  func unwritable(code: Int32) -> Refusal {
    Refusal(
      "output-unwritable", "no file can be created there: \(String(cString: strerror(code)))", file: path)
  }
}
