import OTFoundation
import OTJSON
import OTText

/// The items of a file: lines of JSON, rows of a table, or texts.
struct TaskData {
  /// The way items stand in a file.
  enum Layout {
    /// An object of JSON a line.
    case lines
    /// Columns between tabs, as they are, without quotes.
    case tabs
    /// Columns between commas; in double quotes they may have commas, line ends and, doubled, quotes.
    case commas
    /// Text without fields.
    case text
  }

  /// The file, as it was given.
  let path: String
  let layout: Layout
  private let file: TextFile
  private let lines: [TextFile.Line]

  /// Reads a file. The name says what it is, `.jsonl`, `.ndjson`, `.json`, `.tsv`, `.csv` or `.txt`, behind them
  /// perhaps `.gz` or `.zst`; under any other name the first line does.
  ///
  /// - Throws: `Refusal` with rule `task-data-empty` or `task-data-encoding`; `text-…` or `file-…` as `TextFile`.
  init(path: String) throws {
    self.path = path
    do {
      file = try TextFile(path: path)
    } catch let refusal as Refusal where refusal.rule.hasPrefix("text-is-utf") {
      throw Self.encoding(path, line: 1, "is UTF-16 or UTF-32, not UTF-8")
    }
    var lines: [TextFile.Line] = []
    try file.forEachLine { line in
      lines.append(line)
      return true
    }
    if let first = lines.first?.bytes {
      // Without a mark of byte order, a kind of file of its own to nobody.
      if first.prefix(4).contains(0) {
        throw Self.encoding(path, line: 1, "is UTF-16 or binary, not UTF-8")
      }
      if first.starts(with: [0xEF, 0xBB, 0xBF]) { lines[0].bytes.removeFirst(3) }
    }
    for index in lines.indices where lines[index].bytes.last == 0x0D { lines[index].bytes.removeLast() }
    self.lines = lines
    layout = Self.layout(path, first: lines.first { !Self.isBlank($0.bytes) })
    guard lines.contains(where: { !Self.isBlank($0.bytes) }) else {
      throw Refusal("task-data-empty", "has no items: it is empty", file: path)
    }
  }

  private static func layout(_ path: String, first: TextFile.Line?) -> Layout {
    var name = path
    for suffix in [".gz", ".zst"] where name.hasSuffix(suffix) { name.removeLast(suffix.count) }
    if [".jsonl", ".ndjson", ".json"].contains(where: name.hasSuffix) { return .lines }
    if name.hasSuffix(".tsv") { return .tabs }
    if name.hasSuffix(".csv") { return .commas }
    if name.hasSuffix(".txt") { return .text }
    let bytes = first?.bytes ?? []
    if bytes.first(where: { $0 != 0x20 && $0 != 0x09 }) == UInt8(ascii: "{") { return .lines }
    return bytes.contains(0x09) ? .tabs : .text
  }

  private static func isBlank(_ bytes: [UInt8]) -> Bool {
    bytes.allSatisfy { $0 == 0x20 || (0x09...0x0D).contains($0) }
  }

  private static func encoding(_ path: String, line: Int, _ message: String) -> Refusal {
    Refusal(
      "task-data-encoding", "line \(line) \(message)", file: path,
      remedy: "convert it, for example with iconv -f LATIN1 -t UTF-8, or -f UTF-16")
  }

  private func text(_ line: TextFile.Line) throws -> String {
    guard let text = String(validating: line.bytes, as: UTF8.self) else {
      throw Self.encoding(path, line: line.number, "is not UTF-8")
    }
    return text
  }

  /// The items of the file.
  ///
  /// - Parameters:
  ///   - columns: the names of a table's columns, where it has no line with them; nil: it has.
  ///   - limit: the most items; nil: all.
  /// - Throws: `Refusal` with rule `task-data-layout`, `task-data-json`, `task-data-columns`, `task-data-quotes`,
  ///   `task-data-encoding` or `task-data-empty`.
  func records(columns: [String]? = nil, limit: Int? = nil) throws -> [TaskRecord] {
    var records: [TaskRecord] = []
    switch layout {
    case .lines:
      for line in lines where !Self.isBlank(line.bytes) && records.count < limit ?? .max {
        records.append(TaskRecord(file: path, line: line.number, content: .object(try object(line))))
      }
    case .tabs:
      try addRows(
        to: &records, columns, limit,
        lines.lazy.filter { !Self.isBlank($0.bytes) }.map { line in
          (line.number, try text(line).split(separator: "\t", omittingEmptySubsequences: false).map(String.init))
        })
    case .commas: try addRows(to: &records, columns, limit, commaRows())
    case .text:
      throw Refusal(
        "task-data-layout", "is plain text, the task's items have fields", file: path,
        remedy: "give a .jsonl, .tsv or .csv file")
    }
    guard !records.isEmpty else { throw Refusal("task-data-empty", "has no items", file: path) }
    return records
  }

  private func object(_ line: TextFile.Line) throws -> JSONObject {
    // Named by the encoding, not as faulty JSON.
    _ = try text(line)
    let value: JSONValue
    do {
      value = try line.bytes.withUnsafeBytes {
        try JSONValue.parse(
          $0, limits: JSONLimits(byteCount: TextFile.maximumLineByteCount, readsLargeIntegersAsDoubles: true),
          file: path, baseOffset: line.byteOffset)
      }
    } catch let refusal as Refusal {
      throw Refusal("task-data-json", "line \(line.number): \(refusal.message)", file: path)
    }
    guard let object = value.object else {
      throw Refusal("task-data-json", "line \(line.number) is no object of JSON", file: path)
    }
    return object
  }

  private func addRows(
    to records: inout [TaskRecord], _ columns: [String]?, _ limit: Int?, _ rows: [(line: Int, cells: [String])]
  ) throws {
    var names = columns
    for row in rows where records.count < limit ?? .max {
      guard let known = names else {
        names = row.cells
        continue
      }
      guard row.cells.count == known.count else {
        throw Refusal(
          "task-data-columns",
          "line \(row.line) has \(row.cells.count) columns, "
            + (columns == nil ? "the first line \(known.count)" : "\(known.count) are expected"), file: path)
      }
      records.append(TaskRecord(file: path, line: row.line, content: .row(row.cells, columns: known)))
    }
  }

  private func commaRows() throws -> [(line: Int, cells: [String])] {
    var rows: [(line: Int, cells: [String])] = []
    var (cells, cell, isQuoted) = ([String](), String.UnicodeScalarView(), false)
    var firstLine = 1
    for line in lines {
      if !isQuoted {
        if Self.isBlank(line.bytes) { continue }
        firstLine = line.number
      } else {
        cell.append("\n")
      }
      var scalars = Array(try text(line).unicodeScalars)[...]
      while let scalar = scalars.popFirst() {
        switch (scalar, isQuoted) {
        case ("\"", true) where scalars.first == "\"":
          cell.append("\"")
          scalars.removeFirst()
        case ("\"", true): isQuoted = false
        case ("\"", false) where cell.isEmpty: isQuoted = true
        case (",", false):
          cells.append(String(cell))
          cell.removeAll()
        default: cell.append(scalar)
        }
      }
      if isQuoted { continue }
      rows.append((firstLine, cells + [String(cell)]))
      cells.removeAll()
      cell.removeAll()
    }
    guard !isQuoted else {
      throw Refusal("task-data-quotes", "line \(firstLine) has a quote that is not closed", file: path)
    }
    return rows
  }

  /// The texts of a file: of lines of JSON one field, each line of a plain text.
  ///
  /// - Throws: as `records`, or `task-data-field`.
  func lineTexts(field: String, limit: Int?) throws -> [(line: Int, text: String)] {
    guard layout == .text else {
      return try records(limit: limit).map { ($0.line, try $0.text(field)) }
    }
    return try lines.lazy.filter { !Self.isBlank($0.bytes) }.prefix(limit ?? .max).map { ($0.number, try text($0)) }
  }

  /// All of a plain text, with line ends as `\n`.
  ///
  /// - Throws: `Refusal` with rule `task-data-encoding`.
  func wholeText() throws -> String {
    // Names the line that is no UTF-8.
    for line in lines { _ = try text(line) }
    var whole = ""
    try file.forEachDocument { document in
      whole = HarnessText.replace(document, "\r\n", "\n")
      return true
    }
    return whole
  }
}
