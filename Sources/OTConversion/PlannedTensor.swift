import OTCheckpoint
import OTContainer
import OTExport
import OTFoundation
import OTGraph
import OTModel
import OTQuantization
import OTTensor

/// One tensor of the output, and how it is made.
package struct PlannedTensor: Sendable {
  /// The treatment of a tensor's elements.
  package enum Treatment: Sendable {
    /// Transformed and quantized.
    case quantized(QuantizationScheme)
    /// Evaluated as float32: norms, biases, and weights that are transformed but not quantized.
    case evaluated
    /// Converted to another float type, row by row.
    case converted(ElementType)
    /// Carried through byte for byte.
    case unchanged
    /// The same elements as an earlier tensor of the output.
    case alias(of: String)
    /// A vector of the graph's transforms.
    case vector([Float])
  }

  /// Name in the output.
  package let outputName: String
  /// Dimensions, those of the source where there is one.
  package let shape: Shape
  /// The source; nil for what conversion brings into being.
  package let view: TensorView?
  /// Dimensions of the source's whole tensor, of which `view` may be a part or the transpose.
  package var sourceShape: Shape?
  /// The graph's use of it; nil for tensors that no node uses.
  package let use: ParameterUse?
  /// The treatment of its elements.
  package let treatment: Treatment
  /// The rule that makes its weights quantized values, where they become such.
  package var rounding: any RoundingRule = NearestRounding()

  /// True when the model needs its elements: NaN and infinity in it are refused, elsewhere named.
  package var requiresFinite = true

  /// True when it is the weight of a linear inside a block.
  package var isBlockWeight: Bool { use?.role == .weight && use?.linearRole == .block }

  /// The source's rows as float32, after what migration does to them.
  ///
  /// - Throws: as `TransformedRows`.
  package func rows(of view: TensorView) throws -> TransformedRows {
    let constant = use?.tensor?.constant ?? 0
    guard let use, use.role == .weight else { return try TransformedRows(view: view, constant: constant) }
    return try TransformedRows(
      view: view, constant: constant, input: use.input, inputRotation: use.inputRotation, output: use.output)
  }

  /// True when the elements are the source's own.
  var keepsElements: Bool { use?.isUnchanged ?? true }

  /// The description of it for writers.
  package var exported: ExportedTensor {
    let content: ExportedTensor.Content =
      switch treatment {
      case .alias(let target): .alias(of: target)
      case .quantized(let scheme): .quantized(scheme, rounding.kind)
      case .evaluated, .vector: .plain(.f32)
      case .converted(let type): .plain(type)
      case .unchanged: .plain(view?.elementType ?? .f32)
      }
    return ExportedTensor(
      name: outputName, shape: shape, content: content, use: use,
      source: view.map {
        StoredTensor.Source(
          name: $0.name, elementType: $0.elementType, shape: sourceShape == shape ? nil : sourceShape)
      })
  }
}

extension ConversionPlan {
  /// The description of the model for writers, with the files that go with it.
  ///
  /// - Throws: `Refusal` with a rule `file-…`, `json-…` or `tokenizer-…` for one that cannot be read.
  package func exported() throws -> ExportedModel {
    let made = try madeTokenizer().map { ExportedFile(name: ModelAttachments.Kind.tokenizer.rawValue, bytes: $0) }
    return ExportedModel(
      path: checkpoint.files.first?.path ?? "", graph: graph, tensors: tensors.map(\.exported),
      files: try attachedFiles().map { ExportedFile(name: $0.name, $0.file) } + (made.map { [$0] } ?? []))
  }

  /// The tokenizer.json of a model with older files; nil where it has one, or files that are not read.
  private func madeTokenizer() throws -> [UInt8]? {
    do {
      return try model.madeTokenizer()
    } catch let refusal as Refusal where refusal.rule == "tokenizer-unsupported" {
      return nil
    }
  }

  /// The files beside the checkpoint: what they hold, or as `open` gives them.
  func attachedFiles(
    _ open: (ModelAttachments, ModelAttachments.Kind) throws -> MappedFile? = { try $0.file($1) }
  ) throws -> [(name: String, file: MappedFile)] {
    let attachments = checkpoint.attachments
    return try ModelAttachments.Kind.allCases.compactMap { kind in
      try open(attachments, kind).map { (attachments.name(of: kind), $0) }
    }
  }
}
