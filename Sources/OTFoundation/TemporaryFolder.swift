#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder beside the one that it is to become, `.NAME.PID.RANDOM.partial`.
///
/// What a process that was killed has left, the next writer of the same folder removes, as `TemporaryFile` does.
package final class TemporaryFolder {
  /// Its path.
  package let path: String
  /// Held while its writer lives, with a lock that says so.
  private let descriptor: Int32

  /// Creates one for the folder called `name` in `parent`; nil with `errno` where none can be created.
  package init?(for name: String, in parent: String) {
    let stem = ".\(name)."
    for found in (try? FileSystem.names(in: parent)) ?? []
    where TemporaryFile.isOfEndedWriter(found, stem: stem) {
      TemporaryFolder.removeStray("\(parent)/\(found)")
    }
    path = "\(parent)/\(stem)\(getpid()).\(String(UInt64.random(in: .min ... .max), radix: 36)).partial"
    guard mkdir(path, 0o777) == 0 else { return nil }
    descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if descriptor >= 0 { _ = flock(descriptor, LOCK_EX | LOCK_NB) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private static func removeStray(_ path: String) {
    let folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    guard folder >= 0 else { return }
    defer { close(folder) }
    // Free: the writer is no process of another container or machine either.
    if flock(folder, LOCK_EX | LOCK_NB) == 0 { removeTree(path) }
  }

  /// Removes a folder and all that is in it; links are not followed.
  private static func removeTree(_ path: String) {
    for name in (try? FileSystem.names(in: path)) ?? [] {
      let inner = "\(path)/\(name)"
      if FileSystem.kind(inner) == .folder { removeTree(inner) } else { unlink(inner) }
    }
    rmdir(path)
  }
}
