import OTConversion
import OTFoundation
import OTGraph
import OTObservation
import OTText

/// Text, or tokens, of which samples are drawn to run a model on.
public struct SampledText: Sendable, Hashable {
  /// Paths of text files: plain or `.jsonl`, either also `.gz` or `.zst`; empty, without ``ids``: a
  /// sample that comes with the library.
  public var paths: [String] = []
  /// The field of lines of JSON that has the text.
  public var field = "text"
  /// Tokens instead of text: path of a safetensors file with int64 `input_ids` `[samples, tokens]`.
  public var ids: String?
  /// The tensor of ``ids`` to read; nil: `input_ids`.
  public var tensor: String?
  /// Samples to draw from the text, 1 … 1 000 000.
  public var sampleCount: Int
  /// Tokens of a sample; nil: the standard of the work, or the model's limit where that is less.
  public var length: Int?
  /// Seed of the random choice of samples.
  public var seed: UInt64 = 0

  /// The sample that comes with the library.
  public init(sampleCount: Int = 128) { self.sampleCount = sampleCount }

  /// True when text or tokens are given.
  package var isGiven: Bool { !paths.isEmpty || ids != nil }

  /// The files of text and of tokens, which must not be overwritten.
  package var inputs: [FileIdentity] { FileIdentity.all(paths + [ids]) }

  /// - Parameter leastLength: the fewest tokens that a sample may be asked to have.
  /// - Throws: ``Refusal`` with rule `option-value` or `option-conflict`.
  package func check(leastLength: Int = 1) throws(Refusal) {
    try OptionFault.refuse(!paths.isEmpty && ids != nil, conflict: "--text and --ids exclude each other")
    try OptionFault.refuse(tensor != nil && ids == nil, conflict: "--tensor needs --ids")
    try OptionFault.refuse(!(1...1_000_000).contains(sampleCount), value: "--samples must be 1 to 1000000")
    try OptionFault.refuse(
      length.map { !(leastLength...1_000_000).contains($0) } ?? false,
      value: "--length must be \(leastLength) to 1000000")
  }

  /// The samples of the file of tokens, for calibrating; nil where none is given.
  ///
  /// - Throws: as `TokenWindows`.
  package func tokens(_ graph: Graph) throws -> Calibration.Samples? {
    guard let ids else { return nil }
    let tokens = try TokenWindows(
      path: ids, tensor: tensor, context: length, option: "--length", limit: nil, graphs: [graph])
    let record = try FileRecord(of: MappedFile(path: ids))
    return Calibration.Samples(
      tokens: try tokens.unmasked,
      run: CalibrationRun(texts: [record], sampleCount: tokens.windows.count, length: tokens.length, seed: nil))
  }

  /// The settings of a calibration on it.
  package func calibration(threadCount: Int, maximumByteCount: Int?) -> Calibration {
    var settings = Calibration()
    settings.text.paths = paths
    settings.text.field = field
    settings.text.count = sampleCount
    settings.text.length = length
    settings.text.seed = seed
    settings.threadCount = threadCount
    settings.maximumByteCount = maximumByteCount
    return settings
  }
}
