import OTCheckpoint
import OTConversion
import OTExport
import OTFoundation
import OTModel
import OTTensor
import Testing

func pattern(_ text: String) throws -> NamePattern { try #require(NamePattern(text)) }

/// Writes the source's tensors again, as `otconvert unpack` does.
func unpack(_ file: PackedModel, to path: String) throws {
  try PackedExport(file, isRestored: true, threadCount: 2).run(into: SafetensorsFileWriter(ExportOutput(path: path)))
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
