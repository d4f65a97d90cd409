import OTCheckpoint
import OTContainer
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTTokenizer

/// One model on its way into a file: opened, its graph built, then observed, planned and written.
///
/// `convert` and `plan` go this way together as far as both go.
package struct Conversion: Sendable {
  /// The model.
  package let model: SourceModel
  /// The user's options.
  package let options: ConversionOptions
  /// Files of other tools that say what is known of the sites.
  package let foreign: ForeignStatistics?
  /// The model's own graph; nil for a model of an unknown family.
  package let graph: Graph?
  /// The observations of the sites that are there without calibrating.
  package let given: ModelObservations?
  /// Warnings for the user, a line each.
  package let warnings: [String]

  /// Looks at the model and at what is known of it.
  ///
  /// - Parameters:
  ///   - foreign: files of other tools.
  ///   - statistics: observations of this package; they are used where there are no files.
  /// - Throws: `Refusal` with a rule `family-…`, `graph-…`, `statistics-…`, `scales-…`, `json-…`, `file-is-…`,
  ///   `calibration-tokens`, `pattern-no-match`, `rotation-stream`, `tensor-type`, `method-activations` or
  ///   `activation-groups`.
  package init(
    _ model: SourceModel, options: ConversionOptions, foreign: ForeignStatistics? = nil,
    statistics: ModelObservations? = nil
  ) throws {
    let source = model
    let checkpoint = source.checkpoint
    let catalog = TensorCatalog(checkpoint.tensors, file: checkpoint.files.first?.path)
    for view in checkpoint.tensors where !view.elementType.isConvertibleFloat && !view.elementType.isInteger {
      throw QuantizedSource.refusal(configuration: try checkpoint.attachments.json(.configuration), tensors: catalog)
        ?? Refusal(
          "tensor-type", "elements of type \(view.elementType.rawValue) cannot be converted", file: view.file.path,
          tensor: view.name, remedy: "convert the checkpoint to F32, F16 or BF16 first")
    }
    // Before work goes into a file that could not be used.
    for kind in ModelAttachments.Kind.allCases {
      if let file = model.attachments[kind] { try ModelAttachments.check(file, as: kind) }
    }
    var model = source
    if let rotation = options.methods.lazy.compactMap(\.rotation).first {
      guard foreign == nil, statistics == nil else {
        throw Refusal(
          "statistics-rotated", "statistics of the model as it is say nothing of one that is rotated",
          remedy: "leave the statistics out, and let the model be calibrated")
      }
      model = try source.rotated(by: rotation, in: options.scratchFolder)
    }
    var warnings = checkpoint.warnings
    graph = try Conversion.graph(of: model, options, &warnings)
    try options.checkPatterns(graph, tensors: checkpoint.tensors, file: model.path)
    if let graph {
      if !graph.missing.isEmpty {
        warnings.append(
          "the file can be unpacked but not run: \(graph.missing.joined(separator: ", ")) not known"
            + (model.attachments[.configuration] == nil ? " (no config.json beside the checkpoint)" : ""))
      }
      if foreign == nil, let statistics {
        // Observed just now on this checkpoint where there is no file.
        let sources = statistics.file.map { _ in checkpoint.files.map { ($0.name, $0.mapped.byteCount) } }
        try statistics.check(against: graph, sources: sources)
        try Calibration.check(statistics)
      }
      for case let kept as KeptRecipe in options.methods {
        try kept.check(against: graph, byteCounts: checkpoint.files.map { $0.mapped.byteCount })
      }
      given = try foreign?.observations(of: graph) ?? statistics
    } else {
      guard foreign == nil, statistics == nil else {
        throw Refusal("statistics-no-graph", "activation statistics need a model of a known family")
      }
      given = nil
    }
    self.model = model
    self.options = options
    self.foreign = foreign
    self.warnings = warnings
    try checkActivations()
  }

  /// - Throws: `Refusal` with rule `method-activations` where the method gives activations other scales than the
  ///   user asks for, `activation-groups` where groups of weights do not fit.
  private func checkActivations() throws {
    guard let asked = options.activations, let method = methods(options, isKnown: true).last else { return }
    guard method.gives(asked) else {
      let others = Methods.all.map { $0.name }.filter { (try? Methods.method($0))?.gives(asked) == true }
      throw Refusal(
        "method-activations", "method '\(type(of: method).name)' does not give activations the scales '\(asked)'",
        remedy: "leave out --activations, or take --method \(others.joined(separator: ", "))")
    }
    guard asked.fits(options.granularity) else {
      throw Refusal(
        "activation-groups", "groups of weights are not whole groups of activations, '\(asked)'",
        remedy: "make --group-size a multiple of the activations' N")
    }
  }

  private static func graph(
    of model: SourceModel, _ options: ConversionOptions, _ warnings: inout [String]
  ) throws -> Graph? {
    do {
      let graph = try model.graph()
      warnings += try model.warnings()
      return graph
    } catch let refusal as Refusal
      where options.isWeightsOnly && !["family-adapter", "family-quantized"].contains(refusal.rule)
    {
      let why = refusal.rule == "family-unknown" ? "the model's family is unknown" : refusal.message
      warnings.append("\(why): every matrix is packed without a graph, and the file cannot be run")
      return nil
    }
  }

  // MARK: Observing

  /// The observations that calibration has to make before the plan can be made; empty: none.
  package var needs: Set<ObservationKind> {
    guard given == nil, graph != nil, options.isCalibrated else { return [] }
    return methods(options, isKnown: true).reduce(into: []) { $0.formUnion($1.needs) }
  }

  /// True when text has to be run, for methods or for rounding.
  package var needsText: Bool { !needs.isEmpty || roundsOnText || comparesOnText }

  /// True when weights will be rounded by what the network gives on text, if it can be had.
  package var roundsOnText: Bool { !calibratedRounding.needs.isEmpty }

  /// The rule by which weights are rounded once the model has been calibrated.
  private var calibratedRounding: any RoundingRule {
    guard graph != nil, given != nil || options.isCalibrated else { return NearestRounding() }
    let methods = methods(options, isKnown: given != nil || !needs.isEmpty)
    return options.rounding ?? methods.last?.weightDefaults.rounding ?? NearestRounding()
  }

  /// A plan of the same tensors, before the model has been calibrated: sizes do not depend on what methods decide.
  ///
  /// - Throws: as planning throws.
  package func uncalibratedPlan() throws -> ConversionPlan {
    var options = options
    options.rounding = calibratedRounding
    return try plan(options: options, assumingPerToken: true)
  }

  /// True when a method leaves a choice to what quantized models lose on text: `Calibration.settling`.
  package var comparesOnText: Bool { graph != nil && options.methods.contains { !$0.candidates.isEmpty } }

  /// The graph with which the model is run on tokens.
  ///
  /// - Throws: `Refusal` with rule `calibration-impossible` that names the file that is missing or
  ///   does not say enough.
  package func runnableGraph() throws -> Graph {
    guard let graph else {
      throw Refusal(
        "calibration-impossible", "is of no known family, so it cannot be run on text", file: model.path)
    }
    guard model.attachments[.configuration] != nil else {
      throw impossible(.configuration, "is not there", "put the model's config.json beside the checkpoint")
    }
    guard graph.missing.isEmpty else {
      throw impossible(
        .configuration, "does not tell \(graph.missing.joined(separator: ", "))",
        "use the config.json that belongs to the checkpoint")
    }
    return graph
  }

  private func impossible(_ kind: ModelAttachments.Kind, _ message: String, _ remedy: String) -> Refusal {
    Refusal(
      "calibration-impossible", "\(message), so the model cannot be run on text",
      file: model.checkpoint.attachments.directory.appendingPathComponent(kind.rawValue), remedy: remedy)
  }

  /// The graph and the tokenizer with which the model is run on text.
  ///
  /// - Throws: as `runnableGraph`, also for a tokenizer that is missing; as `Tokenizer` throws.
  package func runnable() throws -> (graph: Graph, tokenizer: Tokenizer) {
    let graph = try runnableGraph()
    guard let tokenizer = try Model.source(model).tokenizer() else {
      throw impossible(.tokenizer, "is not there", "put the model's tokenizer.json beside the checkpoint")
    }
    return (graph, tokenizer)
  }

  // MARK: Planning

  /// The plan, with what was observed.
  ///
  /// - Parameters:
  ///   - options: other options than the conversion's, for comparing.
  ///   - isPerToken: whether a scale per token stands in for methods that need observations; their
  ///     files are of about the same size.
  /// - Throws: as methods and migration throw; `Refusal` with rule `statistics-missing` where a
  ///   method that the user chose needs observations and there are none.
  package func plan(
    _ observed: ModelObservations? = nil, options: ConversionOptions? = nil, assumingPerToken isPerToken: Bool = false
  ) throws -> ConversionPlan {
    let options = options ?? self.options
    let known = given ?? observed
    var recipe = Recipe()
    if let graph {
      // What cannot be done with the graph, the statistics have asked for.
      recipe = try Refusal.naming(foreign?.scales ?? known?.file?.path ?? model.checkpoint.files.first?.path) {
        let methods = isPerToken ? [PerToken()] : methods(options, isKnown: known != nil)
        let isKnown = methods.contains { !$0.needs.isEmpty }
        return try Recipe(
          graph, model.parameters, methods: methods, observed: isKnown ? known : nil, options: options)
      }
    }
    return try ConversionPlan(
      model: model, recipe: recipe, options: options, foreign: foreign, warnings: warnings + recipe.warnings)
  }

  // MARK: Going on

  private static let step = "decided"

  /// The plan that an earlier process has decided on; nil where it has not come so far.
  ///
  /// - Throws: as migration.
  package func plan(keptBy work: ResumableWork) throws -> ConversionPlan? {
    guard let graph, let row = work.rows(Self.step).first, let record = row["record"]?.object,
      let file = try? MappedFile(path: work.path(Self.step)),
      row["checksum"]?.integer == Int(Checksum.crc32(file.bytes)),
      let kept = try? KeptRecipe(path: file.path)
    else { return nil }
    let recipe = try Recipe(
      graph, model.parameters, restoring: kept, of: methods(options, isKnown: true), record: record, options: options)
    return try ConversionPlan(model: model, recipe: recipe, options: options, foreign: foreign, warnings: warnings)
  }

  /// Keeps what was decided on, where it can be put down: not the decisions of methods that scale what another has
  /// scaled or rotated, whose transforms would be rounded otherwise when they are put together.
  ///
  /// - Throws: `Refusal` with a rule `output-…` or `scratch-…`.
  package func keep(_ plan: ConversionPlan, by work: ResumableWork) throws {
    guard plan.graph != nil, plan.recipe.methods.count == 1 else { return }
    let files = model.checkpoint.files.map { FileRecord(name: $0.name, byteCount: $0.mapped.byteCount, sha256: "") }
    let path = work.path(Self.step)
    try plan.recipe(sources: files).write(to: path, producer: Converter.producer, force: true, inputs: [])
    let file = try MappedFile(path: path)
    try work.keep(
      Self.step, 0, ["record": .object(plan.methodRecord), "checksum": .integer(Int(Checksum.crc32(file.bytes)))])
  }

  /// The names of the methods that decide once the model has been calibrated, joined by `+`.
  package var calibratedMethodName: String {
    methods(options, isKnown: true).map { type(of: $0).name }.joined(separator: "+")
  }

  /// The methods, where the user chose none: the best that what is known of the sites allows.
  private func methods(_ options: ConversionOptions, isKnown: Bool) -> [any QuantizationMethod] {
    if !options.methods.isEmpty { return options.methods }
    if options.isWeightsOnly { return [WeightsOnly()] }
    switch options.activations {
    case .tensor?: return [MinMax()]
    case .channel?: return [OutlierTune(isSymmetrized: options.isSymmetrized)]
    case .token?, .asymmetricToken?, .group?, .asymmetricGroup?, nil: break
    }
    if !isKnown { return [options.avoidsRotation ? PerToken() : Hadamard()] }
    if given != nil || options.avoidsRotation || !options.isSymmetrized {
      return [OutlierTune(isSymmetrized: options.isSymmetrized)]
    }
    return [options.effort == .thorough ? SiteChoice() : Best()]
  }
}
