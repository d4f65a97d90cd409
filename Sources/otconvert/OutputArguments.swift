import ArgumentParser
import Foundation
import OTFoundation
import OTJSON
import OTQ

/// The options of printing; all commands print through this.
struct OutputArguments: ParsableArguments {
  @Flag(help: "Print nothing but errors, and the results of --json, run, embed and tokenize.")
  var quiet = false

  @Flag(help: "Print the result as JSON on standard output.")
  var json = false

  @Flag(
    help: ArgumentHelp(
      "Read files whole into memory instead of mapping them: for disks and networks that fail.",
      discussion: "What cannot be read is refused; otherwise a fault of a mapped file ends the command."))
  var noMmap = false

  mutating func validate() throws { MappedFile.isMapping = !noMmap }

  /// Prints the command's result.
  ///
  /// - Throws: `Refusal` with rule `output-unwritable`, or what making it throws.
  func result(_ text: @autoclosure () throws -> String, json value: @autoclosure () throws -> JSONValue) throws {
    if json { return try StandardOutput.write(value().text(pretty: true) + "\n") }
    try print(text())
  }

  /// Prints lines that are for people alone.
  ///
  /// - Throws: `Refusal` with rule `output-unwritable`, or what making them throws.
  func print(_ text: @autoclosure () throws -> String) throws {
    if !quiet, !json { try StandardOutput.write(text() + "\n") }
  }

  /// A line of warning on standard error.
  func warn(_ text: String) {
    if !quiet { StandardError.write("warning: \(text)\n") }
  }

  /// A line on standard error that tells what is done.
  func note(_ text: String) {
    if !quiet { StandardError.write("\(Refusal.printable(text))\n") }
  }

  /// Shows on a terminal, until the next, what is under way.
  func status(_ text: String) {
    if !quiet, !json, isatty(STDERR_FILENO) == 1 { StandardError.write("\r\u{1B}[K\(text)") }
  }

  /// Shows how far a long work is.
  func progress(_ verb: String, unit: String = WorkStage.converting.unit) -> ProgressLine {
    ProgressLine(verb, unit: unit, isQuiet: quiet || json)
  }

  /// Shows what a long work tells.
  var observer: WorkObserver {
    WorkObserver(
      begin: { stage in
        progress(stage == .rounding ? "rounding weights" : stage.rawValue, unit: stage.unit).update
      }, warn: warn, note: note)
  }
}
