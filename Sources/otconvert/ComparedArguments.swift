import ArgumentParser
import OTConversion
import OTFoundation
import OTJSON
import OTProof
import OTQ

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
  @OptionGroup var sampling: SamplingArguments

  mutating func validate() throws {
    guard !calibrationText.contains("-") else { throw ValidationError("--calibration-text is read for every row.") }
    try validated { try sampled.check() }
  }

  private var sampled: SampledText {
    sampling.sampled(calibrationText, ids: calibrationIds, tensor: calibrationTensor)
  }

  /// Options of a conversion, with what it is calibrated on.
  func adding(to options: ConvertOptions) -> ConvertOptions { sampling.adding(sampled, to: options) }

  /// Names of the files.
  var name: String {
    if let calibrationIds { return calibrationIds.lastPathComponent }
    let text = calibrationText.map(\.lastPathComponent).joined(separator: ", ")
    return "\(sampling.samples) samples of \(text.isEmpty ? "the sample in the program" : text)"
  }

  /// As the command line of `convert` has them.
  var arguments: [String] {
    (calibrationText.isEmpty ? [] : ["--text"] + calibrationText) + (calibrationIds.map { ["--ids", $0] } ?? [])
      + (calibrationTensor.map { ["--tensor", $0] } ?? []) + sampling.arguments
  }

  /// What decides about the samples.
  func identity() throws -> JSONValue {
    let files = try (calibrationIds.map { [$0] } ?? calibrationText).map { path in
      JSONValue.string(try SHA256Digest.hex(of: MappedFile(path: path)))
    }
    var members: JSONObject = [
      "files": .array(files), "samples": .integer(sampling.samples),
      "length": sampling.length.map { .integer($0) } ?? .null,
      "seed": .string("\(sampling.seed)"),
    ]
    members["tensor"] = calibrationTensor.map { .string($0) }
    return .object(members)
  }
}
