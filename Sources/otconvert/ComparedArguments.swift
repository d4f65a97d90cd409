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
    try validated { try sampled(TextFieldArgument.standard).check() }
  }

  private func sampled(_ field: String) -> SampledText {
    sampling.sampled(calibrationText, field: field, ids: calibrationIds, tensor: calibrationTensor)
  }

  /// Options of a conversion, with what it is calibrated on.
  ///
  /// - Parameter field: the field of lines of JSON that has the text.
  func adding(to options: ConvertOptions, field: String) -> ConvertOptions {
    sampling.adding(sampled(field), to: options)
  }

  /// Names of the files.
  var name: String {
    if let calibrationIds { return calibrationIds.lastPathComponent }
    let text = calibrationText.map(\.lastPathComponent).joined(separator: ", ")
    return "\(sampling.samples) samples of \(text.isEmpty ? "the sample in the program" : text)"
  }

  /// As the command line of `convert` has them.
  func arguments(field: String) -> [String] {
    (calibrationText.isEmpty ? [] : ["--text"] + calibrationText)
      + (calibrationText.isEmpty || field == TextFieldArgument.standard ? [] : ["--text-field", field])
      + (calibrationIds.map { ["--ids", $0] } ?? [])
      + (calibrationTensor.map { ["--tensor", $0] } ?? []) + sampling.arguments
  }

  /// What decides about the samples.
  func identity(field: String) throws -> JSONValue {
    let files = try (calibrationIds.map { [$0] } ?? calibrationText).map { path in
      JSONValue.string(try SHA256Digest.hex(of: MappedFile(path: path)))
    }
    var members: JSONObject = [
      "files": .array(files), "samples": .integer(sampling.samples),
      "length": sampling.length.map { .integer($0) } ?? .null,
      "seed": .string("\(sampling.seed)"),
    ]
    members["tensor"] = calibrationTensor.map { .string($0) }
    if field != TextFieldArgument.standard { members["field"] = .string(field) }
    return .object(members)
  }
}
