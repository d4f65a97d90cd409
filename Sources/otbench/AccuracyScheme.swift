import OTConversion
import OTFoundation
import OTModel
import OTObservation
import OTQuantization
import OTTensor

/// A way to quantize a model, of those that are compared.
struct AccuracyScheme {
  /// Bits of weights; with a budget those that it does not choose.
  let bits: Int
  /// Bits of activations; 16: float.
  let activationBits: Int
  /// Activations that share a scale; nil: as the method says.
  let activations: ActivationScales?
  /// The method, as `--method` takes it.
  let method: String
  /// Weights of a row that share a scale; nil: all.
  let groupSize: Int?
  /// The rounding of weights, as `--rounding` takes it; nil: the method's.
  var rounding: String?
  /// The most bits per weight on disk, if bits are chosen by what they cost.
  var budget: BitBudget?

  init(
    _ bits: Int, _ activationBits: Int, _ method: String, groupSize: Int? = nil, activations: ActivationScales? = nil
  ) {
    (self.bits, self.activationBits, self.method) = (bits, activationBits, method)
    (self.groupSize, self.activations) = (groupSize, activations)
  }

  /// The scheme of `BITS,BITS[/SCALES],METHOD[:GROUP][@ROUNDING]`, or `5.0bpw` for the first; nil where it is none.
  init?(_ text: String) {
    let parts = text.split(separator: ",", maxSplits: 2).map(String.init)
    guard parts.count == 3 else { return nil }
    let activation = parts[1].split(separator: "/", maxSplits: 1).map(String.init)
    let ways = parts[2].split(separator: "@", maxSplits: 1).map(String.init)
    let method = ways.first?.split(separator: ":", maxSplits: 1).map(String.init) ?? []
    let scales = activation.count == 2 ? ActivationScales(activation[1]) : nil
    let groupSize = method.count == 2 ? Int(method[1]) : nil
    let budget = BitBudget(parts[0]).flatMap { if case .bitsPerWeight = $0 { $0 } else { nil } }
    guard let bits = budget == nil ? Int(parts[0]) : 8, let activationBits = Int(activation.first ?? ""),
      (2...8).contains(bits),
      (2...8).contains(activationBits) || (activationBits == 16 && activation.count == 1),
      activation.count == (scales == nil ? 1 : 2), !method.isEmpty,
      ways.count == 1 || (try? Roundings.rule(ways[1])) != nil,
      method.count == (groupSize == nil ? 1 : 2),
      groupSize.map(QuantizationScheme.isValidGroupSize) ?? true, (try? Methods.method(method[0])) != nil
    else { return nil }
    self.init(bits, activationBits, method[0], groupSize: groupSize, activations: scales)
    self.budget = budget
    rounding = ways.count == 2 ? ways[1] : nil
  }

  /// `W6A8`, `W4A8 g64`, `W6A6 group:64`, `5.0bpw A8`.
  var name: String {
    (budget.map { "\($0.text) " } ?? "W\(bits)") + "A\(activationBits)" + (groupSize.map { " g\($0)" } ?? "")
      + (activations.map { " \($0)" } ?? "") + (rounding.map { " \($0)" } ?? "")
  }

  /// OutlierTune without symmetrization.
  static let unsymmetrized = "outliertune,symmetrize=false"

  static let ofLanguageModels: [AccuracyScheme] =
    [8, 6].flatMap { bits in
      ["per-token", unsymmetrized, "outliertune"].map { AccuracyScheme(bits, bits, $0) }
    } + [AccuracyScheme(6, 16, "weights-only"), AccuracyScheme(6, 8, "outliertune")]
    + [(8, 8), (6, 16), (6, 8), (6, 6)].map { AccuracyScheme($0, $1, "best") }
    + [5, 4].map { AccuracyScheme($0, 8, "best", groupSize: 64) }

  static let ofSentenceModels: [AccuracyScheme] = [(8, 8), (6, 8), (6, 6)].flatMap { bits, activationBits in
    ["per-token", "outliertune", "best"].map { AccuracyScheme(bits, activationBits, $0) }
  }

  /// The observations that the methods of some schemes need.
  ///
  /// - Throws: as `Methods.method`.
  static func needs(_ schemes: [AccuracyScheme]) throws -> Set<ObservationKind> {
    try schemes.reduce(into: []) { $0.formUnion(try Methods.method($1.method).needs) }
  }

  /// A converted file.
  struct File {
    let scheme: AccuracyScheme
    let path: String
    let byteCount: Int
    let bitsPerWeight: Double
  }

  /// Converts a model.
  ///
  /// - Throws: as planning, rounding and converting throw.
  func convert(
    _ source: SourceModel, _ statistics: ModelObservations?, _ calibration: Calibration, _ samples: Calibration.Samples,
    embeddingBits: Int, into folder: String
  ) throws -> File {
    var options = ConversionOptions()
    options.bits = bits
    options.activationBits = activationBits
    options.activations = activations
    options.embeddingBits = embeddingBits
    options.methods = [try Methods.method(method)]
    options.rounding = try rounding.map(Roundings.rule)
    if let groupSize { options.granularity = .perGroup(size: groupSize) }
    options.threadCount = calibration.threadCount
    options.budget = budget
    let conversion = try Conversion(source, options: options)
    let observed = conversion.needs.isEmpty ? nil : statistics
    let settled = try calibration.settling(conversion, observed, samples: samples)
    var plan = try conversion.plan(observed, options: settled)
    if let budget { plan = try plan.within(budget, samples: samples.tokens) }
    plan = try calibration.rounding(plan, samples: samples, in: folder)
    let path = "\(folder)/\(name)-\(method).otq"
    try Converter(plan).run(to: path)
    let file = try PackedModel(path: path)
    return File(
      scheme: self, path: path, byteCount: file.container.file.byteCount, bitsPerWeight: file.linearBitsPerWeight)
  }
}
