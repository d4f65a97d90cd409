import OTCheckpoint
import OTContainer
import OTFoundation
import OTGraph
import OTJSON
import OTTensor

/// A tensor on its way to a writer: what it is, not yet its elements.
package struct ExportedTensor: Sendable {
  /// The form of its elements.
  package enum Content: Sendable, Hashable {
    /// Quantized values with scales.
    case quantized(QuantizationScheme, RoundingKind)
    /// Elements of this type, row-major.
    case plain(ElementType)
    /// The elements of another tensor.
    case alias(of: String)
  }

  /// Unique within the model.
  package let name: String
  /// Dimensions, `[out, in]` for a weight.
  package let shape: Shape
  /// The form of its elements.
  package var content: Content
  /// What whoever reads the format adds to each element: plain elements are written less this.
  package var constant: Float = 0
  /// The graph's use of it; nil for a tensor that no node uses.
  package let use: ParameterUse?
  /// The source's tensor that it was made of; nil for what conversion created.
  package let source: StoredTensor.Source?

  /// A tensor as given.
  package init(name: String, shape: Shape, content: Content, use: ParameterUse?, source: StoredTensor.Source?) {
    (self.name, self.shape, self.content, self.use, self.source) = (name, shape, content, use, source)
  }

  /// The element type of a tensor that is not quantized; nil for others.
  package var plainType: ElementType? { if case .plain(let type) = content { type } else { nil } }

  /// The scheme of its quantized values; nil for others.
  package var scheme: QuantizationScheme? { if case .quantized(let scheme, _) = content { scheme } else { nil } }

  /// Bytes that it takes in an `.otq` file: expected with zstd, exact without.
  package func storedByteCount(_ compression: Compression) -> Int {
    switch content {
    case .alias: return 0
    case .plain(let type): return type.byteCount(elementCount: shape.elementCount) ?? 0
    case .quantized(let scheme, _):
      let layout = TileLayout(rowCount: shape.rowCount, columnCount: shape.rowElementCount)
      let scales = scheme.scaleCount(rowCount: layout.rowCount, columnCount: layout.columnCount)
      let scaleByteCount = scales * (scheme.isSymmetric ? 4 : 5)
      if case .none = compression { return layout.packedByteCount(bits: scheme.bits) + scaleByteCount }
      return Int(Double(shape.elementCount) * ExportedTensor.expectedBits(scheme) / 8) + scaleByteCount
    }
  }

  /// Bits that zstd leaves of a quantized value: what weights of real models carry (per channel,
  /// measured: 5.4 of 6 and 7.4 of 8 asymmetric, 5.2 and 7.25 symmetric).
  private static func expectedBits(_ scheme: QuantizationScheme) -> Double {
    Double(scheme.bits) - (scheme.isSymmetric ? 0.8 : 0.6)
  }
}

/// A file that goes with a model, such as `config.json`.
package struct ExportedFile: Sendable {
  private enum Content: Sendable {
    case mapped(MappedFile)
    case bytes([UInt8])
  }

  /// Path relative to the model's folder.
  package let name: String
  private let content: Content

  /// A file on disk.
  package init(name: String, _ file: MappedFile) { (self.name, content) = (name, .mapped(file)) }

  /// A file of these bytes.
  package init(name: String, bytes: [UInt8]) { (self.name, content) = (name, .bytes(bytes)) }

  /// The value of a file of JSON.
  ///
  /// - Throws: `Refusal` with a rule `json-…`.
  package func json(_ limits: JSONLimits = .configuration) throws -> JSONValue {
    try withBytes { try JSONValue.parse($0, limits: limits, file: name) }
  }

  /// Calls `body` with its bytes.
  package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    switch content {
    case .mapped(let file): try withExtendedLifetime(file) { try body(file.bytes) }
    case .bytes(let bytes): try bytes.withUnsafeBytes(body)
    }
  }
}

extension Graph {
  /// True where tokens are sent to experts.
  var hasExperts: Bool { nodes.contains { if case .mixture = $0.operation { true } else { false } } }
}

/// A model on its way to a writer.
package struct ExportedModel: Sendable {
  /// Its path, for refusals.
  package let path: String
  /// The graph, as far as it is known.
  package let graph: Graph?
  /// All tensors; weights precede the biases of their nodes.
  package let tensors: [ExportedTensor]
  /// The files that go with it.
  package let files: [ExportedFile]

  /// A model as given.
  package init(path: String, graph: Graph?, tensors: [ExportedTensor], files: [ExportedFile]) {
    (self.path, self.graph, self.tensors, self.files) = (path, graph, tensors, files)
  }

  /// The names of tensors that have the elements of another.
  var aliases: Set<String> {
    Set(tensors.compactMap { tensor in if case .alias = tensor.content { tensor.name } else { nil } })
  }

  /// The file of that name; nil where there is none.
  package func file(_ kind: ModelAttachments.Kind) -> ExportedFile? { files.first { $0.name == kind.rawValue } }

  /// The contents of config.json.
  ///
  /// - Throws: `Refusal` with rule `export-config` where there is none, or a rule `json-…`.
  package func configuration() throws -> JSONObject {
    guard let object = try file(.configuration)?.json().object else {
      throw Refusal(
        "export-config", "has no config.json, without which nothing can load what is exported", file: path,
        remedy: "put it beside the checkpoint")
    }
    return object
  }

  /// What to do where a program does not know this kind of model.
  var otherFormats: String {
    "export it --to safetensors" + (graph?.hasExperts == true ? "" : " or compressed-tensors")
  }

  /// The quantization of the value that the linear called `node` reads.
  package func activation(ofInputOf node: String) -> ActivationQuantization {
    (graph?[node]?.inputs.first).flatMap { graph?.activations[$0] } ?? .float
  }
}
