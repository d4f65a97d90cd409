import Foundation
import OTFoundation

enum StandardStreams {
  /// Fills the places of streams that are closed, so that no file that is opened
  /// later takes their numbers; whoever uses them meets an error, as before.
  static func prepare() {
    let modes = [(STDIN_FILENO, O_WRONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_RDONLY)]
    for (descriptor, mode) in modes where fcntl(descriptor, F_GETFD) < 0 {
      // The lowest number that is free is this one.
      _ = open("/dev/null", mode)
    }
  }
}

/// Standard output: what is lost there is an error.
enum StandardOutput {
  /// Writes text at once.
  ///
  /// A process whose reader is gone ends as every tool in a pipe does,
  /// by SIGPIPE and without a message.
  /// - Throws: `Refusal` with rule `output-unwritable`.
  static func write(_ text: String) throws {
    let code = writeAll(text, to: STDOUT_FILENO)
    if code == EPIPE { Interruption.endProcess(by: SIGPIPE) }
    guard code == 0 else {
      throw Refusal("output-unwritable", "standard output cannot be written: \(String(cString: strerror(code)))")
    }
  }
}

/// Standard error: what cannot be written there is left out, and the work goes on.
enum StandardError {
  static func write(_ text: String) { _ = writeAll(text, to: STDERR_FILENO) }
}

/// Writes all of a text; 0 or the number of the error.
private func writeAll(_ text: String, to descriptor: Int32) -> Int32 {
  var bytes = Array(text.utf8)[...]
  while !bytes.isEmpty {
    let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    if count >= 0 {
      bytes = bytes.dropFirst(count)
    } else if errno != EINTR {
      return errno
    }
  }
  return 0
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
    guard let handle else {
      _ = try MappedFile(path: path)
      throw Refusal("file-unreadable", "cannot be opened", file: name)
    }
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
