import ArgumentParser
import OTCheckpoint
import OTConversion
import OTJSON
import OTTensor
import OTVerify

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Prove that an .otq file is what its source makes it.",
    discussion: """
      Recomputes every weight from the source: every tensor accounted for, every weight
      within half a step or at the end of its range, norms and biases to rounding.
      Without --reference only the file's own checksums and codes are checked.
      Exit status 1 names the offending tensors.

      EXAMPLES
        otconvert verify model.otq --reference model.safetensors
        otconvert verify model.otq --reference model/ --tolerance tolerance.json --json
      where tolerance.json is, say, {"minimumSqnrDecibels": {"6": 25}, "maximumErrorInSteps": 0.5001}
      """)

  @Argument(help: "The .otq file.", completion: .file()) var input: String
  @Option(help: ArgumentHelp("The checkpoint it was made from.", valueName: "checkpoint"))
  var reference: String?
  @Option(help: ArgumentHelp("Thresholds, a JSON file.", valueName: "file")) var tolerance: String?
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func validate() throws {
    guard tolerance == nil || reference != nil else { throw ValidationError("--tolerance needs --reference.") }
  }

  func run() throws {
    try OTConvert.prepare()
    let allowed = try tolerance.map { path in
      try Tolerance(json: try JSONValue.parse(contentsOf: MappedFile(path: path)), file: path)
    }
    let file = try PackedFile(path: input)
    guard let reference else {
      try file.container.verify(threadCount: threads.threads)
      if messages.json {
        print(JSONValue.object(["file": .string(input), "passed": .bool(true)]).text(pretty: true))
      } else if !messages.quiet {
        print("\(input): undamaged (not compared with a source: --reference)")
      }
      return
    }
    let progress = ProgressLine("verifying", isQuiet: messages.quiet || messages.json)
    let result = try WeightVerification(
      of: file, reference: try Checkpoint.open(reference), tolerance: allowed ?? Tolerance(),
      threadCount: threads.threads, progress: progress.update)
    if messages.json {
      print(VerifyCommand.json(result, input).text(pretty: true))
    } else if !messages.quiet {
      print(VerifyCommand.table(result))
      result.notes.forEach(warn)
    }
    guard result.hasPassed else {
      let named = result.offenders.prefix(8).map { "'\($0.name)' \($0.faults[0])" }
      let more = result.offenders.count > 8 ? "; and \(result.offenders.count - 8) more" : ""
      throw Refusal("verify-failed", named.joined(separator: "; ") + more, file: input)
    }
    if !messages.quiet, !messages.json { print("verified: \(result.findings.count) tensors match \(reference)") }
  }

  static func table(_ result: WeightVerification) -> String {
    var table = TextTable([
      ("tensor", .left), ("stored as", .left), ("SQNR dB", .right), ("max error", .right), ("", .left),
    ])
    for finding in result.findings {
      let isQuantized = finding.sqnrDecibels != nil
      table.append([
        Refusal.printable(finding.name), Refusal.printable(finding.storage),
        finding.sqnrDecibels.map { $0.isFinite ? fixed($0, 2) : "∞" } ?? "",
        isQuantized
          ? "\(fixed(finding.maximumError, 4)) step"
          : finding.maximumError == 0 ? "exact" : "\(Float(finding.maximumError))",
        finding.faults.isEmpty ? "ok" : "FAILED",
      ])
    }
    return table.text
  }

  private static func json(_ result: WeightVerification, _ path: String) -> JSONValue {
    .object([
      "file": .string(path), "passed": .bool(result.hasPassed),
      "notes": .array(result.notes.map { .string($0) }),
      "tensors": .array(
        result.findings.map { finding in
          var entry: JSONObject = [
            "name": .string(finding.name), "storage": .string(finding.storage),
            "maximumError": .number(finding.maximumError),
            "faults": .array(finding.faults.map { .string($0) }),
          ]
          if let sqnr = finding.sqnrDecibels { entry["sqnrDecibels"] = sqnr.isFinite ? .number(sqnr) : .null }
          return .object(entry)
        }),
    ])
  }
}
