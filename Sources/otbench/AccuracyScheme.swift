import OTConversion
import OTFoundation
import OTModel
import OTObservation
import OTQuantization

/// A way to quantize a model, of those that are compared.
struct AccuracyScheme {
  /// Bits and scales.
  let setting: ConversionSetting
  /// The method, as `--method` takes it.
  let method: String

  /// The scheme of `SETTING,METHOD`, such as `w6a8,best`; nil where it is none.
  init?(_ text: String) {
    let parts = ConversionSetting.list(text)
    guard parts.count == 2, let setting = ConversionSetting(parts[0]), (try? Methods.method(parts[1])) != nil else {
      return nil
    }
    (self.setting, method) = (setting, parts[1])
  }

  /// `W6A8`, `W4A8/g64`, `W6A6/group:64`, `5.0BPWA8`.
  var name: String {
    let bits = setting.description.prefix { $0 != "/" && $0 != "@" }
    return bits.uppercased() + setting.description.dropFirst(bits.count)
  }

  /// OutlierTune without symmetrization.
  static let unsymmetrized = "outliertune,symmetrize=false"

  static let ofLanguageModels: [AccuracyScheme] =
    (["w8a8", "w6a6"].flatMap { setting in
      ["per-token", unsymmetrized, "outliertune"].map { "\(setting),\($0)" }
    } + ["w6a16,weights-only", "w6a8,outliertune"]
    + ["w8a8", "w6a16", "w6a8", "w6a6", "w5a8/g64", "w4a8/g64"].map { "\($0),best" }).compactMap(AccuracyScheme.init)

  static let ofSentenceModels: [AccuracyScheme] = ["w8a8", "w6a8", "w6a6"].flatMap { setting in
    ["per-token", "outliertune", "best"].map { "\(setting),\($0)" }
  }.compactMap(AccuracyScheme.init)

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
    try setting.apply(to: &options)
    options.embeddingBits = embeddingBits
    options.methods = [try Methods.method(method)]
    options.threadCount = calibration.threadCount
    let conversion = try Conversion(source, options: options)
    let observed = conversion.needs.isEmpty ? nil : statistics
    let settled = try calibration.settling(conversion, observed, samples: samples)
    var plan = try conversion.plan(observed, options: settled)
    if let budget = setting.budget { plan = try plan.within(budget, samples: samples.tokens) }
    plan = try calibration.rounding(plan, samples: samples, in: folder)
    let path = "\(folder)/\(name.replacing("/", with: "-"))-\(method).otq"
    try Converter(plan).run(to: path)
    let file = try PackedModel(path: path)
    return File(
      scheme: self, path: path, byteCount: file.container.file.byteCount, bitsPerWeight: file.linearBitsPerWeight)
  }
}
