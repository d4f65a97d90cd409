import Dispatch
import OTFoundation
import OTJSON
import OTModel
import OTObservation
import Synchronization

/// SHA-256 of every source file, computed beside the conversion.
package final class SourceDigests: Sendable {
  private let files: [(name: String, file: MappedFile)]
  private let group = DispatchGroup()
  private let isCancelled = Atomic(false)
  private let result = Mutex<Result<[FileRecord], any Error>?>(nil)

  private let spent = Mutex(Duration.zero)
  /// Files hashed at a time: one file is one chain of blocks.
  private let threadCount: Int

  /// Time that the digests took, summed over threads.
  var time: Duration { spent.withLock { $0 } }

  /// Starts computing, or leaves it to `finish()` when there is one thread.
  ///
  /// - Parameter threadCount: threads of the work beside; half as many hash.
  package init(_ files: [(name: String, file: MappedFile)], threadCount: Int) {
    self.files = files
    self.threadCount = max(1, threadCount / 2)
    guard threadCount > 1 else { return }
    DispatchQueue.global().async(group: group) {
      let digests = Result { try self.compute() }
      self.result.withLock { $0 = digests }
    }
  }

  /// The list of `{name, byteCount, sha256}` for the metadata.
  ///
  /// - Throws: `Refusal` when a file cannot be read.
  func finish() throws -> JSONValue { .array(try records().map(\.json)) }

  /// The same as records.
  ///
  /// - Throws: `Refusal` when a file cannot be read.
  package func records() throws -> [FileRecord] {
    group.wait()
    return try result.withLock { $0 }?.get() ?? compute()
  }

  /// Gives up, and returns when nothing is computed any more.
  package func cancel() {
    isCancelled.store(true, ordering: .relaxed)
    group.wait()
  }

  private func compute() throws -> [FileRecord] {
    try mapBlocks(files.count, threadCount: threadCount) { index in
      let (name, file) = self.files[index]
      let start = ContinuousClock.now
      defer { self.spent.withLock { $0 += start.duration(to: .now) } }
      let digest = try SHA256Digest.hex(of: file) { self.isCancelled.load(ordering: .relaxed) }
      return FileRecord(name: name, byteCount: file.byteCount, sha256: digest)
    }
  }
}
