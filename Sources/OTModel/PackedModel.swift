import OTContainer
import OTFoundation
import OTGraph
import OTJSON

/// An open `.otq` file with its graph: what inspection, verification and
/// unpacking share.
package struct PackedModel: Sendable {
  /// The file's tensors and metadata.
  package let container: Container
  /// Nil for a model of an unknown family.
  package let graph: Graph?
  /// The graph's use of each tensor of the file, by output name; of
  /// several uses the first.
  package let uses: [String: ParameterUse]

  /// Opens a file and checks graph and tensors against each other.
  ///
  /// - Throws: `Refusal` with a rule `otq-…`, `graph-…`, `json-…` or `file-…`.
  package init(path: String) throws { try self.init(Container(path: path)) }

  /// Checks graph and tensors of an open file against each other.
  ///
  /// - Throws: as `init(path:)`.
  package init(_ container: Container) throws {
    self.container = container
    let path = container.file.path
    guard let json = container.metadata["graph"], json != .null else {
      graph = nil
      uses = [:]
      return
    }
    let graph = try Graph(json: json, file: path) { name in
      guard let tensor = container[name], case .plain(.f32) = tensor.content, tensor.shape.rank == 1 else {
        throw Refusal("otq-graph", "the graph names a vector that is not in the file", file: path, tensor: name)
      }
      return try container.floats(of: tensor)
    }
    var uses: [String: ParameterUse] = [:]
    for use in graph.parameterUses {
      guard let tensor = container[use.outputName], tensor.shape == use.shape else {
        throw Refusal(
          "otq-graph", "node '\(use.node)' needs a \(use.role.rawValue) of shape \(use.shape)", file: path,
          tensor: use.outputName)
      }
      if case .plain(let type) = tensor.content, !type.isConvertibleFloat {
        throw Refusal(
          "otq-graph", "node '\(use.node)' needs floats for a \(use.role.rawValue), not \(type.rawValue)", file: path,
          tensor: use.outputName)
      }
      if uses[use.outputName] == nil { uses[use.outputName] = use }
    }
    self.graph = graph
    self.uses = uses
  }

  /// The rotations of the source's parameters before it was converted; nil: none.
  ///
  /// - Throws: `Refusal` with rule `otq-rotation` for a record that cannot be read.
  package func offlineRotation() throws -> OfflineRotation? {
    guard let json = container.metadata["method"]?["rotation"] else { return nil }
    guard let rotation = OfflineRotation(json: json) else {
      throw Refusal("otq-rotation", "its record of the rotation of its source cannot be read", file: path)
    }
    return rotation
  }

  /// The source that its parameters are to be compared with: rotated, where the file's was.
  ///
  /// - Parameter folder: has room for the source's weights as float32, where they are rotated.
  /// - Throws: as `offlineRotation`, or as `SourceModel.rotated`.
  package func comparable(_ source: SourceModel, in folder: String) throws -> SourceModel {
    try offlineRotation().map { try source.rotated(by: $0, in: folder) } ?? source
  }

  /// True when a file begins as an `.otq` file does, or bears such a name.
  package static func recognizes(path: String) -> Bool {
    if path.hasSuffix(".otq") || path.hasSuffix(".partial") { return true }
    guard let file = try? MappedFile(path: path) else { return false }
    // Its bytes live no longer than the object.
    return withExtendedLifetime(file) { file.bytes.starts(with: ContainerFormat.magic) }
  }

  /// The path as it was given.
  package var path: String { container.file.path }
}
