import OTFoundation
import OTJSON
import OTModel

/// The facts that a model file states about itself.
public struct ModelMetadata: Sendable, Hashable {
  /// A file that the model was converted from.
  public typealias Source = FileRecord

  /// `_name_or_path` of the model's configuration where that is given, else the
  /// name of the file or folder.
  public let name: String
  /// `opt`, `bloom`, `llama`, `bert`; nil when it is not known.
  public let family: String?
  /// Distinct bit widths of the quantized tensors, ascending; empty for a checkpoint.
  public let weightBits: [Int]
  /// The method that quantized activations: `outliertune`, `per-token`, `weights-only`; nil for a checkpoint.
  public let method: String?
  /// Bytes of the files that hold the tensors.
  public let byteCount: Int
  /// Number of all parameters; tied ones count once.
  public let parameterCount: Int
  /// Rows of the token embedding; nil when the family is not known.
  public let vocabularySize: Int?
  /// The most tokens of a sequence; nil where there is no limit or it is not known.
  public let contextLength: Int?
  /// Name and version of the program that wrote the file; nil for a checkpoint.
  public let producer: String?
  /// The files that a packed file was made from; empty for a checkpoint.
  public let sources: [Source]
}

extension ModelFile {
  /// The facts that the file states about itself.
  ///
  /// - Throws: ``Refusal`` for a configuration that cannot be read (`json-…`, `otq-…`).
  public func metadata() throws(Refusal) -> ModelMetadata {
    try refusing {
      let configured = try model.json(.configuration)?["_name_or_path"]?.string
      let graph = try? model.graph()
      var metadata = JSONValue.null
      if case .packed(let file) = model { metadata = file.container.metadata }
      return ModelMetadata(
        name: configured.flatMap { $0.isEmpty ? nil : $0 } ?? fileName,
        family: graph?.family ?? metadata["family"]?.string,
        weightBits: Set(tensors.compactMap(\.bits)).sorted(),
        method: metadata["method"]?["name"]?.string,
        byteCount: model.files.reduce(0) { $0 + $1.byteCount },
        parameterCount: parameterCount, vocabularySize: graph?.vocabularySize,
        contextLength: graph?.contextLength, producer: metadata["producer"]?.string,
        sources: (metadata["sources"]?.array ?? []).compactMap(FileRecord.init(json:)))
    }
  }

  private var fileName: String {
    let parts = path.split(separator: "/").filter { $0 != "." }
    return parts.last.map(String.init) ?? path
  }

  private var parameterCount: Int {
    let aliases: Set<String> =
      if case .source(let source) = model { Set(source.checkpoint.aliases.keys) } else { [] }
    return tensors.reduce(0) { sum, tensor in
      if case .alias = tensor.storage { return sum }
      return aliases.contains(tensor.name) ? sum : sum + tensor.elementCount
    }
  }
}
