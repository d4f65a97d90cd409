import ArgumentParser
import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTObservation

/// A count of bytes: `800M`, `4G`, powers of 1000.
struct ByteCount: ExpressibleByArgument {
  let value: Int

  init?(argument: String) {
    let units = ["K": 1000, "M": 1_000_000, "G": 1_000_000_000, "T": 1_000_000_000_000]
    let unit = argument.last.flatMap { units[$0.uppercased()] }
    guard let number = Double(unit == nil ? argument[...] : argument.dropLast()), number > 0,
      let value = Int(exactly: (number * Double(unit ?? 1)).rounded(.down)), value > 0
    else { return nil }
    self.value = value
  }
}

/// The options that decide what a model is calibrated on.
struct CalibrationArguments: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text to calibrate on: plain or .jsonl (field 'text'), either also .gz or .zst; one or more files, - for standard input.",
      valueName: "file"),
    completion: .file())
  var text: [String] = []

  @Option(
    help: ArgumentHelp(
      "Tokens instead of text: a safetensors file with int64 input_ids [samples, tokens]; token_type_ids and attention_mask beside them count.",
      valueName: "file"),
    completion: .file())
  var ids: String?
  @Option(help: ArgumentHelp("The tensor of --ids to read. [default: input_ids]", valueName: "name"))
  var tensor: String?

  @Option(help: ArgumentHelp("Samples to draw from the text.", valueName: "N")) var samples = 128

  @Option(
    help: ArgumentHelp("Tokens of a sample. [default: 512, or the model's limit]", valueName: "N"))
  var length: Int?

  @Option(help: ArgumentHelp("Seed of the random choice of samples.", valueName: "N")) var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp(
      "Memory for calibrating, such as 4G, the mapped checkpoint not counted: a larger model is read layer by layer. [default: half of the machine's]",
      valueName: "bytes"))
  var maxMemory: ByteCount?

  /// True when text or tokens are given to calibrate on.
  var isGiven: Bool { !text.isEmpty || ids != nil }

  /// The files of text and of tokens.
  var inputs: [FileIdentity] { FileIdentity.all(text + [ids]) }

  mutating func validate() throws {
    guard text.isEmpty || ids == nil else { throw ValidationError("--text and --ids exclude each other.") }
    guard tensor == nil || ids != nil else { throw ValidationError("--tensor needs --ids.") }
    guard (1...1_000_000).contains(samples) else { throw ValidationError("--samples must be 1 to 1000000.") }
    if let length, !(1...1_000_000).contains(length) { throw ValidationError("--length must be 1 to 1000000.") }
  }

  /// The samples of the file of tokens; nil where none is given.
  ///
  /// - Throws: as `TokenWindows`.
  func tokens(_ graph: Graph) throws -> Calibration.Samples? {
    guard let ids else { return nil }
    let tokens = try TokenWindows(
      path: ids, tensor: tensor, context: length, option: "--length", limit: nil, graphs: [graph])
    let file = try MappedFile(path: ids)
    let record = FileRecord(
      name: URL(fileURLWithPath: ids).lastPathComponent, byteCount: file.byteCount,
      sha256: try SHA256Digest.hex(of: file))
    return Calibration.Samples(
      tokens: try tokens.unmasked,
      run: CalibrationRun(texts: [record], sampleCount: tokens.windows.count, length: tokens.length, seed: nil))
  }

  func settings(threadCount: Int) -> Calibration {
    var settings = Calibration()
    settings.text.paths = text
    settings.text.count = samples
    settings.text.length = length
    settings.text.seed = seed
    settings.threadCount = threadCount
    settings.maximumByteCount = maxMemory?.value
    return settings
  }
}
