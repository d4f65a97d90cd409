import OTFoundation
import OTJSON

/// Rows of JSON that say how far a long work has come: `formats/journal.md`.
///
/// A row is durable when `append` returns. Each has its checksum: what a power cut has torn or left out ends the rows,
/// and the next one takes its place.
package final class Journal {
  /// The rows that are whole.
  package private(set) var rows: [JSONObject]
  private let file: ScratchFile
  private var byteCount: Int

  /// Longer rows are no rows.
  private static let limits = JSONLimits(byteCount: 1 << 28)

  /// Opens the journal at `path`, or begins one.
  ///
  /// - Throws: `Refusal` with rule `resume-busy` where another process goes on with the work, or `scratch-unwritable`.
  package init(path: String) throws {
    file = try ScratchFile(keptAt: path)
    guard file.lock() else {
      throw Refusal(
        "resume-busy", "another process is at work on it", file: path, remedy: "wait for it, or choose another output")
    }
    (rows, byteCount) = try Journal.rows(file.read(0..<file.byteCount))
    try file.truncate(to: byteCount)
  }

  /// The rows up to the first that is not whole, and where that begins.
  private static func rows(_ bytes: [UInt8]) -> (rows: [JSONObject], byteCount: Int) {
    var rows: [JSONObject] = []
    var start = 0
    while let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) {
      let line = bytes[start..<end]
      guard let text = line.dropFirst(9).withContiguousStorageIfAvailable({ Array($0) }),
        line.prefix(9).elementsEqual(mark(of: text)),
        let row = try? text.withUnsafeBytes({ try JSONValue.parse($0, limits: limits, file: "journal") }).object
      else { break }
      rows.append(row)
      start = end + 1
    }
    return (rows, start)
  }

  /// The checksum of a row's text as its line begins.
  private static func mark(of text: [UInt8]) -> [UInt8] {
    let digits = String(text.withUnsafeBytes { Checksum.crc32($0) }, radix: 16)
    return Array((String(repeating: "0", count: 8 - digits.count) + digits + " ").utf8)
  }

  /// Writes a row and makes it durable.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package func append(_ row: JSONObject) throws {
    let text = Array(JSONValue.object(row).text().utf8)
    let line = Journal.mark(of: text) + text + [UInt8(ascii: "\n")]
    try line.withUnsafeBytes { try file.write($0, at: byteCount) }
    try file.synchronize()
    byteCount += line.count
    rows.append(row)
  }
}
