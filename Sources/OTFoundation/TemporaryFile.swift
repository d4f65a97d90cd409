#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The file beside a target that receives its bytes: `.NAME.PID.RANDOM.partial`.
///
/// All that exist are known to the process, so that they can be removed when a
/// signal ends it. What a process left that could not do so, the next writer
/// of the same target removes: its writer's lock is gone with the writer.
struct TemporaryFile: Hashable {
  let name: String
  /// Of the target, which closes it.
  let directory: Int32
  /// True where it stays when its writing ends early, to be gone on with.
  var isKept = false

  /// Longer names are cut, so that the whole stays below 255 bytes.
  private static let longestStem = 200
  private static let suffix = "partial"
  /// Those that exist now; a caller that makes or ends one holds the lock.
  private static let existing = Lock<Set<TemporaryFile>>([])

  /// Creates a file for `target`.
  ///
  /// - Throws: `Refusal` with rule `output-unwritable`.
  static func create(for target: borrowing OutputTarget) throws -> (file: TemporaryFile, descriptor: Int32) {
    let (name, directory) = (target.name, target.directory)
    let isWhole = name.utf8.count <= longestStem
    // 48 scalars take at most 192 bytes.
    let stem = isWhole ? ".\(name)." : ".\(String(String.UnicodeScalarView(name.unicodeScalars.prefix(48))))."
    let random = String(UInt64.random(in: .min ... .max), radix: 36)
    let file = TemporaryFile(name: "\(stem)\(getpid()).\(random).\(suffix)", directory: directory)
    let (descriptor, code) = existing.withLock { files in
      // The owner of a name that was cut is unknown.
      if isWhole { removeStrays(stem, directory) }
      let descriptor = FileSystem.descriptor {
        openat(directory, file.name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      }
      guard descriptor >= 0 else { return (descriptor, errno) }
      // Says that its writer lives. Some file systems have no locks.
      _ = flock(descriptor, LOCK_EX | LOCK_NB)
      files.insert(file)
      return (descriptor, 0)
    }
    guard descriptor >= 0 else { throw target.unwritable(code: code) }
    return (file, descriptor)
  }

  /// Opens the file of a writer that may have ended early, or creates it, and keeps it however this one ends.
  ///
  /// - Parameter name: relative to the target's directory.
  /// - Throws: `Refusal` with rule `output-unwritable`.
  static func keep(
    _ name: String, for target: borrowing OutputTarget
  ) throws -> (file: TemporaryFile, descriptor: Int32) {
    let directory = target.directory
    let descriptor = FileSystem.descriptor {
      openat(directory, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o666)
    }
    guard descriptor >= 0 else { throw target.unwritable(code: errno) }
    return (TemporaryFile(name: name, directory: target.directory, isKept: true), descriptor)
  }

  /// Removes the file, unless it is kept.
  func remove() {
    if isKept { return }
    _ = end {
      unlinkat(directory, name, 0)
      return 0
    }
  }

  /// Does what ends the file, and gives back 0 or the number of an error, after which it is still there.
  func end(_ body: () -> Int32) -> Int32 {
    Self.existing.withLock { files in
      let code = body()
      if code == 0 { files.remove(self) }
      return code
    }
  }

  /// Removes all files and ends the process; meanwhile none comes into being.
  static func removeAll(andEndBy end: () -> Never) -> Never {
    existing.withLock { files in
      for file in files { unlinkat(file.directory, file.name, 0) }
      end()
    }
  }

  /// True for the name of a file or folder of this stem whose writer has ended, as far as this machine knows.
  static func isOfEndedWriter(_ name: String, stem: String) -> Bool {
    guard name.utf8.starts(with: stem.utf8) else { return false }
    let rest = name.utf8.dropFirst(stem.utf8.count)
    let parts = rest.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 3, parts[2].elementsEqual(suffix.utf8), let writer = String(parts[0]).flatMap(pid_t.init),
      writer > 0
    else { return false }
    // In a container each process may have the same number.
    return writer == getpid() || (kill(writer, 0) != 0 && errno == ESRCH)
  }

  /// Removes files of this stem whose writers were killed.
  private static func removeStrays(_ stem: String, _ directory: Int32) {
    let listed = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard listed >= 0 else { return }
    guard let entries = fdopendir(listed) else {
      close(listed)
      return
    }
    defer { closedir(entries) }
    while let entry = readdir(entries) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: pointer.pointee)) {
          String(cString: $0)
        }
      }
      guard isOfEndedWriter(name, stem: stem) else { continue }
      let stray = openat(directory, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
      guard stray >= 0 else { continue }
      // Free: the writer is no process of another container or machine either.
      if flock(stray, LOCK_EX | LOCK_NB) == 0 { unlinkat(directory, name, 0) }
      close(stray)
    }
  }
}
