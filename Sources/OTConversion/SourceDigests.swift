import OTFoundation
import OTJSON
import OTModel
import OTObservation
import Synchronization

/// SHA-256 of every source file, computed beside the conversion.
package final class SourceDigests: Sendable {
  private let files: [(name: String, file: MappedFile)]
  private let group = WorkGroup()
  private let isCancelled = Atomic(false)
  private let result = Lock<Result<[FileRecord], any Error>?>(nil)

  private let spent = Lock(Duration.zero)
  /// Files hashed at a time: one file is one chain of blocks.
  private let threadCount: Int

  /// Time that the digests took, summed over threads.
  var time: Duration { spent.withLock { $0 } }

  /// Starts computing, or leaves it to `records()` when there is one thread.
  ///
  /// - Parameter threadCount: threads of the work beside; half as many hash.
  package init(_ files: [(name: String, file: MappedFile)], threadCount: Int) {
    self.files = files
    self.threadCount = max(1, threadCount / 2)
    guard threadCount > 1 else { return }
    // Without a thread it is done when it is asked for.
    _ = group.start {
      let digests = Result { try self.compute() }
      self.result.withLock { $0 = digests }
    }
  }

  /// The records of the files, in their order.
  ///
  /// - Parameter check: called several times a second meanwhile; what it throws ends the wait.
  /// - Throws: `Refusal` when a file cannot be read, and what `check` throws.
  package func records(_ check: () throws -> Void = {}) throws -> [FileRecord] {
    try group.wait(check)
    if let result = result.withLock({ $0 }) { return try result.get() }
    return try files.map { name, file in
      try record(name, file) {
        try check()
        return false
      }
    }
  }

  /// Gives up, and returns when nothing is computed any more.
  package func cancel() {
    isCancelled.store(true, ordering: .relaxed)
    group.wait()
  }

  private func compute() throws -> [FileRecord] {
    try mapBlocks(files.count, threadCount: threadCount) { index in
      let (name, file) = self.files[index]
      return try self.record(name, file) { self.isCancelled.load(ordering: .relaxed) }
    }
  }

  private func record(_ name: String, _ file: MappedFile, _ isCancelled: () throws -> Bool) throws -> FileRecord {
    let start = ContinuousClock.now
    defer { spent.withLock { $0 += start.duration(to: .now) } }
    return FileRecord(
      name: name, byteCount: file.byteCount, sha256: try SHA256Digest.hex(of: file, isCancelled: isCancelled))
  }
}
