import OTCheckpoint
import OTConversion
import OTFoundation
import OTJSON
import OTModel
import OTObservation

/// A fixture with tokens and with the perplexities of an independent simulation.
struct SimulatedFixture {
  /// Windows that the perplexities are of.
  let windows: [[Int]]
  /// Samples that the simulation was calibrated on.
  let samples: Calibration.Samples
  private let perplexities: JSONValue?

  /// Nil for a folder without `goldens.safetensors` and `reference.json`.
  ///
  /// - Throws: `Refusal` where they cannot be read or lack tokens.
  init?(_ folder: String, windows: Int) throws {
    let (goldens, reference) = (folder + "/goldens.safetensors", folder + "/reference.json")
    guard FileIdentity(path: goldens) != nil, FileIdentity(path: reference) != nil else { return nil }
    let tensors = try SafetensorsFile(mapping: MappedFile(path: goldens)).tensors
    func rows(_ name: String, length: Int?) throws -> [[Int]] {
      guard let tensor = tensors.first(where: { $0.name == name }), tensor.elementType == .i64,
        let length = length ?? tensor.shape.dimensions.last, length > 0
      else { throw Refusal("bench-fixture", "has no int64 tensor '\(name)'", file: goldens) }
      let ids = tensor.withRowBytes(0..<tensor.shape.rowCount) { bytes in
        (0..<bytes.count / 8).map {
          Int(Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)))
        }
      }
      return (0..<ids.count / length).map { Array(ids[$0 * length..<($0 + 1) * length]) }
    }
    let tokens = try rows("calibration_ids", length: nil)
    samples = Calibration.Samples(
      tokens: tokens,
      run: CalibrationRun(texts: [], sampleCount: tokens.count, length: tokens.first?.count ?? 0, seed: nil))
    self.windows = Array(try rows("test_ids", length: 128).prefix(windows))
    perplexities = try JSONValue.parse(contentsOf: MappedFile(path: reference))["ppl"]
  }

  /// The simulation's perplexity of a scheme; nil: of the float model.
  func perplexity(_ scheme: AccuracyScheme?) -> Double? {
    guard let scheme else { return perplexities?["FP32 of the stored FP16 weights"]?.double }
    let names = [
      "per-token": "per-token activations", AccuracyScheme.unsymmetrized: "OutlierTune without symmetrization",
      "outliertune": "OutlierTune",
    ]
    return names[scheme.method].flatMap { perplexities?["\($0) \(scheme.name)"]?.double }
  }
}
