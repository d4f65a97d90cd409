import OTContainer
import OTFoundation
import OTModel
import OTQ

extension FileSummary {
  /// The table for people.
  var text: String {
    var table = TextTable([
      ("tensor", .left), ("shape", .left), ("stored as", .left), ("bytes", .right), ("bits/weight", .right),
      ("SQNR dB", .right), ("max err/step", .right),
    ])
    for tensor in file.container.tensors {
      table.append([
        Refusal.printable(tensor.name), tensor.shape.description, Refusal.printable(tensor.storageDescription),
        "\(file.container.storedByteCount(of: tensor))", bitsPerWeight(tensor).map { fixed($0, 3) } ?? "–",
        tensor.error.map { $0.sqnrDecibels.map { fixed($0, 2) } ?? "∞" } ?? "",
        tensor.error.map { fixed($0.maximumInSteps, 4) } ?? "",
      ])
    }
    let method = file.container.metadata["method"]?["name"]?.string ?? "–"
    let family = file.container.metadata["family"]?.string ?? "unknown"
    let model = "family \(family), method \(method), \(file.container.tensors.count) tensors"
    let held = requirementLine.map { ["held before it was written: \(Refusal.printable($0))"] } ?? []
    let lines = [model] + held + (file.graph?.siteLines ?? [])
    return table.text + "\n\n" + (lines + [headline]).joined(separator: "\n")
  }
}
