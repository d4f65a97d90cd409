import OTFoundation
import OTTensor

extension CheckpointContents {
  /// The contents of a GGUF file, or of the set of which it is the first.
  ///
  /// - Parameter others: the other files of the set, in their order; nil: those that lie beside it are looked for.
  /// - Throws: `Refusal` with a rule `gguf-…` or `file-…`.
  init(gguf mapping: MappedFile, others: [MappedFile]? = nil) throws {
    let first = try GGUFFile(mapping)
    let count = first.values["split.count"]?.integer ?? 1
    let files = try [first] + (others ?? Self.others(of: first, count: count)).map(GGUFFile.init)
    guard files.count == max(count, 1) else {
      throw first.refusal("gguf-split", "is one of \(count) files, \(files.count) are there")
    }
    if count > 1 {
      for (index, file) in files.enumerated() {
        guard file.values["split.no"]?.integer == index, file.values["split.count"]?.integer == count else {
          throw file.refusal("gguf-split", "is not number \(index + 1) of \(count) files")
        }
      }
      let tensorCount = files.reduce(0) { $0 + $1.tensors.count }
      if let wanted = first.values["split.tensors.count"]?.integer, wanted != tensorCount {
        throw first.refusal("gguf-split", "its files have \(tensorCount) tensors together, not \(wanted)")
      }
    }
    let model = try GGUFModel(files)
    self.init(
      format: .gguf, tensors: model.tensors, files: files.map { SourceFile($0.mapping) }, warnings: [])
    made[.configuration] = Array(try model.configuration().text(pretty: true).utf8)
    made[.pooling] = model.pooling
    quantization = model.quantization
    if let tokenizer = try GGUFTokenizer(first) {
      let (files, reason) = try tokenizer.files()
      made.merge(files) { $1 }
      if let reason { warnings.append(Refusal.printable("\(mapping.path): its tokenizer is not read: \(reason)")) }
    }
    if let quantization {
      warnings.append("the checkpoint is quantized already (\(quantization)): it is made float again, with its errors")
    }
  }

  /// The files that the name of the first of a set counts.
  private static func others(of first: GGUFFile, count: Int) throws -> [MappedFile] {
    guard count > 1 else { return [] }
    let path = first.mapping.path
    guard count <= GGUFLimits.splitCount, let number = ShardNumber(path.lastPathComponent), number.count == count
    else {
      throw first.refusal(
        "gguf-split", "is one of \(count) files, and its name does not say which",
        remedy: "name the files as they were: …-00001-of-\(count).gguf")
    }
    guard number.index == 1 else {
      throw first.refusal(
        "gguf-split", "is number \(number.index) of \(count) files", remedy: "give the path of the first")
    }
    func digits(_ value: Int) -> String { String(repeating: "0", count: max(0, 5 - "\(value)".count)) + "\(value)" }
    return try (2...count).map { index in
      let name = "\(number.prefix)\(digits(index))-of-\(digits(count)).gguf"
      do {
        return try MappedFile(path: path.parentPath.appendingPathComponent(name))
      } catch let refusal as Refusal where refusal.rule == "file-missing" {
        throw first.refusal("gguf-split", "'\(name)' is not there", remedy: "download all files of the set")
      }
    }
  }
}

extension GGUFModel {
  /// The configuration of the module that makes one vector of those of a text's tokens; nil where none is stated.
  fileprivate var pooling: [UInt8]? {
    guard architecture.isEncoder, let type = key("pooling_type")?.integer, (1...2).contains(type) else {
      return nil
    }
    return Array(
      """
      {"pooling_mode_cls_token": \(type == 2), "pooling_mode_mean_tokens": \(type == 1)}

      """.utf8)
  }
}
