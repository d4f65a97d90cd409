import OTContainer
import OTGraph
import OTKernels
import OTTensor

/// Serves a graph's parameters from an `.otq` file, dequantized; migration is
/// part of what is stored.
///
/// Quantized weights are in memory as packed codes, or stay in the mapped file
/// where it has them packed; other tensors are as stored. No weight is whole in float.
public struct ContainerParameters: Sendable {
  private enum Stored: Sendable {
    case packed(PackedMatrix)
    case plain([UInt8], ElementType, Shape)
  }

  private let path: String
  /// By the name of the tensor that holds the data.
  private let stored: [String: Stored]
  /// The holder of the data of each name that the graph uses.
  private let holders: [String: String]

  /// Loads all that `graph` needs, checking it.
  ///
  /// - Parameter checksMappedCodes: whether codes that are used in place are
  ///   read once to be checked.
  /// - Throws: `Refusal` with rule `parameter-missing`, `parameter-shape`,
  ///   `parameter-type` or `otq-…`.
  public init(
    graph: Graph, container: Container, threadCount: Int, checksMappedCodes: Bool = true
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
    let loaded = try mapBlocks(needed.count, threadCount: threadCount) { index -> Stored in
      let tensor = needed[index]
      if let scheme = tensor.scheme {
        return .packed(
          try PackedMatrix(tensor, scheme, of: container, checksMappedCodes: checksMappedCodes))
      }
      guard case .plain(let type) = tensor.content, type.isConvertibleFloat else {
        throw Refusal("parameter-type", "does not hold floats", file: path, tensor: tensor.name)
      }
      return .plain(try container.values(of: tensor), type, tensor.shape)
    }
    self.path = path
    self.holders = holders
    stored = Dictionary(
      zip(needed.map(\.name), loaded).map { ($0, $1) }, uniquingKeysWith: { first, _ in first })
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
  public func values(of use: ParameterUse, rows: Range<Int>) throws -> [Float] {
    switch holders[use.outputName].flatMap({ stored[$0] }) {
    case .packed(let matrix):
      return matrix.dequantized(rows: rows)
    case .plain(let bytes, let type, let shape):
      let rowByteCount = shape.rowElementCount * type.bitWidth / 8
      let count = rows.count * shape.rowElementCount
      return [Float](unsafeUninitializedCapacity: count) { buffer, initializedCount in
        bytes.withUnsafeBytes { bytes in
          let range = rows.lowerBound * rowByteCount..<rows.upperBound * rowByteCount
          Kernels.current.convert(
            UnsafeRawBufferPointer(rebasing: bytes[range]), from: type,
            to: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
        }
        initializedCount = count
      }
    case nil:
      throw Refusal(
        "parameter-missing", "the file does not have it", file: path, tensor: use.outputName)
    }
  }
}
