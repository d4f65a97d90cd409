import OTCheckpoint
import OTFoundation
import OTGraph
import OTTensor

/// A tensor in the names and shapes of the source, and the parameters that it is put together of.
struct SourceEntry: Sendable {
  /// A parameter and its place.
  struct Part: Sendable {
    let tensor: ExportedTensor
    let place: SourcePlace
  }

  let entry: SafetensorsWriter.Entry
  var parts: [Part]

  /// True when blocks of its one part can be written as they come.
  var isStreamed: Bool { parts.count == 1 && parts[0].place.isWhole(of: entry.shape) }

  /// Bytes of the elements.
  var byteCount: Int { entry.shape.elementCount * entry.elementType.bitWidth / 8 }

  /// The source's tensors of a model, in the order in which their first parts come.
  ///
  /// - Parameters:
  ///   - elementType: the type of all floats; nil for each source tensor's own.
  ///   - keepsValues: whether quantized values of a parameter stay such.
  /// - Throws: `Refusal` with rule `export-source` where parameters do not make up their source tensor.
  static func all(
    of model: ExportedModel, elementType: ElementType?, keepsValues: (ExportedTensor) -> Bool = { _ in false }
  ) throws -> [SourceEntry] {
    var entries: [SourceEntry] = []
    var positions: [String: Int] = [:]
    for tensor in model.tensors {
      guard let source = tensor.source else { continue }
      func refusal(_ message: String) -> Refusal {
        Refusal("export-source", message, file: model.path, tensor: source.name)
      }
      let shape = source.shape ?? tensor.shape
      guard let place = (tensor.use?.tensor ?? .named(source.name)).place(in: shape),
        // Without a graph the matrices of a stack are one below the other: the same elements in the same order.
        place.shape == tensor.shape || (tensor.use == nil && shape.joiningRows == tensor.shape)
      else {
        throw refusal("'\(tensor.name)' of shape \(tensor.shape) cannot be a part of shape \(shape)")
      }
      let isFloat = source.elementType.isConvertibleFloat
      let type = isFloat ? elementType ?? source.elementType : source.elementType
      var made = tensor
      if tensor.scheme == nil || !keepsValues(tensor) { made.content = .plain(type) }
      made.constant = tensor.use?.tensor?.constant ?? 0
      let part = Part(tensor: made, place: place)
      guard let position = positions[source.name] else {
        positions[source.name] = entries.count
        entries.append(SourceEntry(entry: .init(name: source.name, elementType: type, shape: shape), parts: [part]))
        continue
      }
      guard entries[position].entry.shape == shape, entries[position].entry.elementType == type else {
        throw refusal("'\(tensor.name)' and others say different things of it")
      }
      entries[position].parts.append(part)
    }
    for entry in entries where !SourcePlace.cover(entry.parts.map(\.place), entry.entry.shape) {
      let names = entry.parts.map { "'\($0.tensor.name)'" }.joined(separator: ", ")
      throw Refusal(
        "export-source", "\(names) do not make it up, each element once", file: model.path, tensor: entry.entry.name)
    }
    return entries
  }
}

/// A source tensor that is put together in memory, since its parts do not come in its order.
struct SourceTensorBuffer {
  let shape: Shape
  let elementByteCount: Int
  private(set) var bytes: [UInt8]

  init(_ entry: SourceEntry) {
    shape = entry.entry.shape
    elementByteCount = entry.entry.elementType.bitWidth / 8
    bytes = [UInt8](repeating: 0, count: entry.byteCount)
  }

  /// Puts rows of a part in their place.
  mutating func put(_ source: [UInt8], rows: Range<Int>, of place: SourcePlace) {
    guard let part = place.shape, !source.isEmpty else { return }
    let (offset, strides) = place.elements(in: shape)
    let (size, columnCount) = (elementByteCount, part.rowElementCount)
    let start = (offset + rows.lowerBound * (strides.first ?? 0)) * size
    let isScattered = part.rank == 2 && (strides[1] != 1 || place.columns != nil)
    bytes.withUnsafeMutableBytes { target in
      source.withUnsafeBytes { source in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        let rowStride = (strides.first ?? 0) * size
        guard isScattered else {
          for row in 0..<rows.count {
            let rowByteCount = columnCount * size
            (to + start + row * rowStride).copyMemory(from: from + row * rowByteCount, byteCount: rowByteCount)
          }
          return
        }
        let columnStride = strides[1] * size
        func scatter<Element: FixedWidthInteger>(_ type: Element.Type) {
          for column in 0..<columnCount {
            let target = start + (place.columns?[column] ?? column) * columnStride
            for row in 0..<rows.count {
              let value = from.loadUnaligned(fromByteOffset: (row * columnCount + column) * size, as: type)
              to.storeBytes(of: value, toByteOffset: target + row * rowStride, as: type)
            }
          }
        }
        switch size {
        case 2: scatter(UInt16.self)
        case 4: scatter(UInt32.self)
        case 8: scatter(UInt64.self)
        default: scatter(UInt8.self)
        }
      }
    }
  }
}
