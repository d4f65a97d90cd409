import Foundation
import OTCalibration
import OTJSON
import OTTensor
import Synchronization

/// SHA-256 of every source file, computed beside the conversion.
package final class SourceDigests: Sendable {
  private let files: [(name: String, file: MappedFile)]
  private let group = DispatchGroup()
  private let isCancelled = Atomic(false)
  private let result = Mutex<Result<[FileRecord], any Error>?>(nil)

  /// Starts computing, or leaves it to `finish()` when not concurrent.
  package init(_ files: [(name: String, file: MappedFile)], isConcurrent: Bool) {
    self.files = files
    guard isConcurrent else { return }
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
    try files.map { name, file in
      let digest = try SHA256Digest.hex(of: file) { self.isCancelled.load(ordering: .relaxed) }
      return FileRecord(name: name, byteCount: file.byteCount, sha256: digest)
    }
  }
}
