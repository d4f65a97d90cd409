import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The identity of a file on disk, and its state: another size or time means that it changed.
package struct FileIdentity: Sendable, Hashable {
  /// Number of the file system.
  package let device: UInt64
  /// Number of the file in it.
  package let inode: UInt64
  /// Size in bytes.
  package let byteCount: Int
  /// Time of the last change, in seconds since 1970.
  package let modifiedSeconds: Int
  /// The rest of that time, in nanoseconds.
  package let modifiedNanoseconds: Int

  /// True when both are the same file, changed or not.
  package func isSameFile(as other: FileIdentity) -> Bool {
    device == other.device && inode == other.inode
  }

  /// That of bytes which are in no file: the same as no file's.
  init(madeOf byteCount: Int) {
    (device, inode, modifiedSeconds, modifiedNanoseconds) = (0, 0, 0, 0)
    self.byteCount = byteCount
  }

  init(_ status: stat) {
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
    byteCount = Int(status.st_size)
    #if canImport(Darwin)
      modifiedSeconds = status.st_mtimespec.tv_sec
      modifiedNanoseconds = status.st_mtimespec.tv_nsec
    #else
      modifiedSeconds = status.st_mtim.tv_sec
      modifiedNanoseconds = status.st_mtim.tv_nsec
    #endif
  }

  /// The identity of what `path` leads to, or nil when there is nothing.
  package init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    self.init(status)
  }

  /// Where the symbolic link at `path` leads, if that is nowhere; nil for all else.
  package static func deadLink(_ path: String) -> String? {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFLNK, FileIdentity(path: path) == nil else {
      return nil
    }
    return withUnsafeTemporaryAllocation(byteCount: Int(PATH_MAX), alignment: 1) { buffer in
      guard let base = buffer.baseAddress else { return "" }
      let count = readlink(path, base.assumingMemoryBound(to: CChar.self), buffer.count)
      return String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
    }
  }

  /// The identities of what there is at `paths`.
  package static func all(_ paths: [String?]) -> [FileIdentity] {
    paths.compactMap { $0.flatMap { FileIdentity(path: $0) } }
  }
}

/// A regular file mapped read-only into memory, or read into it whole where `isMapping` is false.
///
/// The owner of the mapping, and the one place where its bytes are unsafe.
/// If another process truncates a mapped file, or its disk fails, the system sends
/// the thread that touches its bytes SIGBUS, which no function can turn into an
/// error: `refusal(forFaultAt:)` is for a program that ends then. `verifyUnchanged()`
/// is called at the end of every long read.
package final class MappedFile: @unchecked Sendable {
  /// The path as it was given.
  package let path: String
  /// The file's identity when it was opened.
  package let identity: FileIdentity
  /// Negative where the bytes are of no file.
  private let descriptor: Int32
  private let base: UnsafeMutableRawPointer?
  /// True where the bytes are those of the file itself, which come and go with it.
  private let isMapped: Bool

  /// False: files that are opened from now on are read whole, with calls that tell of errors, and take as much memory.
  package static var isMapping: Bool {
    get { mapping.load(ordering: .relaxed) }
    set { mapping.store(newValue, ordering: .relaxed) }
  }

  private static let mapping = Atomic(true)

  /// The mappings that there are: first address → end, path.
  private static let places = Lock<[UInt: (end: UInt, path: String)]>([:])

  /// Alignment of bytes that were made, at least that of what lies in any file.
  private static let alignment = 64

  /// Size in bytes when it was opened.
  package var byteCount: Int { identity.byteCount }

  /// Opens and maps the file; symbolic links are followed.
  ///
  /// - Throws: `Refusal` with rule `file-missing`, `file-unreadable`,
  ///   `file-not-regular` or `file-unmappable`.
  package init(path: String) throws {
    self.path = path
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let descriptor = FileSystem.descriptor { open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
    guard descriptor >= 0 else {
      let code = errno
      if code == ENOENT, let target = FileIdentity.deadLink(path) {
        throw Refusal(
          "file-missing", "is a link to '\(target)', which is not there", file: path,
          remedy: "download the file that it leads to, or remove the link")
      }
      throw Refusal(
        code == ENOENT ? "file-missing" : "file-unreadable", "cannot be opened: \(String(cString: strerror(code)))",
        file: path)
    }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let reason = String(cString: strerror(errno))
      close(descriptor)
      throw Refusal("file-unreadable", "cannot be examined: \(reason)", file: path)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw Refusal("file-not-regular", "is a directory, device, pipe or socket, not a file", file: path)
    }
    identity = FileIdentity(status)
    isMapped = identity.byteCount > 0 && MappedFile.isMapping
    if identity.byteCount == 0 {
      base = nil
    } else if !isMapped {
      do {
        base = try MappedFile.read(descriptor, identity.byteCount, path)
      } catch {
        close(descriptor)
        throw error
      }
    } else {
      let mapping = mmap(nil, identity.byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0)
      guard let mapping, mapping != MAP_FAILED else {
        let reason = String(cString: strerror(errno))
        close(descriptor)
        throw Refusal("file-unmappable", "cannot be mapped: \(reason)", file: path)
      }
      base = mapping
      let start = UInt(bitPattern: mapping)
      let place = (end: start + UInt(identity.byteCount), path: path)
      MappedFile.places.withLock { $0[start] = place }
    }
    self.descriptor = descriptor
  }

  /// The whole file in memory.
  private static func read(_ descriptor: Int32, _ byteCount: Int, _ path: String) throws -> UnsafeMutableRawPointer {
    let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let memory, memory != MAP_FAILED else {
      throw Refusal(
        "file-unmappable", "there is no memory for its \(byteCount) bytes: \(String(cString: strerror(errno)))",
        file: path, remedy: "leave out --no-mmap")
    }
    do {
      try fill(UnsafeMutableRawBufferPointer(start: memory, count: byteCount), from: descriptor, at: 0, path)
    } catch {
      munmap(memory, byteCount)
      throw error
    }
    return memory
  }

  /// The refusal of the mapped file whose bytes at `address` could not be had; nil where they are of none.
  ///
  /// - Parameter byteCount: that were wanted from there on.
  package static func refusal(forFaultAt address: UInt, byteCount: Int = 1) -> Refusal? {
    let place = places.withLock { places in
      places.first { $0.key <= address && address < $0.value.end }.map { ($0.value.path, Int(address - $0.key)) }
    }
    guard let (path, byteOffset) = place else { return nil }
    if FileIdentity(path: path).map({ $0.byteCount < byteOffset + byteCount }) ?? false {
      return Refusal(
        "file-changed", "became shorter while it was read", file: path, byteOffset: byteOffset,
        remedy: "run again when nothing writes to it")
    }
    return Refusal(
      "file-unreadable", "cannot be read: its disk gives no bytes", file: path, byteOffset: byteOffset,
      remedy: "check the disk, or copy the file to another")
  }

  /// Bytes that were made and are in no file, under a path that says what of.
  ///
  /// - Throws: `Refusal` with rule `file-unmappable` when there is no memory for them.
  package init(madeOf content: [UInt8], path: String) throws {
    self.path = path
    isMapped = false
    descriptor = -1
    identity = FileIdentity(madeOf: content.count)
    guard !content.isEmpty else {
      base = nil
      return
    }
    var memory: UnsafeMutableRawPointer?
    // Not rounded up to pages, so that what checks addresses sees a read behind the end.
    let status = posix_memalign(&memory, MappedFile.alignment, content.count)
    guard status == 0, let memory else {
      throw Refusal("file-unmappable", "there is no memory for it: \(String(cString: strerror(status)))", file: path)
    }
    content.withUnsafeBytes { source in
      if let from = source.baseAddress { memory.copyMemory(from: from, byteCount: source.count) }
    }
    base = memory
  }

  deinit {
    guard descriptor >= 0 else { return free(base) }
    if let base, isMapped { _ = MappedFile.places.withLock { $0.removeValue(forKey: UInt(bitPattern: base)) } }
    if let base { munmap(base, identity.byteCount) }
    close(descriptor)
  }

  /// All bytes; valid as long as this object lives.
  package var bytes: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base, count: base == nil ? 0 : identity.byteCount)
  }

  /// The bytes of `range`.
  ///
  /// - Precondition: the range lies within the file.
  package func bytes(in range: Range<Int>) -> UnsafeRawBufferPointer {
    precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "range outside the file")
    return UnsafeRawBufferPointer(rebasing: bytes[range])
  }

  /// Copies bytes from the file with read calls, leaving the mapping untouched.
  ///
  /// - Throws: `Refusal` with rule `file-changed` when the file has become
  ///   shorter, `file-unreadable` when the system reports an error.
  package func read(at byteOffset: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
    guard descriptor >= 0 else {
      buffer.copyMemory(from: bytes(in: byteOffset..<byteOffset + buffer.count))
      return
    }
    try MappedFile.fill(buffer, from: descriptor, at: byteOffset, path)
  }

  private static func fill(
    _ buffer: UnsafeMutableRawBufferPointer, from descriptor: Int32, at byteOffset: Int, _ path: String
  ) throws {
    var done = 0
    while done < buffer.count {
      let count = pread(descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done, off_t(byteOffset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw Refusal(
          "file-unreadable", "cannot be read: \(String(cString: strerror(errno)))", file: path,
          byteOffset: byteOffset + done)
      }
      guard count > 0 else {
        throw Refusal("file-changed", "became shorter while it was read", file: path, byteOffset: byteOffset + done)
      }
      done += count
    }
  }

  /// Lets the system drop the pages wholly inside `range` from this process's
  /// memory; they are read again when touched.
  package func release(_ range: Range<Int>) {
    // Memory that is not the file's would be zeros when it is touched again.
    guard let base, isMapped else { return }
    let pageSize = sysconf(Int32(_SC_PAGESIZE))
    let start = range.lowerBound.roundedUp(toMultipleOf: pageSize)
    let end = range.upperBound == byteCount ? byteCount : range.upperBound / pageSize * pageSize
    if start < end { madvise(base + start, end - start, MADV_DONTNEED) }
  }

  /// - Throws: `Refusal` with rule `file-changed` when size or modification
  ///   time differ from those at opening.
  package func verifyUnchanged() throws {
    guard descriptor >= 0 else { return }
    var status = stat()
    guard fstat(descriptor, &status) == 0, FileIdentity(status) == identity,
      FileIdentity(path: path) == identity
    else {
      throw Refusal(
        "file-changed", "changed while it was read", file: path, remedy: "run again when nothing writes to it")
    }
  }
}
