import OTFoundation
import OTJSON
import OTQ

/// What `plan --parts` prints: what each part takes, and what to do next.
struct PartsReport {
  let outcome: PartsWork.Outcome
  /// The plan's file.
  let path: String

  var text: String {
    let isSequential = outcome.plan.isSequential
    var table = TextTable(
      [
        ("part", .right), ("tensors", .right), ("reads", .right), ("writes about", .right),
        ("processor time", .right), ("memory", .right),
      ] + (isSequential ? [("leaves", .right)] : []))
    for (index, part) in outcome.parts.enumerated() {
      table.append(
        [
          "\(index + 1)", "\(part.tensorCount)", byteText(part.sourceByteCount), byteText(part.storedByteCount),
          PlanCommand.text(seconds: part.processorSeconds),
          byteText(part.byteCount + PlanCommand.conversionByteCount),
        ] + (isSequential ? [byteText(part.passedByteCount)] : []))
    }
    let count = outcome.parts.count
    let order =
      isSequential
      ? "1 to \(count), one after the other: each leaves values for the next"
      : "1 to \(count), on any machine that sees the source"
    return """
      \(table.text)

      \(path): \(outcome.methodName), \(count) parts
      otconvert convert --plan \(path) --part N    # N from \(order)
      otconvert merge --plan \(path)
      """
  }

  var json: JSONValue {
    let parts = outcome.parts.enumerated().map { index, part in
      JSONValue.object([
        "number": .integer(index + 1), "output": .string(outcome.plan.path(ofPart: index)),
        "tensorCount": .integer(part.tensorCount), "sourceByteCount": .integer(part.sourceByteCount),
        "estimatedByteCount": .integer(part.storedByteCount), "processorSeconds": .number(part.processorSeconds),
        "memoryByteCount": .integer(part.byteCount + PlanCommand.conversionByteCount),
        "passedByteCount": .integer(part.passedByteCount),
      ])
    }
    return .object([
      "plan": .string(path), "output": .string(outcome.plan.output), "method": .string(outcome.methodName),
      "isSequential": .bool(outcome.plan.isSequential), "parts": .array(parts),
    ])
  }
}
