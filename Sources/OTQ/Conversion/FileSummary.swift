import OTContainer
import OTFoundation
import OTJSON
import OTModel
import OTVerify

/// Sizes and errors of an `.otq` file, as `inspect` and `convert` print them.
package struct FileSummary: Sendable {
  /// The file.
  package let file: PackedModel

  /// A summary of a file.
  package init(_ file: PackedModel) { self.file = file }

  private var container: Container { file.container }

  /// Bits that an element of the tensor takes in the file, scales and all.
  package func bitsPerWeight(_ tensor: StoredTensor) -> Double? {
    guard tensor.shape.elementCount > 0 else { return nil }
    return Double(container.storedByteCount(of: tensor) * 8) / Double(tensor.shape.elementCount)
  }

  private func sums(_ tensors: [StoredTensor]) -> (elements: Int, bytes: Int) {
    tensors.reduce((0, 0)) { ($0.0 + $1.shape.elementCount, $0.1 + container.storedByteCount(of: $1)) }
  }

  private var sourceByteCount: Int {
    container.tensors.reduce(0) { sum, tensor in
      guard let source = tensor.source else { return sum }
      if case .alias = tensor.content { return sum }
      return sum + tensor.shape.elementCount * source.elementType.bitWidth / 8
    }
  }

  /// Size, size of the source, and bits per weight, in a line.
  package var headline: String {
    let size = container.file.byteCount
    let source = sourceByteCount
    let ratio = source > 0 ? fixed(Double(size) / Double(source) * 100, 1) : "–"
    return "\(byteText(size)), \(ratio) % of \(byteText(source)); "
      + "linears \(fixed(file.linearBitsPerWeight, 3)) bits per weight"
  }

  /// The facts of the file in a report, names and values.
  package var facts: [(name: String, value: String)] {
    func text(_ value: JSONValue?) -> String { value?.string ?? "–" }
    var facts: [(name: String, value: String)] = [
      ("family", text(container.metadata["family"])), ("method", text(container.metadata["method"]?["name"])),
    ]
    var schemes: [String: Int] = [:]
    for tensor in file.blockWeights { schemes[tensor.storageDescription, default: 0] += 1 }
    let byCount = schemes.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    facts.append(("weights of linears", byCount.map { "\($0.key) (\($0.value))" }.joined(separator: ", ")))
    facts.append(("bits per weight of linears", fixed(file.linearBitsPerWeight, 3)))
    facts.append(("size", headline))
    if let held = requirementLine { facts.append(("held before it was written", held)) }
    facts.append(("written by", text(container.metadata["producer"])))
    return facts
  }

  /// What the file had to hold, and what was measured; nil where nothing was required.
  package var requirementLine: String? {
    let measured = container.metadata["requirements"]?["measured"]?.array ?? []
    let texts = measured.compactMap { entry in
      entry["requirement"]?.string.map { text in
        text + (entry["value"]?.double.map { ": " + fixed($0, abs($0) < 0.1 ? 5 : 4) } ?? "")
      }
    }
    return texts.isEmpty ? nil : texts.joined(separator: ", ")
  }

  /// Totals as JSON.
  package func totals(adding members: JSONObject = [:]) -> JSONValue {
    let all = sums(container.tensors)
    var result: JSONObject = [
      "file": .string(file.path), "byteCount": .integer(container.file.byteCount),
      "sourceByteCount": .integer(sourceByteCount), "tensorCount": .integer(container.tensors.count),
      "storedTensorByteCount": .integer(all.bytes),
      "linearWeightCount": .integer(sums(file.blockWeights).elements),
      "linearBitsPerWeight": .number(file.linearBitsPerWeight),
    ]
    for (key, value) in members.members { result[key] = value }
    return .object(result)
  }

  /// Everything as JSON.
  package var json: JSONValue {
    var members: JSONObject = [:]
    for key in [
      "producer", "sourceFormat", "sourceQuantization", "family", "method", "options", "requirements", "sources",
    ] {
      if let value = container.metadata[key] { members[key] = value }
    }
    members["attachments"] = .array(container.attachmentNames.map { .string($0) })
    members["tensors"] = .array(
      container.tensors.map { tensor in
        var entry: JSONObject = [
          "name": .string(tensor.name), "shape": .array(tensor.shape.dimensions.map { .integer($0) }),
          "storage": .string(tensor.storageDescription),
          "storedByteCount": .integer(container.storedByteCount(of: tensor)),
        ]
        if let scheme = tensor.scheme { entry["bits"] = .integer(scheme.bits) }
        if let bits = bitsPerWeight(tensor) { entry["bitsPerWeight"] = .number(bits) }
        if let error = tensor.error {
          entry["sqnrDecibels"] = error.sqnrDecibels.map { .number($0) } ?? .null
          entry["maximumErrorInSteps"] = .number(error.maximumInSteps)
        }
        if let source = tensor.source { entry["source"] = .string("\(source.name) \(source.elementType.rawValue)") }
        return .object(entry)
      })
    return totals(adding: members)
  }
}
