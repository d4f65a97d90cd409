import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTTensor

/// All that a conversion will write, decided from headers and observations alone:
/// no weight has been quantized.
package struct ConversionPlan: Sendable {
  /// The model.
  package let model: SourceModel
  /// The decisions about the model.
  package let recipe: Recipe
  /// Every tensor of the output, in the order of writing.
  package let tensors: [PlannedTensor]
  /// The user's options.
  package let options: ConversionOptions
  /// Files of other tools that said what is known of the sites.
  package let foreign: ForeignStatistics?
  /// Warnings for the user, a line each.
  package let warnings: [String]
  /// The weights that were rounded by what the network gives: `Calibration.rounding`.
  package var rounded: RoundedWeights?
  /// The samples on which it gave that.
  package var roundingRun: CalibrationRun?

  init(
    model: SourceModel, recipe: Recipe, options: ConversionOptions, foreign: ForeignStatistics?, warnings: [String]
  ) throws {
    self.model = model
    self.recipe = recipe
    self.options = options
    self.foreign = foreign
    self.warnings = warnings
    let checkpoint = model.checkpoint
    let catalog = TensorCatalog(checkpoint.tensors, file: checkpoint.files.first?.path)
    let planner = TensorPlanner(checkpoint: checkpoint, catalog: catalog, options: options, weights: recipe.weights)
    tensors = try recipe.graph.map(planner.tensors) ?? planner.tensorsWithoutGraph()
  }

  /// The source.
  package var checkpoint: Checkpoint { model.checkpoint }
  /// The graph after migration; nil for a model of an unknown family.
  package var graph: Graph? { recipe.graph }
  /// The methods that chose shifts, scales and activations.
  package var methodName: String { recipe.methodName }
  /// The origin of the observations that were used, where no other tool measured; these themselves are not kept.
  package var calibration: ModelObservations? { foreign == nil ? recipe.observed : nil }

  /// The files that a conversion reads, which must not be overwritten.
  package var inputs: [FileIdentity] { checkpoint.inputs + FileIdentity.all(statisticsPaths) }

  var statisticsPaths: [String] {
    [foreign?.scales, foreign?.symmetrizations, calibration?.file?.path, keptRecipe?.file?.path].compactMap { $0 }
  }

  /// The decisions that were kept of an earlier conversion, where they are used.
  var keptRecipe: KeptRecipe? { recipe.methods.lazy.compactMap { $0 as? KeptRecipe }.first }

  /// What was decided, to be used again.
  ///
  /// - Parameter sources: the records of the model's files.
  /// - Throws: `Refusal` with rule `recipe-no-graph` for a model of an unknown family, or `recipe-order`.
  package func recipe(sources: [FileRecord]) throws -> KeptRecipe {
    guard let graph else {
      throw Refusal(
        "recipe-no-graph", "is of no known family, so nothing is decided about it", file: checkpoint.files.first?.path,
        remedy: "leave out --save-recipe")
    }
    return KeptRecipe(
      family: graph.family, sources: sources, methodRecord: methodRecord, sites: try recipe.keptSites())
  }

  /// The file's record of the methods and of the statistics they used.
  package var methodRecord: JSONObject {
    var record = recipe.keptRecord ?? decisionRecord
    guard recipe.sampledRounding != nil, var rounding = record["rounding"]?.object else { return record }
    rounding["run"] = roundingRun?.json
    if let unreached = rounded?.unreached, !unreached.isEmpty {
      rounding["unreached"] = .array(unreached.map { .string($0) })
    }
    record["rounding"] = .object(rounding)
    return record
  }

  /// What is known before weights are rounded.
  private var decisionRecord: JSONObject {
    var record: JSONObject = ["name": .string(methodName)]
    if let foreign, recipe.observed != nil {
      record["scales"] = .string(foreign.scales.lastPathComponent)
      if let file = foreign.symmetrizations {
        record["symmetrizations"] = .string(file.lastPathComponent)
        record["symmetrizationSamples"] = .integer(foreign.sampleCount)
      }
    }
    // Other tools' files say themselves what OutlierTune did to them, unless it was asked for by name.
    if foreign == nil || !options.methods.isEmpty {
      for method in recipe.methods {
        for (key, value) in method.record.members { record[key] = value }
      }
    }
    if !recipe.unreached.isEmpty { record["unreached"] = .array(recipe.unreached.map { .string($0) }) }
    if !recipe.trials.isEmpty {
      record["trials"] = .object(
        recipe.trials.sorted { $0.key < $1.key }.reduce(into: JSONObject()) { sites, entry in
          sites[entry.key] = .object(
            entry.value.reduce(into: JSONObject()) { $0[$1.name] = .finite($1.error) })
        })
    }
    if let rule = recipe.sampledRounding {
      var members: JSONObject = ["name": .string(rule.kind.name)]
      for (key, value) in rule.record.members { members[key] = value }
      record["rounding"] = .object(members)
    }
    if let calibration {
      record["calibration"] = .object(["runs": .array(calibration.runs.map(\.json))])
      if let file = calibration.file { record["statistics"] = .string(file.path.lastPathComponent) }
    }
    return record
  }
}
