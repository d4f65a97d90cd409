import OTPlatform

/// What the file system says of paths.
package enum FileSystem {
  /// The kinds of what a path leads to.
  package enum Kind: Sendable {
    case folder, file, symbolicLink, other
  }

  /// Opens a file, again where a signal has interrupted it, as slow file systems let it; negative with `errno` where it
  /// cannot be opened.
  static func descriptor(_ open: () -> Int32) -> Int32 {
    while true {
      let descriptor = open()
      if descriptor >= 0 || errno != EINTR { return descriptor }
    }
  }

  /// The kind of what is at `path` itself; nil where there is nothing.
  package static func kind(_ path: String) -> Kind? {
    var status = stat()
    return lstat(path, &status) == 0 ? kind(status) : nil
  }

  /// True where `path` is a folder, or leads to one.
  package static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && kind(status) == .folder
  }

  private static func kind(_ status: stat) -> Kind {
    switch status.st_mode & S_IFMT {
    case S_IFDIR: .folder
    case S_IFREG: .file
    case S_IFLNK: .symbolicLink
    default: .other
    }
  }

  /// The names in a folder, in no order, without `.` and `..`.
  ///
  /// - Throws: `Refusal` with rule `directory-unreadable`.
  package static func names(in folder: String) throws -> [String] {
    guard let stream = opendir(folder) else {
      throw Refusal("directory-unreadable", "cannot be listed: \(String(cString: strerror(errno)))", file: folder)
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  /// Creates a folder, and those above it that are not there.
  ///
  /// - Returns: false where one cannot be created.
  package static func createFolder(_ path: String) -> Bool {
    if mkdir(path, 0o777) == 0 || isFolder(path) { return true }
    let parent = path.parentPath
    guard errno == ENOENT, parent != path, createFolder(parent) else { return false }
    return mkdir(path, 0o777) == 0 || isFolder(path)
  }

  /// Gives each of two paths what is at the other, in one step.
  ///
  /// - Returns: false with `errno` where the system or the file system cannot.
  package static func exchange(_ one: String, _ other: String) -> Bool {
    #if canImport(Darwin)
      return renamex_np(one, other, UInt32(RENAME_SWAP)) == 0
    #else
      // RENAME_EXCHANGE; the C library's header shows the function to C alone.
      typealias Rename =
        @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32
      guard let symbol = dlsym(nil, "renameat2") else {
        errno = ENOSYS
        return false
      }
      return unsafeBitCast(symbol, to: Rename.self)(AT_FDCWD, one, AT_FDCWD, other, 2) == 0
    #endif
  }

  /// Makes the names in a folder durable.
  ///
  /// - Throws: `Refusal` with rule `output-sync-failed`.
  package static func synchronize(_ folder: String) throws {
    let descriptor = FileSystem.descriptor { open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard descriptor >= 0 else { throw unsynchronized(folder, errno) }
    defer { close(descriptor) }
    // Some file systems have no fsync of directories and say EINVAL.
    if fsync(descriptor) != 0, errno != EINVAL { throw unsynchronized(folder, errno) }
  }

  private static func unsynchronized(_ folder: String, _ code: Int32) -> Refusal {
    Refusal(
      "output-sync-failed", "cannot be made durable: \(String(cString: strerror(code)))", file: folder,
      remedy: "check the disk")
  }

  /// Free bytes of a folder's file system; nil when it does not say.
  package static func freeByteCount(in folder: String) -> Int? {
    var status = statvfs()
    guard statvfs(folder, &status) == 0 else { return nil }
    return Int(clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue)
  }

  /// The text of a small file, also of one whose size the system does not know; nil where it cannot be read or is no
  /// UTF-8.
  package static func text(of path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = fread(&part, 1, part.count, file)
      guard count > 0 else { break }
      bytes += part[..<count]
    }
    return ferror(file) == 0 ? String(validating: bytes, as: UTF8.self) : nil
  }
}
