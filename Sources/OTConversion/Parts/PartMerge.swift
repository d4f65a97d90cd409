import OTContainer
import OTExport
import OTFoundation
import OTJSON
import OTModel

/// Puts the parts of a conversion together: the file that one machine would have written, byte for byte.
package struct PartMerge {
  private let plan: PartedPlan
  private let parts: [Container]
  private let sources: [FileRecord]

  /// Opens the parts and checks that all are there, that they are of this plan and that they agree on its sources.
  ///
  /// - Throws: `Refusal` with rule `merge-part-missing`, `merge-other-plan`, `merge-part`, `merge-sources`,
  ///   `merge-rounding` or `statistics-other-model`, or as opening an `.otq` file throws.
  package init(_ plan: PartedPlan) throws {
    self.plan = plan
    parts = try (0..<plan.partCount).map { try PartMerge.part($0, of: plan) }
    sources = try PartMerge.sources(parts, plan)
    try checkRounding()
  }

  private static func part(_ part: Int, of plan: PartedPlan) throws -> Container {
    let path = plan.path(ofPart: part)
    let command = plan.command(forPart: part)
    let container: Container
    do {
      container = try Container(path: path)
    } catch let refusal as Refusal where refusal.rule == "file-missing" {
      throw Refusal(
        "merge-part-missing", "part \(part + 1) of \(plan.partCount) is not there", file: path,
        remedy: "make it with '\(command)'")
    }
    func refuse(_ rule: String, _ message: String) -> Refusal {
      Refusal(rule, message, file: path, remedy: "make it again with '\(command) --force'")
    }
    let record = container.metadata["part"]
    guard record?["plan"]?.string == plan.file?.sha256, container.metadata["producer"]?.string == plan.producer else {
      throw refuse("merge-other-plan", record == nil ? "is no part of a conversion" : "is a part of another plan")
    }
    guard record?["number"]?.integer == part + 1, container.tensors.map(\.name) == plan.names(ofPart: part) else {
      throw refuse("merge-part", "does not hold part \(part + 1)")
    }
    return container
  }

  /// Each part that rounds by text has gone on from the values that the one before it has left.
  private func checkRounding() throws {
    guard plan.isSequential else { return }
    var written: JSONValue?
    for (index, part) in parts.enumerated() {
      guard let rounding = part.metadata["part"]?["rounding"] else {
        throw plan.refusal(
          "merge-rounding", "part \(index + 1) does not say what its rounding went on from", file: part.file.path,
          remedy: "make it again with '\(plan.command(forPart: index)) --force'")
      }
      // A part without such weights passes nothing on.
      guard rounding["read"] != nil || rounding["written"] != nil else { continue }
      guard rounding["read"] == written else {
        throw plan.refusal(
          "merge-rounding", "part \(index + 1) went on from other values than the part before it has left",
          file: part.file.path,
          remedy: "make it again with '\(plan.command(forPart: index)) --force', and those after it"
        )
      }
      written = rounding["written"]
    }
  }

  /// The metadata of the whole.
  private var record: JSONObject {
    var record = plan.record
    record["sources"] = .array(sources.map(\.json))
    let unreached = parts.flatMap { $0.metadata["part"]?["rounding"]?["unreached"]?.array ?? [] }
    if !unreached.isEmpty, var method = record["method"]?.object, var rounding = method["rounding"]?.object {
      rounding["unreached"] = .array(unreached)
      method["rounding"] = .object(rounding)
      record["method"] = .object(method)
    }
    return record
  }

  /// The records of all sources: a file has been read by one part or several, which must have seen the same.
  private static func sources(_ parts: [Container], _ plan: PartedPlan) throws -> [FileRecord] {
    var digests = [String?](repeating: nil, count: plan.checkpointFileCount)
    for part in parts {
      for entry in part.metadata["part"]?["sources"]?.array ?? [] {
        guard let position = entry["position"]?.integer, digests.indices.contains(position),
          let digest = entry["sha256"]?.string
        else { continue }
        let source = plan.sources[position]
        guard digests[position] ?? digest == digest else {
          throw plan.refusal(
            "merge-sources", "parts were made of files '\(Refusal.printable(source.name))' that differ",
            file: part.file.path, remedy: "make all parts again of one checkpoint, with --force")
        }
        digests[position] = digest
      }
    }
    if let expected = plan.expectedDigests, digests.compactMap({ $0 }).sorted() != expected {
      throw plan.refusal(
        "statistics-other-model",
        "its statistics or recipe were made from other files than the parts: their SHA-256 differ",
        remedy: "run 'otconvert calibrate' on this model, and plan again")
    }
    return try plan.sources.enumerated().map { position, source in
      guard position < digests.count else { return source }
      guard let digest = digests[position] else {
        throw plan.refusal(
          "merge-sources", "no part has read the file '\(Refusal.printable(source.name))'",
          remedy: "make all parts again, with --force")
      }
      return FileRecord(name: source.name, byteCount: source.byteCount, sha256: digest)
    }
  }

  /// Writes the file; it appears whole or not at all, and the parts stay.
  ///
  /// - Parameter work: keeps what has been written, and has what an earlier process has written.
  /// - Throws: `Refusal` with a rule `output-…`, or `otq-checksum` for a part that is damaged.
  package func run(
    compression: Compression, force: Bool, keptBy work: ResumableWork? = nil, progress: Converter.Progress? = nil
  ) throws {
    let inputs = parts.map(\.file.identity) + FileIdentity.all([plan.file?.path].compactMap { $0 })
    let writer = try ContainerWriter(
      path: plan.output, force: force, inputs: inputs, encoder: ChunkEncoder(compression), work: work)
    for part in parts { try writer.addAttachments(of: part) }
    let total = parts.reduce(0) { $0 + $1.file.byteCount }
    // The tensors of a part are in the order of the whole.
    var next = [Int](repeating: 0, count: parts.count)
    let adopted = try writer.adopt(plan.tensors.map(\.name)).count
    for (index, (_, part)) in plan.tensors.enumerated() {
      defer { next[part] += 1 }
      guard index >= adopted else { continue }
      try writer.add(parts[part].tensors[next[part]], of: parts[part])
      try writer.keep()
      try progress?(min(writer.byteCount, total), total)
    }
    try writer.commit(metadata: record)
    try progress?(total, total)
  }
}
