import OTCheckpoint
import OTExport
import OTFoundation
import OTJSON
import OTModel

extension Converter {
  /// Writes one of the parts of a plan: an `.otq` file of its tensors alone, which `PartMerge` takes.
  ///
  /// - Parameters:
  ///   - part: its number, from 0.
  ///   - rounding: what its rounding went on from and left, where its weights are rounded by text.
  /// - Throws: as `run(to:)`; `Refusal` with rule `plan-differs` or `plan-source-changed` where the plan is of
  ///   something else than this conversion.
  @discardableResult
  package func run(
    part: Int, of parted: PartedPlan, rounding: PartRounding.Record? = nil, force: Bool, progress: Progress? = nil
  ) throws -> Outcome {
    try parted.check(plan)
    let names = parted.names(ofPart: part)
    let planFile = FileIdentity.all([parted.file?.path].compactMap { $0 })
    var output = ExportOutput(path: parted.path(ofPart: part), force: force, inputs: plan.inputs + planFile)
    output.compression = plan.options.compression
    let writer = OTQWriter(output)
    writer.part = OTQWriter.Part(names: names, hasFiles: part == 0)
    let positions = positions(ofSourcesOf: Set(names), part: part, partCount: parted.partCount)
    let files = positions.map { (plan.checkpoint.files[$0].name, plan.checkpoint.files[$0].mapped) }
    return try write(into: writer, hashing: files, progress: progress) { records in
      let sources = zip(positions, records).map { position, record in
        JSONValue.object(["position": .integer(position), "sha256": .string(record.sha256)])
      }
      var members: JSONObject = [
        "plan": parted.file.map { .string($0.sha256) } ?? .null, "number": .integer(part + 1),
        "count": .integer(parted.partCount), "sources": .array(sources),
      ]
      members["rounding"] = rounding?.json
      return ["producer": .string(Converter.producer), "part": .object(members)]
    }
  }

  /// The checkpoint's files of which a part takes the digests: those that its tensors come from, and of the others each
  /// part some.
  private func positions(ofSourcesOf names: Set<String>, part: Int, partCount: Int) -> [Int] {
    let files = plan.checkpoint.files
    // Rotated tensors lie in a file that was made of any of the checkpoint's.
    let isMade = plan.tensors.contains { tensor in
      guard let identity = tensor.view?.file.identity else { return false }
      return !files.contains { $0.mapped.identity.isSameFile(as: identity) }
    }
    return files.indices.filter { index in
      isMade || index % partCount == part
        || plan.tensors.contains { tensor in
          guard let identity = tensor.view?.file.identity, names.contains(tensor.outputName) else { return false }
          return files[index].mapped.identity.isSameFile(as: identity)
        }
    }
  }
}
