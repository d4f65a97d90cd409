import OTCheckpoint
import OTConversion
import OTFoundation
import OTJSON

/// What a model file says about itself.
public struct ModelMetadata: Sendable, Hashable {
  /// A file that the model was converted from.
  public struct Source: Sendable, Hashable {
    /// Its path relative to the model's folder.
    public let name: String
    /// Its size in bytes.
    public let byteCount: Int
    /// SHA-256 of its content, 64 lower-case hexadecimal digits.
    public let sha256: String
  }

  /// `_name_or_path` of the model's configuration where that is given, else the
  /// name of the file or folder.
  public let name: String
  /// `opt`, `bloom`, `llama`, `bert`; nil when it is not known.
  public let family: String?
  /// Distinct bit widths of the quantized tensors, ascending; empty for a checkpoint.
  public let weightBits: [Int]
  /// How activations were quantized: `outliertune`, `per-token`, `weights-only`; nil for a checkpoint.
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
  /// What the file says about itself.
  ///
  /// - Throws: ``Refusal`` for a configuration that cannot be read (`json-…`, `otq-…`).
  public func metadata() throws(Refusal) -> ModelMetadata {
    try refusing {
      let configured = try json(.configuration)?["_name_or_path"]?.string
      let graph = try? graph()
      var metadata = JSONValue.null
      if case .packed(let file) = content { metadata = file.container.metadata }
      return ModelMetadata(
        name: configured.flatMap { $0.isEmpty ? nil : $0 } ?? fileName,
        family: graph?.family ?? metadata["family"]?.string,
        weightBits: Set(tensors.compactMap(\.bits)).sorted(),
        method: metadata["method"]?["name"]?.string,
        byteCount: files.reduce(0) { $0 + $1.byteCount },
        parameterCount: parameterCount, vocabularySize: graph?.vocabularySize,
        contextLength: graph?.contextLength, producer: metadata["producer"]?.string,
        sources: (metadata["sources"]?.array ?? []).compactMap(ModelMetadata.Source.init))
    }
  }

  private var fileName: String {
    let parts = path.split(separator: "/").filter { $0 != "." }
    return parts.last.map(String.init) ?? path
  }

  private var parameterCount: Int {
    let aliases: Set<String> =
      if case .checkpoint(let checkpoint, _) = content { Set(checkpoint.aliases.keys) } else { [] }
    return tensors.reduce(0) { sum, tensor in
      if case .alias = tensor.storage { return sum }
      return aliases.contains(tensor.name) ? sum : sum + tensor.elementCount
    }
  }
}

extension ModelMetadata.Source {
  fileprivate init?(_ json: JSONValue) {
    guard let name = json["name"]?.string, let byteCount = json["byteCount"]?.integer,
      let sha256 = json["sha256"]?.string
    else { return nil }
    self.init(name: name, byteCount: byteCount, sha256: sha256)
  }
}
