import OTFoundation
import OTJSON
import OTQ

/// What `plan --parts` prints: the bytes of each part, and what to do next.
struct PartsReport {
  let outcome: PartsWork.Outcome
  /// The plan's file.
  let path: String

  var text: String {
    var table = TextTable([("part", .right), ("tensors", .right), ("reads", .right), ("writes about", .right)])
    for (index, part) in outcome.parts.enumerated() {
      table.append([
        "\(index + 1)", "\(part.tensorCount)", byteText(part.sourceByteCount), byteText(part.storedByteCount),
      ])
    }
    let count = outcome.parts.count
    return """
      \(table.text)

      \(path): \(outcome.methodName), \(count) parts
      otconvert convert --plan \(path) --part N    # N from 1 to \(count), on any machine that sees the source
      otconvert merge --plan \(path)
      """
  }

  var json: JSONValue {
    let parts = outcome.parts.enumerated().map { index, part in
      JSONValue.object([
        "number": .integer(index + 1), "output": .string(outcome.plan.path(ofPart: index)),
        "tensorCount": .integer(part.tensorCount), "sourceByteCount": .integer(part.sourceByteCount),
        "estimatedByteCount": .integer(part.storedByteCount),
      ])
    }
    return .object([
      "plan": .string(path), "output": .string(outcome.plan.output), "method": .string(outcome.methodName),
      "parts": .array(parts),
    ])
  }
}
