import OTCheckpoint
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import _OTTestSupport

/// The quantization of a fixture's activations. Raw values are the names in `reference.json`.
package enum FixtureMethod: String, CaseIterable, Sendable {
  case perToken = "per-token activations"
  case outlierTuneWithoutSymmetrization = "OutlierTune without symmetrization"
  case outlierTune = "OutlierTune"
}

extension Fixture {
  /// The contents of config.json.
  package func configuration() throws -> JSONValue {
    try JSONValue.parse(contentsOf: MappedFile(path: path("config.json")))
  }

  /// The model, opened.
  package func source() throws -> SourceModel { try SourceModel(path: folder) }

  /// Names, shapes and types of the tensors.
  package func catalog() throws -> TensorCatalog { TensorCatalog(try checkpoint().tensors, file: folder) }

  /// What the model computes.
  package func graph() throws -> Graph {
    try Families.graph(configuration: configuration(), tensors: catalog())
  }

  /// The model's parameters in float32.
  package func parameters() throws -> ParameterReader { ParameterReader(try checkpoint().tensors) }

  /// Runs the model in float32, or a graph that was made of its own.
  package func floatExecutor(of graph: Graph? = nil, threadCount: Int = 2) throws -> FloatExecutor {
    try FloatExecutor(
      graph: graph ?? self.graph(), parameters: parameters(), threadCount: threadCount, cachesParameters: true)
  }

  /// The statistics of the original implementations that a method needs; nil for none.
  package func statistics(_ method: FixtureMethod? = .outlierTune) -> ForeignStatistics? {
    switch method {
    case nil, .perToken: nil
    case .outlierTuneWithoutSymmetrization: ForeignStatistics(scales: path("act_scales.pt"))
    case .outlierTune:
      ForeignStatistics(
        scales: path("act_scales_sym.pt"), symmetrizations: path("symmetrizations.pt"), sampleCount: 32)
    }
  }

  /// The model, converted; nil: weights only. The file stays mapped when it is gone.
  package func packed(
    _ method: FixtureMethod?, _ change: (inout ConversionOptions) -> Void = { _ in }
  ) throws -> PackedModel {
    var options = ConversionOptions()
    options.isWeightsOnly = method == nil
    if method == .perToken { options.methods = [PerToken()] }
    options.threadCount = 2
    change(&options)
    return try withTemporaryFolder { temporary in
      try convert(checkpoint(), options, statistics(method), to: temporary + "/model.otq")
    }
  }

  /// The two sequences of 96 tokens behind the golden logits.
  package func goldenSequences() throws -> [[Int]] {
    let goldens = try goldens()
    return try (0..<2).map { try goldens.integers("input_ids", row: $0) }
  }
}

/// Converts into a folder and opens the file.
@discardableResult
package func convert(
  _ checkpoint: Checkpoint, _ options: ConversionOptions = ConversionOptions(), _ statistics: ForeignStatistics? = nil,
  to path: String
) throws -> PackedModel {
  try Converter(ConversionPlan(checkpoint: checkpoint, options: options, statistics: statistics)).run(to: path)
  return try PackedModel(path: path)
}

/// The largest difference, as a fraction of the range of `expected`.
package func relativeError(_ got: some Collection<Float>, _ expected: some Collection<Float>) -> Double {
  guard got.count == expected.count, let low = expected.min(), let high = expected.max() else {
    return .infinity
  }
  var worst = 0.0
  for (a, b) in zip(got, expected) {
    let error = abs(Double(a) - Double(b))
    // A NaN must not look like agreement.
    worst = error.isNaN ? .infinity : max(worst, error)
  }
  return worst / Double(max(high - low, .leastNormalMagnitude))
}

extension ConversionPlan {
  /// The plan of a checkpoint that is open.
  package init(
    checkpoint: Checkpoint, options: ConversionOptions, statistics: ForeignStatistics? = nil,
    calibration: ModelObservations? = nil
  ) throws {
    let path = checkpoint.files.first?.path ?? ""
    self = try Conversion(
      SourceModel(checkpoint, path: path, family: options.family), options: options, foreign: statistics,
      statistics: calibration
    ).plan()
  }
}
