import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTTensor

/// All that a conversion will do, decided from headers and statistics alone:
/// no weight has been read.
package struct ConversionPlan: Sendable {
  /// The source.
  package let checkpoint: Checkpoint
  /// The rewritten graph; nil for a model of an unknown family.
  package let graph: Graph?
  /// Every tensor of the output, in the order of writing.
  package let tensors: [PlannedTensor]
  /// The method that chose shifts, scales and activations.
  package let methodName: String
  /// What the user asked for.
  package let options: ConversionOptions
  /// The statistics' files, if there are some.
  package let statistics: ForeignStatistics?
  /// What calibration measured, where its statistics are used.
  package let calibration: ModelObservations?
  /// What the user should know, a line each.
  package let warnings: [String]

  /// Weights of blocks with fewer rows than a row tile stay as they are: padded
  /// to 16 rows they would grow.
  static let leastRowCount = TileLayout.tileRowCount

  /// Decides everything about converting `checkpoint`.
  ///
  /// - Parameters:
  ///   - statistics: files of other tools.
  ///   - calibration: statistics of this package, which apply OutlierTune as
  ///     well; they are used where there are no files.
  /// - Throws: `Refusal` with a rule `family-…`, `graph-…`, `statistics-…`,
  ///   `scales-…` or `tensor-type`.
  package init(
    checkpoint: Checkpoint, options: ConversionOptions, statistics: ForeignStatistics? = nil,
    calibration: ModelObservations? = nil
  ) throws {
    self.checkpoint = checkpoint
    self.options = options
    self.statistics = statistics
    self.calibration = statistics == nil ? calibration : nil
    var warnings = checkpoint.warnings
    let catalog = TensorCatalog(checkpoint.tensors, file: checkpoint.files.first?.path)
    let configuration = try checkpoint.attachments.json(.configuration)
    for view in checkpoint.tensors where !view.elementType.isConvertibleFloat && !view.elementType.isInteger {
      throw QuantizedSource.refusal(configuration: configuration, tensors: catalog)
        ?? Refusal(
          "tensor-type", "elements of type \(view.elementType.rawValue) cannot be converted", file: view.file.path,
          tensor: view.name, remedy: "convert the checkpoint to F32, F16 or BF16 first")
    }
    var graph: Graph?
    do {
      let model = try Families.model(
        configuration: configuration, tensors: catalog, override: options.family,
        configurationFile: checkpoint.attachments[.configuration])
      graph = model.graph
      warnings += model.warnings
    } catch let refusal as Refusal
      where options.isWeightsOnly && !["family-adapter", "family-quantized"].contains(refusal.rule)
    {
      let why = refusal.rule == "family-unknown" ? "the model's family is unknown" : refusal.message
      warnings.append("\(why): every matrix is packed without a graph, and the file cannot be run")
    }
    var groupBits: [String: Int] = [:]
    if let plain = graph {
      if !plain.missing.isEmpty {
        warnings.append(
          "the file can be unpacked but not run: \(plain.missing.joined(separator: ", ")) not known"
            + (configuration == nil ? " (no config.json beside the checkpoint)" : ""))
      }
      // Measured just now on this checkpoint where there is no file.
      let sources = calibration?.file.map { _ in checkpoint.files.map { ($0.name, $0.mapped.byteCount) } }
      try self.calibration?.check(against: plain, sources: sources)
      let method = try ConversionPlan.method(options, statistics, self.calibration, plain)
      methodName = type(of: method).name
      // What cannot be done with the graph, the statistics have asked for.
      graph = try Refusal.naming(statistics?.scales ?? calibration?.file?.path ?? catalog.file) {
        try ConversionPlan.rewrite(plain, by: method, options: options, groupBits: &groupBits)
      }
    } else {
      guard statistics == nil, calibration == nil else {
        throw Refusal("statistics-no-graph", "activation statistics need a model of a known family")
      }
      methodName = WeightsOnly.name
    }
    self.graph = graph
    self.warnings = warnings
    let planner = TensorPlanner(checkpoint: checkpoint, catalog: catalog, options: options, groupBits: groupBits)
    tensors = try graph.map(planner.tensors) ?? planner.tensorsWithoutGraph()
  }

  /// The files that a conversion reads, which must not be overwritten.
  package var inputs: [FileIdentity] { checkpoint.inputs + FileIdentity.all(statisticsPaths) }

  var statisticsPaths: [String] {
    [statistics?.scales, statistics?.symmetrizations, calibration?.file?.path].compactMap { $0 }
  }

  /// Whether conversion without statistics can measure them: the model can be
  /// run, has a `config.json` and a `tokenizer.json`.
  package var canBeCalibrated: Bool {
    let attachments = checkpoint.attachments
    return graph.map(\.missing.isEmpty) == true && attachments[.configuration] != nil
      && attachments[.tokenizer] != nil
  }

  private static func method(
    _ options: ConversionOptions, _ files: ForeignStatistics?, _ calibration: ModelObservations?, _ graph: Graph
  ) throws -> any QuantizationMethod {
    if options.isWeightsOnly { return WeightsOnly() }
    if files == nil, let calibration {
      return OutlierTune(calibration, isSymmetrized: options.isSymmetrized)
    }
    guard let files else { return PerToken() }
    return OutlierTune(try files.observations(of: graph))
  }

  /// Asks the method about every site and moves its answers into the graph.
  private static func rewrite(
    _ graph: Graph, by method: any QuantizationMethod, options: ConversionOptions, groupBits: inout [String: Int]
  ) throws -> Graph {
    var result = graph
    var activations: [String: ActivationQuantization] = [:]
    for site in graph.sites {
      guard let bits = options.bits(forGroup: site.consumers, otherwise: options.bits) else { continue }
      for linear in site.consumers { groupBits[linear] = bits }
      let decision = try method.decision(for: site, in: graph, bits: options.activationBits ?? bits)
      // Migration may put an affine node before the linears: they name the site then.
      result = decision.transform.isIdentity ? result : try result.migrating(site, by: decision.transform)
      if let linear = site.consumers.first, let producer = result[linear]?.inputs.first {
        activations[producer] = decision.activation
      }
    }
    return try result.quantizing(activations)
  }
}
