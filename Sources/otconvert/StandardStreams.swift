import Foundation
import OTTensor

/// Standard output for text that appears as it comes.
enum StandardOutput {
  /// Writes text at once.
  ///
  /// When nobody reads any more, the process ends as every tool in a pipe does,
  /// by SIGPIPE and without a message.
  /// - Throws: `Refusal` with rule `output-unwritable`.
  static func write(_ text: String) throws {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let count = bytes.withUnsafeBytes { Foundation.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if count >= 0 {
        bytes = bytes.dropFirst(count)
      } else if errno == EPIPE {
        Interruption.endProcess(by: SIGPIPE)
      } else if errno != EINTR {
        throw Refusal(
          "output-unwritable", "standard output cannot be written: \(String(cString: strerror(errno)))")
      }
    }
  }
}

/// Text from a file, or from standard input for `-`.
enum TextInput {
  /// Longer texts are refused.
  private static let maximumByteCount = 1 << 28

  /// Reads all of it; what is no UTF-8 becomes U+FFFD.
  ///
  /// - Throws: `Refusal` with rule `text-too-long` or a rule `file-…`.
  static func read(_ path: String) throws -> String {
    let name = path == "-" ? "standard input" : path
    let handle = path == "-" ? .standardInput : FileHandle(forReadingAtPath: path)
    // What cannot be opened has its fault named; pipes and devices may be read.
    guard let handle else { return try String(decoding: MappedFile(path: path).bytes, as: UTF8.self) }
    let bytes: Data
    do {
      bytes = try handle.read(upToCount: maximumByteCount + 1) ?? Data()
    } catch {
      throw Refusal("file-unreadable", "cannot be read", file: name)
    }
    guard bytes.count <= maximumByteCount else {
      throw Refusal("text-too-long", "has more than \(maximumByteCount) bytes", file: name)
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
