import OTConversion
import OTFoundation
import OTModel
import OTObservation

/// A way to quantize a model, of those that are compared.
struct AccuracyScheme {
  enum Activations: String {
    case perToken = "per token"
    case outlierTuneWithoutSymmetrization = "OutlierTune, no symmetrization"
    case outlierTune = "OutlierTune"
    case float = "float"
  }

  let bits: Int
  let activations: Activations
  var activationBits: Int?

  /// `W6A8`.
  var name: String { "W\(bits)A\(activations == .float ? 16 : activationBits ?? bits)" }

  static let ofLanguageModels: [AccuracyScheme] =
    [8, 6].flatMap { bits in
      [Activations.perToken, .outlierTuneWithoutSymmetrization, .outlierTune].map {
        AccuracyScheme(bits: bits, activations: $0)
      }
    } + [
      AccuracyScheme(bits: 6, activations: .float),
      AccuracyScheme(bits: 6, activations: .outlierTune, activationBits: 8),
    ]

  static let ofSentenceModels: [AccuracyScheme] = [(8, 8), (6, 8), (6, 6)].flatMap { bits, activationBits in
    [Activations.perToken, .outlierTune].map {
      AccuracyScheme(bits: bits, activations: $0, activationBits: activationBits)
    }
  }

  /// A converted file.
  struct File {
    let scheme: AccuracyScheme
    let path: String
    let byteCount: Int
  }

  /// Converts a model.
  ///
  /// - Throws: as planning and converting throw.
  func convert(
    _ source: SourceModel, _ statistics: ModelObservations, embeddingBits: Int, threads: Int, into folder: String
  ) throws -> File {
    var options = ConversionOptions()
    options.bits = bits
    options.activationBits = activationBits
    options.embeddingBits = embeddingBits
    options.isWeightsOnly = activations == .float
    options.isSymmetrized = activations == .outlierTune
    options.threadCount = threads
    let isCalibrated = activations == .outlierTune || activations == .outlierTuneWithoutSymmetrization
    let plan = try Conversion(source, options: options, statistics: isCalibrated ? statistics : nil).plan()
    let path = "\(folder)/\(name)-\(activations.rawValue).otq"
    try Converter(plan).run(to: path)
    return File(scheme: self, path: path, byteCount: try MappedFile(path: path).byteCount)
  }
}
