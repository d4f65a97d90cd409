import OTFoundation
import OTJSON
import OTObservation
import OTVerify

/// What was measured of a requirement.
package struct Measurement: Sendable {
  /// The requirement.
  package let requirement: Requirement
  /// The file's figure.
  package let value: Double
  /// Its standard error, where it has one.
  package let standardError: Double?
  /// The source's figure, of a drop.
  package var reference: Double?

  /// True when the file is within the limit.
  package var holds: Bool { requirement.holds(value) }

  /// `kl<=0.02: 0.0312`.
  package var text: String {
    "\(requirement.text): \(Measurement.number(value))"
      + (standardError.map { " ± \(Measurement.number($0))" } ?? "")
      + (reference.map { " (the source has \(Measurement.number($0)))" } ?? "")
  }

  /// `{requirement, value, standardError, reference, holds}`.
  package var json: JSONValue {
    var members: JSONObject = ["requirement": .string(requirement.text), "value": .finite(value)]
    if let standardError { members["standardError"] = .finite(standardError) }
    if let reference { members["reference"] = .finite(reference) }
    members["holds"] = .bool(holds)
    return .object(members)
  }

  private static func number(_ value: Double) -> String {
    value.isFinite ? fixed(value, abs(value) < 0.1 ? 5 : 4) : "\(value)"
  }
}

/// What a gate says of a file.
package struct Judgement: Sendable {
  /// Of each requirement, in the order in which they were given.
  package let measurements: [Measurement]
  /// The outputs beside the source's; nil where there was no text.
  package let finding: ModelFinding?
  /// The text.
  let run: CalibrationRun

  /// True when all requirements hold.
  package var holds: Bool { measurements.allSatisfy(\.holds) }

  /// The figures in one line.
  package var text: String { measurements.map(\.text).joined(separator: ", ") }

  /// The refusal of a file that does not hold them.
  ///
  /// - Parameter remedy: what to try.
  package func refusal(file: String, remedy: String?) -> Refusal {
    let failed = measurements.filter { !$0.holds }.map(\.text)
    let held = measurements.filter(\.holds).map(\.text)
    return Refusal(
      "require-failed",
      "the file would not hold what is required, and is not written: \(failed.joined(separator: ", "))"
        + (held.isEmpty ? "" : "; it holds \(held.joined(separator: ", "))"), file: file, remedy: remedy)
  }

  /// The member `requirements` of a file's metadata: what was measured and on what, and the settings that did not
  /// hold.
  package func record(tried: [(settings: String, judgement: Judgement)] = []) -> JSONValue {
    var members: JSONObject = ["measured": .array(measurements.map(\.json))]
    if finding != nil { members["text"] = run.json }
    if !tried.isEmpty {
      members["tried"] = .array(
        tried.map { settings, judgement in
          .object([
            "settings": .string(settings), "measured": .array(judgement.measurements.map(\.json)),
          ])
        })
    }
    return .object(members)
  }
}
