import OTFoundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Texts that pipes give: each is read once, to its end, and kept.
enum TextStreams {
  private static let contents = Lock<[String: MappedFile]>([:])

  /// The name of standard input.
  private static let standardInput = "-"

  /// True for standard input, and for a pipe, socket or device.
  static func isStream(_ path: String) -> Bool {
    if path == standardInput { return true }
    var status = stat()
    guard stat(path, &status) == 0 else { return false }
    return [S_IFIFO, S_IFCHR, S_IFSOCK].contains(status.st_mode & S_IFMT)
  }

  /// All that a stream gives, whenever it is asked for.
  ///
  /// - Throws: `Refusal` with rule `file-unreadable`.
  static func content(of path: String) throws -> MappedFile {
    try contents.withLock { contents in
      if let known = contents[path] { return known }
      let content = try MappedFile(madeOf: bytes(of: path), path: path == standardInput ? "standard input" : path)
      contents[path] = content
      return content
    }
  }

  private static func bytes(of path: String) throws -> [UInt8] {
    func unreadable() -> Refusal {
      Refusal("file-unreadable", "cannot be read: \(String(cString: strerror(errno)))", file: path)
    }
    let descriptor = path == standardInput ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw unreadable() }
    defer { if descriptor != STDIN_FILENO { close(descriptor) } }
    var bytes: [UInt8] = []
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { block.deallocate() }
    while true {
      let count = Self.read(descriptor, block)
      guard count >= 0 else {
        if errno == EINTR { continue }
        throw unreadable()
      }
      guard count > 0 else { return bytes }
      bytes += block[..<count]
    }
  }

  private static func read(_ descriptor: Int32, _ block: UnsafeMutableRawBufferPointer) -> Int {
    #if canImport(Glibc)
      Glibc.read(descriptor, block.baseAddress, block.count)
    #elseif canImport(Musl)
      Musl.read(descriptor, block.baseAddress, block.count)
    #else
      Darwin.read(descriptor, block.baseAddress, block.count)
    #endif
  }
}
