import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON

/// A model in a checkpoint: opened once, its graph built once.
///
/// The files beside the checkpoint that describe the model are kept open: all are of one time.
package struct SourceModel: Sendable {
  /// The tensors.
  package let checkpoint: Checkpoint
  /// The files beside it, open.
  package let attachments: [ModelAttachments.Kind: MappedFile]
  /// The path as it was given.
  package let path: String
  private let described: OnDemand<FamilyModel>

  /// Opens a checkpoint: a file, an index of shards or a folder.
  ///
  /// - Parameter family: the family's name, where config.json and tensors do not say.
  /// - Throws: `Refusal` with a rule `file-…`, `directory-…`, `safetensors-…` or another of the readers'.
  package init(path: String, family: String? = nil) throws {
    try self.init(Checkpoint.open(path), path: path, family: family)
  }

  /// The model of a checkpoint that is open already.
  ///
  /// - Throws: `Refusal` with a rule `file-…` for a file beside it that cannot be opened.
  package init(_ checkpoint: Checkpoint, path: String, family: String? = nil) throws {
    var attachments: [ModelAttachments.Kind: MappedFile] = [:]
    for kind in ModelAttachments.Kind.allCases { attachments[kind] = try checkpoint.attachments.file(kind) }
    self.init(checkpoint, attachments, path: path, family: family)
  }

  private init(
    _ checkpoint: Checkpoint, _ attachments: [ModelAttachments.Kind: MappedFile], path: String, family: String?
  ) {
    self.checkpoint = checkpoint
    self.attachments = attachments
    self.path = path
    let configuration = attachments[.configuration]
    described = OnDemand {
      try Families.model(
        configuration: try configuration.map { try JSONValue.parse(contentsOf: $0) },
        tensors: TensorCatalog(checkpoint.tensors, file: checkpoint.files.first?.path), override: family,
        configurationFile: configuration?.path)
    }
  }

  /// Another's files and path, with other tensors and the graph for them.
  init(_ model: SourceModel, checkpoint: Checkpoint, graph: Graph, warnings: [String]) {
    self.checkpoint = checkpoint
    attachments = model.attachments
    path = model.path
    described = OnDemand { FamilyModel(graph: graph, warnings: warnings) }
  }

  /// The same open files with another family.
  package func of(family: String?) -> SourceModel {
    SourceModel(checkpoint, attachments, path: path, family: family)
  }

  /// The model's graph as its family builds it.
  ///
  /// - Throws: `Refusal` with a rule `family-…`, `graph-…` or `json-…`.
  package func graph() throws -> Graph { try described.get().graph }

  /// Warnings about the model for the user, a line each, as its family gives them.
  ///
  /// - Throws: as `graph()`.
  package func warnings() throws -> [String] { try described.get().warnings }

  /// Makes the parameters of its graph, or of one that was migrated.
  package var parameters: ParameterReader { ParameterReader(checkpoint.tensors) }
}
