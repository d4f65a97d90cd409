import OTFoundation
import OTGraph
import OTQuantization
import OTTensor

/// A tensor of the source on its way to its variable.
struct CTranslate2Tensor: Sendable {
  let source: SourceEntry
  let place: CTranslate2Layout.Place
  let module: QuantizedModule?
  let type: CTranslate2Variable.Kind
  let elementType: ElementType
  let isDequantized: Bool

  /// Rows of the variable.
  var rowCount: Int { source.entry.shape.rowCount - place.skipped }

  init(
    _ source: SourceEntry, _ place: CTranslate2Layout.Place, of model: ExportedModel, floatType: ElementType
  ) throws {
    var module: QuantizedModule?
    var isDequantized = false
    if place.skipped == 0, source.parts.contains(where: { $0.tensor.scheme != nil }) {
      let quantized = try QuantizedModule(source, of: model)
      let isBlock = source.parts.contains { $0.tensor.use?.linearRole == .block }
      if quantized.scheme.granularity != .perChannel {
        throw Refusal(
          "export-groups", "CTranslate2 has one scale for a row", file: model.path, tensor: source.entry.name,
          remedy: "leave out --group-size")
      }
      if quantized.fitsSignedBytes {
        module = quantized
      } else if isBlock {
        throw quantized.signedBytesRefusal(of: model)
      } else {
        isDequantized = true
      }
    }
    guard source.isOfRows else {
      throw Refusal(
        "export-layout", "is not stored row by row, as the format has it", file: model.path, tensor: source.entry.name,
        remedy: "export it --to safetensors")
    }
    var made = source
    made.parts = source.parts.map { part in
      var tensor = part.tensor
      if module == nil { tensor.content = .plain(.f32) }
      return SourceEntry.Part(tensor: tensor, place: part.place)
    }
    (self.source, self.place, self.module, self.isDequantized) = (made, place, module, isDequantized)
    elementType = [.f16, .bf16].contains(floatType) ? floatType : .f32
    type = module != nil ? .i8 : elementType == .f16 ? .f16 : elementType == .bf16 ? .bf16 : .f32
  }

  /// Rows of a part, from `rows` on, with their places in a variable.
  func placed(_ name: String, _ bytes: [UInt8], _ rows: Range<Int>, of tensor: ExportedTensor) -> [PlacedBytes] {
    let first = source.firstRow(of: tensor) + rows.lowerBound
    if let order = place.order {
      return PlacedBytes.rows(name, bytes, from: first, count: rows.count, order, of: source.entry.shape.rowCount)
    }
    let skipped = max(0, min(rows.count, place.skipped - first))
    guard skipped < rows.count else { return [] }
    let size = bytes.count / rows.count
    return [
      PlacedBytes(
        name: name, offset: (place.firstRow + first + skipped - place.skipped) * size,
        bytes: Array(bytes[(skipped * size)...]))
    ]
  }
}

/// Encodes blocks of CTranslate2's variables.
struct CTranslate2Encoder: TensorEncoder {
  let tensors: [String: CTranslate2Tensor]

  /// Encodes rows of a quantized tensor.
  func encode(_ rows: QuantizedRows, of tensor: ExportedTensor) throws -> [PlacedBytes] {
    guard let made = tensors[tensor.name], let module = made.module else {
      preconditionFailure("asked for other quantized tensors")
    }
    let inverses = rows.scales.map { 1 / $0 }.withUnsafeBytes { Array($0) }
    return made.placed(made.place.name, module.signedBytes(rows), rows.rows, of: tensor)
      + made.placed(made.place.name + "_scale", inverses, rows.rows, of: tensor)
  }

  /// Encodes rows of another tensor.
  func encode(
    _ bytes: UnsafeRawBufferPointer, rows: Range<Int>, of tensor: ExportedTensor
  ) throws -> [PlacedBytes] {
    guard let made = tensors[tensor.name] else { preconditionFailure("asked for other tensors") }
    let encoded = try FloatBytes.with(
      FloatBytes.floats(bytes), as: made.elementType, of: tensor.name, in: nil, remedy: "use --dtype f32"
    ) { Array($0) }
    return made.placed(made.place.name, encoded, rows, of: tensor)
  }
}
