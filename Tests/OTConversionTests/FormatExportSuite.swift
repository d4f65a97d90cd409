import Foundation
import OTCheckpoint
import OTConversion
import OTExport
import OTModel
import OTRuntime
import OTTensor
import Testing

/// What tests of formats of other engines have in common.
protocol FormatExportSuite {}

extension FormatExportSuite {
  func writer(
    _ format: String, _ path: String, _ type: ElementType? = nil, shardByteCount: Int? = nil
  ) throws -> any ModelWriter {
    var output = ExportOutput(path: path)
    output.elementType = type
    output.shardByteCount = shardByteCount
    return try #require(Writers.named(format)).init(output)
  }

  func options(_ change: (inout ConversionOptions) -> Void) -> ConversionOptions {
    var options = ConversionOptions()
    options.avoidsRotation = true
    change(&options)
    return options
  }

  func logits(_ source: SourceModel, _ output: String = "logits") throws -> [Float] {
    let executor = try FloatExecutor(graph: source.graph(), parameters: source.parameters, threadCount: 2)
    let count = min(40, executor.graph.contextLength ?? 40)
    let size = executor.graph.vocabularySize ?? 100
    return try executor.run(tokenIDs: (0..<count).map { (5 + $0 * 37) % size }).output(output).values
  }

  func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

  func export(_ packed: PackedModel, into writer: some ModelWriter) throws {
    try PackedExport(packed, isRestored: false, threadCount: 2).run(into: writer)
  }

  /// Bits of a stream, taken one by one.
  func codes(_ view: TensorView, count: Int, bits: Int) -> [UInt8] {
    (0..<view.shape.rowCount).flatMap { row in
      view.withRowBytes(row..<row + 1) { bytes in
        (0..<count).map { index in
          (0..<bits).reduce(UInt8(0)) { code, bit in
            let place = index * bits + bit
            return code | (bytes[place / 8] >> UInt8(place % 8) & 1) << UInt8(bit)
          }
        }
      }
    }
  }
}
