import OTContainer
import OTFoundation
import OTGraph
import OTKernels
import OTTensor

/// Serves a graph's parameters from an `.otq` file, dequantized; migration is
/// part of what is stored.
///
/// Quantized weights are in memory as packed codes, or stay in the mapped file
/// where it has them packed; other tensors are as stored. No weight is whole in float.
package struct ContainerParameters: Sendable {
  private enum Stored: @unchecked Sendable {
    case packed(PackedMatrix)
    case plain([UInt8], ElementType, Shape)
    /// Elements that stay in the mapped file, which the container keeps.
    case mapped(UnsafeRawBufferPointer, ElementType, Shape)

    /// True when the mapped file is read for it.
    var isInPlace: Bool {
      switch self {
      case .packed(let matrix): matrix.isInPlace
      case .plain: false
      case .mapped: true
      }
    }
  }

  private let container: Container
  /// By the name of the tensor that holds the data.
  private let stored: [String: Stored]
  /// The holder of the data of each name that the graph uses.
  private let holders: [String: String]

  /// Loads all that `graph` needs.
  ///
  /// Decoded bytes are checked: checksums, frames, quantized values, scales, zero points.
  /// Bytes that an uncompressed file has in place are not read before they are used, so
  /// that opening takes milliseconds whatever the size; damage there makes wrong
  /// numbers, which `checksMappedCodes` or `Container.verify` find.
  ///
  /// - Parameter checksMappedCodes: whether codes and elements that are used in
  ///   place are read once to be checked.
  /// - Throws: `Refusal` with rule `parameter-missing`, `parameter-shape`,
  ///   `parameter-type` or `otq-…`.
  package init(
    graph: Graph, container: Container, threadCount: Int, checksMappedCodes: Bool = false
  ) throws {
    let path = container.file.path
    var holders: [String: String] = [:]
    var tensors: [StoredTensor] = []
    var seen: Set<String> = []
    for use in graph.parameterUses {
      guard let tensor = container[use.outputName] else {
        throw Refusal(
          "parameter-missing", "the file does not have it", file: path, tensor: use.outputName)
      }
      guard tensor.shape == use.shape else {
        throw Refusal(
          "parameter-shape", "is \(tensor.shape), the graph needs \(use.shape)", file: path,
          tensor: use.outputName)
      }
      holders[use.outputName] = tensor.name
      if seen.insert(tensor.name).inserted { tensors.append(tensor) }
    }
    let needed = tensors
    let quantized = needed.indices.filter { needed[$0].scheme != nil }
    let codes = try container.packedCodes(
      of: quantized.map { needed[$0] }, checksMapped: checksMappedCodes, threadCount: threadCount)
    let codesOf = Dictionary(uniqueKeysWithValues: zip(quantized, codes))
    // Blocks, as a model has hundreds of small tensors.
    let size = 16
    let blocks = try mapBlocks((needed.count + size - 1) / size, threadCount: threadCount) { block in
      try (block * size..<min(block * size + size, needed.count)).map { index in
        try ContainerParameters.stored(
          needed[index], codesOf[index], of: container, checksMapped: checksMappedCodes)
      }
    }
    self.container = container
    self.holders = holders
    stored = Dictionary(uniqueKeysWithValues: zip(needed.map(\.name), blocks.joined()))
    // What has been read is copied: its pages need not stay.
    if !stored.values.contains(where: \.isInPlace) { container.file.release(0..<container.file.byteCount) }
  }

  private static func stored(
    _ tensor: StoredTensor, _ codes: PackedCodes?, of container: Container, checksMapped: Bool
  ) throws -> Stored {
    if let scheme = tensor.scheme, let codes {
      return .packed(try PackedMatrix(tensor, scheme, of: container, codes: codes))
    }
    guard case .plain(let type) = tensor.content, type.isConvertibleFloat else {
      throw Refusal("parameter-type", "does not hold floats", file: container.file.path, tensor: tensor.name)
    }
    let isLarge = tensor.shape.elementCount > 1 << 16
    if isLarge, !checksMapped, let bytes = container.mappedValues(of: tensor) {
      return .mapped(bytes, type, tensor.shape)
    }
    return .plain(try container.values(of: tensor), type, tensor.shape)
  }

  /// The codes of the tensor that `use` names; nil where it is not quantized.
  func packed(_ use: ParameterUse) -> PackedMatrix? {
    guard case .packed(let matrix)? = holders[use.outputName].flatMap({ stored[$0] }) else {
      return nil
    }
    return matrix
  }
}

extension ContainerParameters: ParameterSource {
  /// - Throws: `Refusal` with rule `parameter-missing` for what the graph did
  ///   not have when this was made.
  package func read(
    _ use: ParameterUse, rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>
  ) throws {
    func convert(_ bytes: UnsafeRawBufferPointer, from type: ElementType, _ shape: Shape) {
      let rowByteCount = shape.rowElementCount * type.bitWidth / 8
      let range = rows.lowerBound * rowByteCount..<rows.upperBound * rowByteCount
      Kernels.current.convert(UnsafeRawBufferPointer(rebasing: bytes[range]), from: type, to: target)
    }
    switch holders[use.outputName].flatMap({ stored[$0] }) {
    case .packed(let matrix): matrix.dequantize(rows: rows, into: target)
    case .plain(let bytes, let type, let shape): bytes.withUnsafeBytes { convert($0, from: type, shape) }
    case .mapped(let bytes, let type, let shape): convert(bytes, from: type, shape)
    case nil:
      throw Refusal(
        "parameter-missing", "the file does not have it", file: container.file.path, tensor: use.outputName)
    }
  }
}
