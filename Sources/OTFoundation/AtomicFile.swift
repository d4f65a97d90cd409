#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file that appears whole under its name, or not at all.
///
/// Bytes go to a temporary file beside the target, `.NAME.PID.RANDOM.partial`;
/// `commit()` makes them durable and renames it. A reader of the target sees
/// what was there before or the complete new file. Two writers of one target
/// never share a temporary file: the last to commit wins with `force`, the
/// first without. An object that is dropped before `commit()`, or that has met
/// an error, removes its temporary file and leaves the target as it was.
///
/// A target that is a symbolic link is replaced itself, not what it leads to.
/// The temporary file stays behind only when the process is killed, until the
/// next writer of the target. Not safe to use from several threads at once.
package final class AtomicFile {
  /// The target's path, as it was given.
  package let path: String
  /// Bytes appended so far: the position of the next `append`.
  package private(set) var byteCount = 0
  /// Path of the file that receives the bytes until `commit()`.
  package let temporaryPath: String

  private let target: OutputTarget
  private let temporary: TemporaryFile
  private let replacesTarget: Bool
  private var descriptor: Int32
  private var isOpen = true
  /// Bytes that the system was asked to write out.
  private var startedByteCount = 0

  /// Creates the temporary file.
  ///
  /// - Parameters:
  ///   - force: whether an existing target is replaced.
  ///   - inputs: files that must not be overwritten, `force` or not.
  ///   - keptName: of the temporary file, relative to the target's folder, where it is to stay if it is not committed;
  ///     bytes that it has are written over, unless they are adopted. Nil: one of its own, which goes.
  /// - Throws: `Refusal` with rule `output-no-parent`, `output-is-input`,
  ///   `output-exists`, `output-not-regular` or `output-unwritable`.
  package init(path: String, force: Bool = false, inputs: [FileIdentity] = [], keptAs keptName: String? = nil) throws {
    let target = try OutputTarget(path: path)
    try target.check(force: force, inputs: inputs)
    // Properties are set last: deinit runs for an initializer that throws later than that.
    let (temporary, descriptor) =
      if let keptName { try TemporaryFile.keep(keptName, for: target) } else { try TemporaryFile.create(for: target) }
    self.path = path
    temporaryPath = target.parent == "/" ? "/\(temporary.name)" : "\(target.parent)/\(temporary.name)"
    replacesTarget = force
    self.temporary = temporary
    self.descriptor = descriptor
    self.target = target
  }

  deinit { abort() }

  /// Checks that files can be written to `paths`, for a caller that has much to do
  /// before writing; nothing is created.
  ///
  /// - Throws: as `init`; `Refusal` with rule `output-twice` where two paths lead to one file.
  package static func check(_ paths: [String], force: Bool, inputs: [FileIdentity]) throws {
    var keys: Set<OutputTarget.Key> = []
    for path in paths {
      let target = try OutputTarget(path: path)
      try target.check(force: force, inputs: inputs)
      guard keys.insert(try target.key).inserted else {
        throw Refusal(
          "output-twice", "two outputs would be written to it", file: path, remedy: "choose another name for one")
      }
    }
  }

  /// Removes the temporary files of all objects and ends the process, as when a
  /// signal asks for it; meanwhile no other can be created or get its name.
  package static func removeAll(andEndBy end: () -> Never) -> Never { TemporaryFile.removeAll(andEndBy: end) }

  /// Writes `bytes` behind everything appended so far.
  ///
  /// - Throws: `Refusal` with rule `output-write-failed`, after which the
  ///   temporary file is gone.
  package func append(_ bytes: UnsafeRawBufferPointer) throws {
    try writeAll(bytes, at: byteCount)
    byteCount += bytes.count
    startWriting()
  }

  /// Lets the system begin with what was appended, so that `commit()` has little to wait for.
  private func startWriting() {
    #if os(Linux)
      guard byteCount - startedByteCount >= AtomicFile.startByteCount else { return }
      // Linux begins to write dirty pages that it is told will not be needed.
      // A hint: its errors are those that the final fsync reports.
      _ = posix_fadvise(
        descriptor, off_t(startedByteCount), off_t(byteCount - startedByteCount), POSIX_FADV_DONTNEED)
      startedByteCount = byteCount
    #endif
  }

  /// Bytes that are handed to the disk at a time.
  private static let startByteCount = 8 << 20

  /// Writes `bytes` behind everything appended so far.
  ///
  /// - Throws: as `append(_:)` of a buffer.
  package func append(_ bytes: some Collection<UInt8>) throws {
    if let result = try bytes.withContiguousStorageIfAvailable({
      try append(UnsafeRawBufferPointer($0))
    }) {
      return result
    }
    try Array(bytes).withUnsafeBytes { try append($0) }
  }

  /// Appends zeros up to a size, for bytes that come in another order than that of the file.
  ///
  /// - Precondition: no more has been appended.
  /// - Throws: as `append(_:)`.
  package func extend(to size: Int) throws {
    precondition(isOpen && size >= byteCount, "a file is not shortened")
    guard ftruncate(descriptor, off_t(size)) == 0 else {
      throw failed("output-write-failed", "extended to \(size) bytes", code: errno)
    }
    byteCount = size
  }

  /// Takes back the bytes behind a size, to append others in their place.
  ///
  /// - Precondition: no mapping of the temporary file is read afterwards.
  /// - Throws: as `append(_:)`.
  package func truncate(to size: Int) throws {
    precondition(isOpen && size >= 0 && size <= byteCount, "a file is not lengthened")
    guard ftruncate(descriptor, off_t(size)) == 0 else {
      throw failed("output-write-failed", "shortened to \(size) bytes", code: errno)
    }
    byteCount = size
    startedByteCount = min(startedByteCount, size)
  }

  /// Takes the bytes that the kept file has up to a size as if they had been appended.
  ///
  /// - Precondition: it has as many.
  package func adopt(to size: Int) {
    precondition(temporary.isKept && size >= byteCount, "only what an earlier writer has kept is adopted")
    byteCount = size
    startedByteCount = size
  }

  /// Makes what was appended so far durable.
  ///
  /// - Throws: `Refusal` with rule `output-sync-failed`, which is final: see `commit`.
  package func synchronize() throws {
    let code = synchronize(descriptor)
    if code != 0 { throw failed("output-sync-failed", "made durable", code: code) }
  }

  /// Replaces bytes that were appended earlier.
  ///
  /// - Precondition: `byteOffset ..< byteOffset + bytes.count` has been appended.
  /// - Throws: as `append(_:)`.
  package func write(_ bytes: UnsafeRawBufferPointer, at byteOffset: Int) throws {
    precondition(
      byteOffset >= 0 && byteOffset <= byteCount && bytes.count <= byteCount - byteOffset,
      "only bytes that were appended can be replaced")
    try writeAll(bytes, at: byteOffset)
  }

  /// Makes the bytes durable and gives them the target's name.
  ///
  /// - Parameter willName: is given the identity that the file will have under its name; what it throws leaves the
  ///   target as it is.
  /// - Throws: `Refusal` with rule `output-sync-failed`, `output-rename-failed`
  ///   or, without `force`, `output-exists` when the target has come into being
  ///   meanwhile. The target is as before, except when only the directory
  ///   could not be synchronized.
  package func commit(_ willName: ((FileIdentity) throws -> Void)? = nil) throws {
    precondition(isOpen, "a file that was committed, aborted or met an error cannot be committed")
    // A failed fsync is final: the system has marked the pages clean, and a
    // second call would report success without having written them.
    let syncCode = synchronize(descriptor)
    if syncCode != 0 { throw failed("output-sync-failed", "made durable", code: syncCode) }
    var status = stat()
    if let willName, fstat(descriptor, &status) == 0 { try willName(FileIdentity(status)) }
    let closeCode = close(descriptor) == 0 ? 0 : errno
    descriptor = -1
    // EINTR from close leaves the descriptor closed, and the data are synchronized.
    if closeCode != 0 && closeCode != EINTR {
      throw failed("output-sync-failed", "closed", code: closeCode)
    }
    let renameCode = temporary.end(rename)
    if renameCode != 0 {
      let failure = failed("output-rename-failed", "given its name", code: renameCode)
      throw renameCode == EEXIST ? target.existsRefusal : failure
    }
    isOpen = false
    let directoryCode = synchronize(target.directory)
    // Some file systems have no fsync of directories and say EINVAL.
    if directoryCode != 0 && directoryCode != EINVAL {
      let reason = String(cString: strerror(directoryCode))
      throw Refusal(
        "output-sync-failed", "is complete, but its directory cannot be made durable: \(reason)",
        file: path, remedy: "check the disk and run again with --force")
    }
  }

  /// Removes the temporary file; does nothing after `commit()` or an error.
  package func abort() {
    guard isOpen else { return }
    isOpen = false
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
    temporary.remove()
  }

  private func writeAll(_ bytes: UnsafeRawBufferPointer, at byteOffset: Int) throws {
    precondition(isOpen, "a file that was committed, aborted or met an error cannot be written")
    guard let base = bytes.baseAddress else { return }
    var done = 0
    while done < bytes.count {
      // 2^30: Darwin refuses single writes of 2^31 bytes and more.
      let count = pwrite(
        descriptor, base + done, min(bytes.count - done, 1 << 30), off_t(byteOffset + done))
      if count <= 0 {
        let code = count == 0 ? ENOSPC : errno
        if code == EINTR { continue }
        // The bytes are of a mapped file, which was cut or cannot be read.
        if code == EFAULT, let base = bytes.baseAddress,
          let refusal = MappedFile.refusal(forFaultAt: UInt(bitPattern: base + done), byteCount: bytes.count - done)
        {
          abort()
          throw refusal
        }
        throw failed(
          "output-write-failed",
          "written (\(bytes.count - done) bytes at byte \(byteOffset + done))", code: code,
          remedy: code == ENOSPC || code == EDQUOT || code == EFBIG
            ? "free some space or write to another disk" : nil)
      }
      done += count
    }
  }

  /// The refusal for the error of number `code`; removes the temporary file.
  private func failed(
    _ rule: String, _ verb: String, code: Int32, remedy: String? = nil
  ) -> Refusal {
    abort()
    let reason = String(cString: strerror(code))
    return Refusal(rule, "cannot be \(verb): \(reason)", file: path, remedy: remedy)
  }

  /// 0 or the error's number.
  private func synchronize(_ descriptor: Int32) -> Int32 {
    #if canImport(Darwin)
      // Darwin's fsync stops at the drive's cache.
      if fcntl(descriptor, F_FULLFSYNC) == 0 { return 0 }
    #endif
    return fsync(descriptor) == 0 ? 0 : errno
  }

  /// Gives the temporary file the target's name; 0 or the error's number.
  private func rename() -> Int32 {
    let (directory, name) = (target.directory, target.name)
    if !replacesTarget {
      // A link, because that fails where the name is taken: checking before
      // renaming would let two writers both believe that the target is free.
      if linkat(directory, temporary.name, directory, name, 0) == 0 {
        unlinkat(directory, temporary.name, 0)
        return 0
      }
      let code = errno
      // Some file systems have no hard links; there checking has to do.
      let hasNoLinks = code == EPERM || code == ENOTSUP || code == ENOSYS || code == EINVAL
      guard hasNoLinks else { return code }
      if faccessat(directory, name, F_OK, 0) == 0 { return EEXIST }
    }
    return renameat(directory, temporary.name, directory, name) == 0 ? 0 : errno
  }
}
