import Foundation
import OTCheckpoint
import OTContainer
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTTensor

/// Writes the tensors of an `.otq` file as safetensors with the names and
/// types of the source: dequantized, transformations undone.
///
/// Weights become `rowScale · Ŵ / columnScale`; a bias that took up `W·z`
/// gives back `Ŵ·z` of the weights as they are now, so that the float function
/// of the result is that of the packed file. A bias that migration brought into
/// being has no place in the source's layout and is left out, and with it the
/// remainder `(W − Ŵ)·z` that it holds.
package struct Unpacker: Sendable {
  /// The file to unpack.
  package let file: PackedModel

  /// An unpacker of a file.
  package init(_ file: PackedModel) { self.file = file }

  /// Tensors that are written, with their sources.
  private var written: [(tensor: StoredTensor, source: StoredTensor.Source)] {
    file.container.tensors.compactMap { tensor in tensor.source.map { (tensor, $0) } }
  }

  /// Names of parameters that migration created and that the
  /// source's layout cannot hold: RMSNorm and LLaMA's linears have no bias.
  package var leftOut: [String] {
    file.container.tensors.filter { $0.source == nil && file.uses[$0.name] != nil }.map(\.name)
  }

  /// Writes the safetensors file; it appears whole or not at all.
  ///
  /// - Throws: `Refusal` with a rule `output-…`, `otq-…` or `value-overflow`.
  package func run(
    to path: String, force: Bool = false, progress: ((Int, Int) -> Void)? = nil
  ) throws {
    let written = written
    let entries = written.map {
      SafetensorsWriter.Entry(
        name: $0.source.name, elementType: $0.source.elementType,
        shape: sourceShape(of: $0.tensor))
    }
    let order = SafetensorsWriter.Entry.aligned(entries)
    var writer = try SafetensorsWriter(path: path, entries: order, force: force, inputs: [file.container.file.identity])
    let byName = Dictionary(written.map { ($0.source.name, $0.tensor) }, uniquingKeysWith: { first, _ in first })
    let byteCounts = order.map { $0.shape.elementCount * $0.elementType.bitWidth / 8 }
    let total = byteCounts.reduce(0, +)
    var done = 0
    for (entry, byteCount) in zip(order, byteCounts) {
      guard let tensor = byName[entry.name] else { continue }
      try write(tensor, as: entry, to: &writer)
      done += byteCount
      progress?(done, total)
    }
    try writer.commit()
  }

  private func write(
    _ tensor: StoredTensor, as entry: SafetensorsWriter.Entry, to writer: inout SafetensorsWriter
  ) throws {
    let stored = file.container[tensor.name] ?? tensor
    let use = file.uses[tensor.name]
    switch stored.content {
    case .alias: return
    case .plain(let type):
      if type == entry.elementType, use?.isUnchanged ?? true, !isTransposed(tensor) {
        try file.container.forEachExtent(of: stored) { try writer.append($0) }
        return
      }
      let restored = try use.map { try restoredPlain(stored, $0) } ?? file.container.floats(of: stored)
      try append(isTransposed(tensor) ? transposed(restored, stored.shape) : restored, as: entry, to: &writer)
    case .quantized where isTransposed(tensor):
      var restored: [Float] = []
      restored.reserveCapacity(stored.shape.elementCount)
      try forEachRestoredBlock(stored, use) { restored += $0 }
      try append(transposed(restored, stored.shape), as: entry, to: &writer)
    case .quantized:
      try forEachRestoredBlock(stored, use) { try append($0, as: entry, to: &writer) }
    }
  }

  /// True when the source has the tensor's columns as its rows.
  private func isTransposed(_ tensor: StoredTensor) -> Bool { file.uses[tensor.name]?.tensor?.isTransposed ?? false }

  private func sourceShape(of tensor: StoredTensor) -> Shape {
    guard isTransposed(tensor), let shape = Shape(tensor.shape.dimensions.reversed()) else { return tensor.shape }
    return shape
  }

  /// `values` of a matrix of this shape, column after column.
  private func transposed(_ values: [Float], _ shape: Shape) -> [Float] {
    let (rowCount, columnCount) = (shape.rowCount, shape.rowElementCount)
    return [Float](unsafeUninitializedCapacity: values.count) { buffer, count in
      for column in 0..<columnCount {
        for row in 0..<rowCount { buffer[column * rowCount + row] = values[row * columnCount + column] }
      }
      count = values.count
    }
  }

  // MARK: Undoing

  /// Dequantized rows of a weight with its transforms undone, about 1 MiB at a time.
  func forEachRestoredBlock(_ tensor: StoredTensor, _ use: ParameterUse?, _ body: ([Float]) throws -> Void) throws {
    let scales = try file.container.scales(of: tensor)
    let zeroPoints = try file.container.zeroPoints(of: tensor)
    let layout = tensor.layout
    let step = ChunkEncoder.rowTilesPerChunk(layout)
    for first in stride(from: 0, to: layout.rowTileCount, by: step) {
      let tiles = first..<min(first + step, layout.rowTileCount)
      var values = try file.container.dequantized(tensor, rowTiles: tiles, scales: scales, zeroPoints: zeroPoints)
      if let use { ParameterReader.restore(use, firstRow: layout.rows(of: tiles).lowerBound, &values) }
      try body(values)
    }
  }

  private func restoredPlain(_ tensor: StoredTensor, _ use: ParameterUse) throws -> [Float] {
    var values = try file.container.floats(of: tensor)
    let product = try use.role == .bias ? use.input.shift.map { try shiftProduct(of: use, $0) } : nil
    ParameterReader.restore(use, firstRow: 0, &values, shiftProduct: product)
    return values
  }

  /// Ŵ·z of the weights that unpacking writes.
  private func shiftProduct(of bias: ParameterUse, _ shift: [Float]) throws -> [Float] {
    guard let weight = file.container[bias.weightOutputName] else {
      throw Refusal("otq-graph", "the weight beside this bias is missing", file: file.path, tensor: bias.outputName)
    }
    let use = file.uses[bias.weightOutputName]
    var products: [Float] = []
    func add(_ values: [Float]) { products += ParameterReader.shiftProduct(ofRestored: values, shift: shift) }
    if weight.scheme != nil {
      try forEachRestoredBlock(weight, use, add)
    } else {
      add(try use.map { try restoredPlain(weight, $0) } ?? file.container.floats(of: weight))
    }
    return products
  }

  // MARK: Writing

  private func append(
    _ values: [Float], as entry: SafetensorsWriter.Entry, to writer: inout SafetensorsWriter
  ) throws {
    switch entry.elementType {
    case .f32: try values.withUnsafeBytes { try writer.append($0) }
    case .f64: try values.map(Double.init).withUnsafeBytes { try writer.append($0) }
    default:
      if entry.elementType == .f16, let index = values.firstIndex(where: { !(abs($0) < 65520) }) {
        throw Refusal(
          "value-overflow", "\(values[index]) does not fit float16", file: file.path, tensor: entry.name)
      }
      let bytes = [UInt8](unsafeUninitializedCapacity: values.count * 2) { buffer, count in
        values.withUnsafeBufferPointer {
          Kernels.current.convert(
            $0, to: entry.elementType,
            into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: values.count * 2))
        }
        count = values.count * 2
      }
      try writer.append(bytes)
    }
  }
}
