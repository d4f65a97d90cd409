#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Zeroed memory that begins at a page and is the process's own.
///
/// Only written pages take memory: an allocation by the claim of a file costs
/// no more than the file fills.
package final class PageMemory: @unchecked Sendable {
  /// All bytes; valid as long as this object lives. Writers on several threads
  /// keep to ranges of their own.
  package let bytes: UnsafeMutableRawBufferPointer

  /// - Throws: `Refusal` with rule `memory` when the system has no room for it.
  package init(byteCount: Int) throws {
    guard byteCount > 0 else {
      bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)
      return
    }
    var flags = MAP_PRIVATE | MAP_ANON
    #if os(Linux)
      flags |= MAP_NORESERVE
    #endif
    let base = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0)
    guard let base, base != MAP_FAILED else {
      throw Refusal("memory", "no memory for \(byteCount) bytes: \(String(cString: strerror(errno)))")
    }
    #if os(Linux)
      // Fewer faults while it is filled, fewer misses while it is read.
      madvise(base, byteCount, MADV_HUGEPAGE)
    #endif
    bytes = UnsafeMutableRawBufferPointer(start: base, count: byteCount)
  }

  deinit {
    if let base = bytes.baseAddress { munmap(base, bytes.count) }
  }
}
