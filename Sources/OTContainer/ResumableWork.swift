import OTFoundation
import OTJSON
import OTPlatform

/// A long work on one output that goes on where a process ended: its journal and its unfinished files, in the folder
/// `OUT.resume` beside the output.
///
/// A step's rows are numbered from 0. A row that comes with a lower number than those before it takes their place:
/// its work was done again, since what a row told of was not on the disk.
package final class ResumableWork {
  /// What a work is of: a journal of another is refused.
  package struct Identity: Sendable {
    let kind, program: String
    let sources, options: JSONObject

    /// - Parameters:
    ///   - kind: the command.
    ///   - program: its name and version.
    ///   - sources: the files that are read, by name.
    ///   - options: what decides about the output.
    package init(
      _ kind: String, program: String, sources: [(name: String, identity: FileIdentity)], options: JSONObject
    ) {
      (self.kind, self.program, self.options) = (kind, program, options)
      self.sources = sources.reduce(into: JSONObject()) { all, source in
        all[source.name] = .array([
          .integer(source.identity.byteCount), .integer(source.identity.modifiedSeconds),
          .integer(source.identity.modifiedNanoseconds),
        ])
      }
    }

    fileprivate var row: JSONObject {
      [
        "step": .string("begun"), "format": .integer(1), "kind": .string(kind), "program": .string(program),
        "sources": .object(sources), "options": .object(options),
      ]
    }
  }

  /// The folder.
  package let folder: String
  /// The output.
  package let output: String
  private let journal: Journal

  private static let journalName = "journal"

  /// True where a work on `output` was begun, and has not come to its end.
  package static func isBegun(on output: String) -> Bool {
    FileSystem.kind("\(output).resume/\(journalName)") == .file
  }

  /// Goes on with the work on `output`, or begins it.
  ///
  /// - Throws: `Refusal` with rule `resume-other-version`, `resume-other-source` or `resume-other-options` for a journal
  ///   of another work, `resume-busy`, or a rule `output-…` or `scratch-…`.
  package init(on output: String, _ identity: Identity) throws {
    self.output = output
    folder = output + ".resume"
    guard mkdir(folder, 0o777) == 0 || errno == EEXIST else {
      throw Refusal(
        "output-unwritable", "no folder can be created there: \(String(cString: strerror(errno)))", file: folder)
    }
    journal = try Journal(path: "\(folder)/\(Self.journalName)")
    if let row = journal.rows.first {
      try check(row, against: identity.row)
    } else {
      try journal.append(identity.row)
      try FileSystem.synchronize(folder)
      try FileSystem.synchronize(output.parentPath)
    }
  }

  private func check(_ row: JSONObject, against expected: JSONObject) throws {
    func refuse(_ rule: String, _ message: String, _ remedy: String) -> Refusal {
      Refusal(rule, message, file: folder, remedy: "\(remedy), or remove the folder to begin anew")
    }
    guard row["step"]?.string == "begun", row["format"]?.integer == 1, row["program"] == expected["program"] else {
      let program = row["program"]?.string.map { Refusal.printable($0) } ?? "another program"
      throw refuse("resume-other-version", "was begun by \(program)", "go on with that")
    }
    guard row["kind"] == expected["kind"] else {
      let kind = row["kind"]?.string.map { Refusal.printable($0) } ?? ""
      throw refuse("resume-other-options", "is of another command, '\(kind)'", "go on with that")
    }
    if let name = difference(row["sources"], expected["sources"]) {
      throw refuse(
        "resume-other-source", "was begun with another '\(Refusal.printable(name))': its size or its time differs",
        "go on with the files that were read")
    }
    if let name = difference(row["options"], expected["options"]) {
      func text(_ row: JSONObject) -> String {
        row["options"]?[name].map { Refusal.printable($0.string ?? $0.text()) } ?? "not given"
      }
      throw refuse(
        "resume-other-options", "was begun with other options: '\(name)' was \(text(row)) and is \(text(expected))",
        "give the same options")
    }
  }

  /// The first name that two objects have different values for; nil where they are equal.
  private func difference(_ one: JSONValue?, _ other: JSONValue?) -> String? {
    let names = Set((one?.object?.keys ?? []) + (other?.object?.keys ?? []))
    return names.sorted().first { one?[$0] != other?[$0] }
  }

  // MARK: Steps

  /// The rows of a step, in their order.
  package func rows(_ step: String) -> [JSONObject] {
    journal.rows.reduce(into: []) { rows, row in
      guard row["step"]?.string == step, let number = row["number"]?.integer, (0...rows.count).contains(number) else {
        return
      }
      rows.removeLast(rows.count - number)
      rows.append(row)
    }
  }

  /// Keeps a row, for what is on the disk.
  ///
  /// - Throws: `Refusal` with rule `scratch-unwritable`.
  package func keep(_ step: String, _ number: Int, _ row: JSONObject) throws {
    var row = row
    row["step"] = .string(step)
    row["number"] = .integer(number)
    try journal.append(row)
  }

  // MARK: Files

  /// The name of the output as far as it is written.
  static let outputName = "output"

  /// Bytes of the output that are there.
  package var keptByteCount: Int { FileIdentity(path: path(Self.outputName))?.byteCount ?? 0 }

  /// The path of a file of the work.
  package func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// The name of a file of the work, relative to the output's folder.
  package func name(_ name: String) -> String { "\(folder.lastPathComponent)/\(name)" }

  /// Removes the files of a step but the one that its last row tells of.
  package func remove(allBut kept: String, of step: String) {
    for name in (try? FileSystem.names(in: folder)) ?? [] where name.hasPrefix("\(step)-") && name != kept {
      unlink(path(name))
    }
  }

  /// Tells that the output is about to get its name.
  ///
  /// - Throws: as `keep`.
  package func willFinish(_ identity: FileIdentity) throws {
    try keep(
      "finished", 0,
      [
        "inode": .string("\(identity.inode)"), "byteCount": .integer(identity.byteCount),
        "modified": .array([.integer(identity.modifiedSeconds), .integer(identity.modifiedNanoseconds)]),
      ])
  }

  /// True where the output has got its name, and only the end of the process was missing.
  package var isFinished: Bool {
    guard let row = rows("finished").first, let found = FileIdentity(path: output) else { return false }
    return row["inode"]?.string == "\(found.inode)" && row["byteCount"]?.integer == found.byteCount
      && row["modified"] == .array([.integer(found.modifiedSeconds), .integer(found.modifiedNanoseconds)])
  }

  /// Removes the folder and what is in it: the output stands.
  package func end() {
    // The journal last, which says so.
    for name in (try? FileSystem.names(in: folder)) ?? [] where name != Self.journalName { unlink(path(name)) }
    unlink(path(Self.journalName))
    rmdir(folder)
  }
}
