#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file for values that are computed before they can be written and would take too much memory until then: without a
/// name, and gone with the process, however it ends; or one that stays, for a work that is to go on later.
///
/// One thread appends; any number read what has been appended.
package final class ScratchFile: Sendable {
  private let descriptor: Int32
  private let folder: String

  /// A file in `folder`.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package init(in folder: String) throws {
    var template = Array("\(folder)/.otq-scratch.XXXXXX".utf8CString)
    let descriptor = FileSystem.descriptor { mkstemp(&template) }
    guard descriptor >= 0 else { throw ScratchFile.refusal(errno, folder) }
    unlink(template)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    self.descriptor = descriptor
    self.folder = folder
  }

  /// The file at `path`, with what it has; it stays when the process ends.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package init(keptAt path: String) throws {
    let descriptor = FileSystem.descriptor { open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666) }
    guard descriptor >= 0 else { throw ScratchFile.refusal(errno, path) }
    self.descriptor = descriptor
    folder = path
  }

  deinit {
    // A process that another thread begins to start has the file, too, until it is that other program.
    flock(descriptor, LOCK_UN)
    close(descriptor)
  }

  /// Its bytes.
  package var byteCount: Int {
    var status = stat()
    return fstat(descriptor, &status) == 0 ? Int(status.st_size) : 0
  }

  /// False where another process holds the file; true also where the file system has no locks.
  package func lock() -> Bool { flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK }

  /// Makes what was written durable.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`; what was written is lost then, and stays so.
  package func synchronize() throws {
    guard fsync(descriptor) == 0 else { throw ScratchFile.refusal(errno, folder) }
  }

  /// Leaves out the bytes behind a size.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package func truncate(to size: Int) throws {
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw ScratchFile.refusal(errno, folder) }
  }

  /// Writes bytes from `offset` on.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    var done = 0
    while done < bytes.count {
      let count = pwrite(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw ScratchFile.refusal(count < 0 ? errno : ENOSPC, folder) }
      done += count
    }
  }

  /// Bytes that were written.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable` where they cannot be had.
  package func read(_ range: Range<Int>) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: range.count) { buffer, initializedCount in
      try read(into: UnsafeMutableRawBufferPointer(buffer), at: range.lowerBound)
      initializedCount = range.count
    }
  }

  /// Fills memory with bytes that were written from `offset` on.
  ///
  /// - Throws: as `read(_:)`.
  package func read(into target: UnsafeMutableRawBufferPointer, at offset: Int) throws {
    var done = 0
    while done < target.count {
      let count = pread(descriptor, target.baseAddress.map { $0 + done }, target.count - done, off_t(offset + done))
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw ScratchFile.refusal(count < 0 ? errno : EIO, folder) }
      done += count
    }
  }

  private static func refusal(_ code: Int32, _ folder: String) -> Refusal {
    Refusal(
      "scratch-unwritable", "a file for intermediate values cannot be kept there: \(String(cString: strerror(code)))",
      file: folder, remedy: "free some space, or write the output elsewhere")
  }
}
