import Foundation
import OTCheckpoint
import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTObservation
import OTTensor
import _OTTestSupport

/// Opens a fixture model.
func fixture(_ name: String) throws -> Checkpoint { try Checkpoint.open(Fixtures.path("models/\(name)")) }

/// OutlierTune's files of a fixture.
func statistics(_ name: String, isSymmetrized: Bool = true) -> ForeignStatistics {
  let folder = Fixtures.path("models/\(name)")
  return isSymmetrized
    ? ForeignStatistics(
      scales: folder + "/act_scales_sym.pt", symmetrizations: folder + "/symmetrizations.pt", sampleCount: 32)
    : ForeignStatistics(scales: folder + "/act_scales.pt")
}

/// Converts into a folder and opens the file.
func convert(
  _ checkpoint: Checkpoint, _ options: ConversionOptions = ConversionOptions(), _ files: ForeignStatistics? = nil,
  to path: String
) throws -> PackedFile {
  try Converter(ConversionPlan(checkpoint: checkpoint, options: options, statistics: files)).run(to: path)
  return try PackedFile(path: path)
}

func pattern(_ text: String) throws -> NamePattern {
  guard let pattern = NamePattern(text) else { throw Refusal("test", "'\(text)' is no pattern") }
  return pattern
}

/// Writes one-file checkpoints of made-up tensors.
struct CheckpointBuilder {
  var tensors: [(name: String, type: ElementType, dimensions: [Int], bytes: [UInt8])] = []

  mutating func add(_ name: String, _ dimensions: [Int], floats: [Float]) {
    tensors.append((name, .f32, dimensions, floats.withUnsafeBytes { Array($0) }))
  }

  func write(to path: String) throws -> Checkpoint {
    let entries = tensors.compactMap { tensor in
      Shape(tensor.dimensions).map {
        SafetensorsWriter.Entry(name: tensor.name, elementType: tensor.type, shape: $0)
      }
    }
    var writer = try SafetensorsWriter(path: path, entries: entries)
    for tensor in tensors { try writer.append(tensor.bytes) }
    try writer.commit()
    return try Checkpoint.open(path)
  }
}
