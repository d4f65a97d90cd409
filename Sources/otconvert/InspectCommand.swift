import ArgumentParser
import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import OTModel
import OTQ

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "List the tensors of an .otq file or of a checkpoint.",
    discussion: """
      EXAMPLES
        otconvert inspect model.otq
        otconvert inspect model.otq --json
        otconvert inspect model.safetensors
      """)

  @Argument(help: "An .otq file or a checkpoint.", completion: .file()) var input: String
  @OptionGroup var messages: OutputArguments

  func run() throws {
    if PackedModel.recognizes(path: input) {
      let summary = FileSummary(try PackedModel(path: input))
      try messages.result(summary.text, json: summary.json)
    } else {
      try inspectCheckpoint()
    }
  }

  private func inspectCheckpoint() throws {
    let checkpoint = try Checkpoint.open(input)
    checkpoint.warnings.forEach(messages.warn)
    try messages.result(text(checkpoint), json: json(checkpoint))
  }

  private func json(_ checkpoint: Checkpoint) -> JSONValue {
    .object([
      "format": .string(checkpoint.format.rawValue), "files": .array(checkpoint.files.map { .string($0.name) }),
      "tensors": .array(
        checkpoint.tensors.map { view in
          .object([
            "name": .string(view.name), "shape": .array(view.shape.dimensions.map { .integer($0) }),
            "dtype": .string(view.elementType.rawValue), "byteCount": .integer(view.byteCount),
          ])
        }),
    ])
  }

  private func text(_ checkpoint: Checkpoint) -> String {
    var table = TextTable([("tensor", .left), ("shape", .left), ("type", .left), ("bytes", .right)])
    for view in checkpoint.tensors {
      table.append([
        Refusal.printable(view.name), view.shape.description, view.elementType.rawValue, "\(view.byteCount)",
      ])
    }
    let total = checkpoint.tensors.reduce(0) { $0 + $1.byteCount }
    return table.text
      + "\n\n\(checkpoint.format.rawValue), \(checkpoint.tensors.count) tensors, \(byteText(total))"
  }
}
