import Foundation
import OTConversion
import OTFoundation
import OTJSON

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A folder with the finished rows of comparisons, a file each.
///
/// A row's file bears the digest of all that decides about its figures, and appears whole or not at all: a run that was
/// killed goes on with the rows that are missing, and rows of other models or options lie beside without being taken for
/// these.
package final class ComparisonFolder {
  /// The folder's path.
  package let path: String
  private let locks: [Int32]
  /// Where a row is converted to.
  package let conversionPath: String

  /// Opens a folder, or makes it.
  ///
  /// - Parameter part: the part of the rows that is made, from 1, while others may make other parts; nil: all.
  /// - Throws: `Refusal` with rule `compare-folder`, or `compare-busy` where another process compares in it.
  package init(path: String, part: Int? = nil) throws {
    self.path = path
    conversionPath = path + (part.map { "/.converting-\($0).otq" } ?? "/.converting.otq")
    do {
      try FileManager.default.createDirectory(atPath: path + "/rows", withIntermediateDirectories: true)
    } catch {
      throw Refusal(
        "compare-folder", "cannot be made a folder to write to", file: path, remedy: "choose another --output")
    }
    // Parts keep a comparison of all rows out, not each other.
    let names = [("/.lock", part == nil ? LOCK_EX : LOCK_SH)] + (part.map { [("/.lock-\($0)", LOCK_EX)] } ?? [])
    locks = try names.map { try ComparisonFolder.lock($0, in: path, $1) }
    // What a process that was killed left behind.
    unlink(conversionPath)
  }

  deinit {
    for lock in locks {
      // As ScratchFile does.
      flock(lock, LOCK_UN)
      close(lock)
    }
  }

  private static func lock(_ name: String, in path: String, _ operation: Int32) throws -> Int32 {
    let lock = open(path + name, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    guard lock >= 0 else {
      throw Refusal("compare-folder", "cannot be written to: \(String(cString: strerror(errno)))", file: path)
    }
    guard flock(lock, operation | LOCK_NB) == 0 else {
      let isBusy = errno == EWOULDBLOCK
      close(lock)
      throw Refusal(
        isBusy ? "compare-busy" : "compare-folder",
        isBusy ? "another comparison is writing to it" : "cannot be locked", file: path,
        remedy: "wait for it, or choose another --output")
    }
    return lock
  }

  /// The key of what decides about a row's figures.
  ///
  /// - Throws: as `SHA256Digest`.
  package static func key(_ identity: JSONObject) throws -> String {
    try SHA256Digest.hex(of: Array(JSONValue.object(identity).text().utf8))
  }

  private func file(_ key: String) -> String { "\(path)/rows/\(key).json" }

  /// The figures of a finished row; nil where there are none, or its file is damaged.
  package func figures(_ key: String) -> RowFigures? {
    guard let file = try? MappedFile(path: file(key)),
      let json = try? JSONValue.parse(contentsOf: file, limits: JSONLimits(byteCount: 1 << 28)),
      json["key"]?.string == key
    else { return nil }
    return json["figures"].flatMap(RowFigures.init(json:))
  }

  /// Keeps a row.
  ///
  /// - Parameter identity: what `key` was made of, for whoever reads the file.
  /// - Throws: as `AtomicFile`.
  package func keep(_ figures: RowFigures, key: String, identity: JSONObject) throws {
    try write(
      JSONValue.object(["key": .string(key), "identity": .object(identity), "figures": figures.json]).text()
        + "\n", to: "rows/\(key).json")
  }

  /// Writes a file of the folder, whole or not at all.
  ///
  /// - Throws: as `AtomicFile`.
  package func write(_ text: String, to name: String) throws {
    let file = try AtomicFile(path: "\(path)/\(name)", force: true)
    try file.append(text.utf8)
    try file.commit()
  }

  /// True when a packed file of this name was kept.
  func hasFile(_ name: String) -> Bool { access("\(path)/files/\(name)", R_OK) == 0 }

  /// Puts the row's packed file under `files/`, or removes it.
  ///
  /// - Parameter name: the file's name; nil: it is not wanted.
  /// - Throws: `Refusal` with rule `compare-folder`.
  package func finishConversion(keepingAs name: String?) throws {
    guard let name else {
      unlink(conversionPath)
      return
    }
    mkdir(path + "/files", 0o777)
    guard rename(conversionPath, "\(path)/files/\(name)") == 0 else {
      throw Refusal("compare-folder", "the file cannot be kept: \(String(cString: strerror(errno)))", file: path)
    }
  }
}
