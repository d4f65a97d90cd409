import OTFoundation
import OTTensor

extension ShardedIndex {
  /// Opens every shard with `openShard` and checks that index and shards agree.
  ///
  /// - Returns: the tensors in the order of shards and of their bytes.
  /// - Throws: `Refusal` with a rule `index-…`, or what `openShard` throws.
  func open(
    _ openShard: (MappedFile) throws -> CheckpointContents
  ) throws -> CheckpointContents {
    let directory = file.path.parentPath
    // Names that look alike are refused like equal ones, here and in `Checkpoint`;
    // what is found must have the bytes that were looked for.
    var listed: [String: String] = [:]
    for (name, _) in locations where listed.updateValue(name, forKey: name) != nil {
      throw Refusal(
        "index-tensor-twice", "looks like another name in the index", file: file.path, tensor: name)
    }
    var found: [String: String] = [:]
    var result: CheckpointContents?
    for name in shardNames {
      let shard = try openShard(try mapShard(name, in: directory))
      for tensor in shard.tensors {
        if let other = found.updateValue(name, forKey: tensor.name) {
          throw Refusal(
            "index-tensor-twice", "is in two shards, '\(other)' and '\(name)'", file: file.path,
            tensor: tensor.name)
        }
        guard let listed = listed[tensor.name], listed.hasSameBytes(as: tensor.name) else {
          throw Refusal(
            "index-tensor-unlisted", "is in shard '\(name)' but not in the index",
            file: file.path, tensor: tensor.name,
            remedy: "use the index that belongs to these shards")
        }
      }
      guard let contents = result else {
        result = shard
        continue
      }
      guard contents.format == shard.format else {
        throw Refusal(
          "index-mixed-formats",
          "shard '\(name)' is of format \(shard.format.rawValue), "
            + "those before it of \(contents.format.rawValue)", file: file.path)
      }
      result = CheckpointContents(
        format: contents.format, tensors: contents.tensors + shard.tensors,
        files: contents.files + shard.files, warnings: contents.warnings + shard.warnings)
    }
    for (tensor, shard) in locations where found[tensor] != shard {
      throw Refusal(
        "index-tensor-absent",
        "is not in shard '\(shard)'" + (found[tensor].map { " but in '\($0)'" } ?? ""),
        file: file.path, tensor: tensor)
    }
    guard let result else { preconditionFailure("an index lists at least one shard") }
    return CheckpointContents(
      format: result.format, tensors: result.tensors, files: [SourceFile(file)] + result.files,
      warnings: result.warnings + sizeWarnings(result.tensors))
  }

  private func mapShard(_ name: String, in directory: String) throws -> MappedFile {
    do {
      return try MappedFile(path: directory.appendingPathComponent(name))
    } catch let refusal as Refusal where refusal.rule == "file-missing" {
      throw Refusal(
        "index-shard-missing", "shard '\(name)' is not there", file: file.path,
        remedy: "download all shards")
    }
  }

  private func sizeWarnings(_ tensors: [TensorView]) -> [String] {
    let byteCount = tensors.reduce(0.0) { $0 + Double($1.byteCount) }
    guard let totalByteCount, totalByteCount != byteCount else { return [] }
    return [
      "\(Refusal.printable(file.path)): total_size is \(totalByteCount.formattedInteger), "
        + "the shards hold \(byteCount.formattedInteger) bytes of tensors"
    ]
  }
}

extension Double {
  /// Without a fraction where there is none.
  fileprivate var formattedInteger: String { Int(exactly: self).map(String.init) ?? "\(self)" }
}
