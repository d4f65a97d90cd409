import ArgumentParser
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTProof
import OTQ
import OTRuntime
import OTTokenizer

/// What models are measured on.
struct MeasuringArguments: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text: plain or .jsonl (field 'text'), either also .gz or .zst; one or more files, - for standard input.",
      valueName: "file"),
    completion: .file())
  var text: [String] = []
  @Option(
    help: ArgumentHelp(
      "Tokens instead of text: a safetensors file with int64 input_ids [windows, tokens], or one row of test_ids.",
      valueName: "file"),
    completion: .file())
  var ids: String?
  @Option(help: ArgumentHelp("The tensor of --ids to read. [default: input_ids, else test_ids]", valueName: "name"))
  var tensor: String?
  @Option(
    help: ArgumentHelp(
      "Tokens of a window that text or one row of tokens is cut into. [default: 512, or the model's limit]",
      valueName: "N"))
  var context: Int?
  @Option(help: ArgumentHelp("Use only the first windows.", valueName: "N")) var windows: Int?

  mutating func validate() throws {
    guard text.isEmpty || ids == nil else { throw ValidationError("--text and --ids exclude each other.") }
    guard tensor == nil || ids != nil else { throw ValidationError("--tensor needs --ids.") }
    for (name, value) in [("context", context), ("windows", windows)] {
      if let value, value < 1 { throw ValidationError("--\(name) must be positive.") }
    }
  }

  /// Names of the files of text or tokens.
  var name: String { (ids.map { [$0] } ?? text).map(\.lastPathComponent).joined(separator: ", ") }

  /// The windows, without padding; none where tasks alone are done.
  ///
  /// - Throws: as `TokenWindows`.
  func windows(_ graph: Graph, tokenizer: () throws -> Tokenizer?, model: String) throws -> [TokenSequence] {
    if let ids {
      return try TokenWindows(
        path: ids, tensor: tensor, context: context, option: "--context", limit: windows, graphs: [graph]
      ).unmasked
    }
    guard !text.isEmpty else { return [] }
    guard let tokenizer = try tokenizer() else {
      throw Refusal(
        "tokenizer-missing", "has no tokenizer, so it cannot read text", file: model,
        remedy: "put the model's tokenizer.json beside the checkpoint, or give --ids")
    }
    return try TokenWindows(texts: text, tokenizer: tokenizer, context: context, limit: windows, graphs: [graph])
      .windows
  }
}

/// What conversions are calibrated on, beside what is measured on.
struct ComparedCalibrationArguments: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Text to calibrate on. [default: a sample that comes with the program]", valueName: "file"), completion: .file())
  var calibrationText: [String] = []
  @Option(
    help: ArgumentHelp(
      "Tokens to calibrate on: a safetensors file with int64 input_ids [samples, tokens].", valueName: "file"),
    completion: .file())
  var calibrationIds: String?
  @Option(help: ArgumentHelp("The tensor of --calibration-ids. [default: input_ids]", valueName: "name"))
  var calibrationTensor: String?
  @Option(help: ArgumentHelp("Samples to draw from the text.", valueName: "N")) var samples = 128
  @Option(help: ArgumentHelp("Tokens of a sample. [default: 512, or the model's limit]", valueName: "N"))
  var length: Int?
  @Option(help: ArgumentHelp("Seed of the random choice of samples.", valueName: "N")) var seed: UInt64 = 0
  @Option(help: ArgumentHelp("Memory for calibrating, as of convert.", valueName: "bytes")) var maxMemory: ByteCount?

  mutating func validate() throws {
    guard !calibrationText.contains("-") else { throw ValidationError("--calibration-text is read for every row.") }
    var arguments = self.arguments
    try arguments.validate()
  }

  /// As the same options of `convert`.
  var arguments: CalibrationArguments {
    var arguments = CalibrationArguments()
    (arguments.text, arguments.ids, arguments.tensor) = (calibrationText, calibrationIds, calibrationTensor)
    (arguments.samples, arguments.length, arguments.seed) = (samples, length, seed)
    arguments.maxMemory = maxMemory
    return arguments
  }

  /// Samples that are kept from calibration, as by `convert`: a row is what that would have made.
  var heldOutCount: Int { HeldOutText.sampleCount }

  /// Names of the files.
  var name: String {
    if let calibrationIds { return calibrationIds.lastPathComponent }
    let text = calibrationText.map(\.lastPathComponent).joined(separator: ", ")
    return "\(samples) samples of \(text.isEmpty ? "the sample in the program" : text)"
  }

  /// What decides about the samples.
  func identity() throws -> JSONValue {
    let files = try (calibrationIds.map { [$0] } ?? calibrationText).map { path in
      JSONValue.string(try SHA256Digest.hex(of: MappedFile(path: path)))
    }
    var members: JSONObject = [
      "files": .array(files), "samples": .integer(samples), "length": length.map { .integer($0) } ?? .null,
      "seed": .string("\(seed)"),
    ]
    members["tensor"] = calibrationTensor.map { .string($0) }
    return .object(members)
  }
}

/// The options of `convert` that all rows share.
struct ComparedConversionArguments: ParsableArguments {
  @Option(help: "Bits of embeddings and the output head: 8, or 16 for float16.") var embeddingBits = 8
  @Option(
    help: ArgumentHelp("Leave linears and embeddings with matching names as they are (repeatable).", valueName: "regex")
  )
  var exclude: [String] = []
  @Option(help: "How files are stored: compressed, or packed for use in place.") var compression = ConvertOptions
    .Storage.zstd
  @Option(help: ArgumentHelp("Model family, where config.json has no model_type.", valueName: "name")) var family:
    String?

  mutating func validate() throws {
    guard embeddingBits == 8 || embeddingBits == 16 else { throw ValidationError("--embedding-bits must be 8 or 16.") }
    _ = try options(threadCount: 1, scratchFolder: ".")
    if let family, !Families.all.contains(where: { $0.name == family }) {
      throw ValidationError("--family must be one of \(Families.all.map { $0.name }.joined(separator: ", ")).")
    }
  }

  /// The options, without method and setting.
  func options(threadCount: Int, scratchFolder: String) throws -> ConversionOptions {
    var options = ConversionOptions()
    options.embeddingBits = embeddingBits
    options.exclude = try exclude.map { text in
      guard let pattern = NamePattern(text) else {
        throw ValidationError("--exclude '\(text)' is not a regular expression.")
      }
      return pattern
    }
    options.family = family
    options.compression = compression == .zstd ? .standard : .none
    options.threadCount = threadCount
    options.scratchFolder = scratchFolder
    return options
  }

  /// What decides about files.
  var identity: JSONValue {
    var members: JSONObject = [
      "embeddingBits": .integer(embeddingBits), "exclude": .array(exclude.map { .string($0) }),
      "compression": .string(compression.rawValue),
    ]
    members["family"] = family.map { .string($0) }
    return .object(members)
  }
}
