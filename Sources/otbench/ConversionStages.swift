import Foundation
import OTContainer
import OTConversion
import OTFoundation
import OTModel
import OTQuantization
import OTTensor

/// Seconds of a conversion's stages, each alone, on one thread, over
/// every quantized weight of a model that is in memory already.
struct ConversionStages {
  /// Seconds by stage, in the order of the pipeline.
  let seconds: [(stage: String, value: Double)]
  let sourceByteCount: Int

  init(_ plan: ConversionPlan) throws {
    var read = 0.0, quantize = 0.0, encode = 0.0, byteCount = 0
    let encoder = ChunkEncoder(plan.options.compression)
    for tensor in plan.tensors {
      guard case .quantized(let scheme) = tensor.treatment, let view = tensor.view else { continue }
      byteCount += view.byteCount
      let quantizer = try WeightQuantizer(TransformedRows(view: view), scheme: scheme)
      let rows = try TransformedRows(view: view)
      let layout = TileLayout(rowCount: quantizer.rowCount, columnCount: quantizer.columnCount)
      let step = ChunkEncoder.rowTilesPerChunk(layout)
      for first in stride(from: 0, to: layout.rowTileCount, by: step) {
        let range = layout.rows(of: first..<min(first + step, layout.rowTileCount))
        var values = [Float](repeating: 0, count: range.count * view.shape.rowElementCount)
        // Once untimed: the system maps the pages, here and not in the stage.
        values.withUnsafeMutableBufferPointer { rows.read(rows: range, into: $0) }
        read += time { values.withUnsafeMutableBufferPointer { rows.read(rows: range, into: $0) } }
        var quantized: QuantizedRows?
        quantize += try time { quantized = try quantizer.quantize(rows: range) }
        if let values = quantized?.values {
          encode += try time {
            _ = try encoder.encode(rows: values, columnCount: layout.columnCount, bits: scheme.bits)
          }
        }
      }
    }
    let hash = try time { for file in plan.checkpoint.files { _ = try SHA256Digest.hex(of: file.mapped) } }
    sourceByteCount = byteCount
    seconds = [
      ("read and convert to float32", read), ("quantize", quantize - read),
      ("encode: interleave, zstd, decode, compare, CRC-32", encode), ("SHA-256 of the source", hash),
    ]
  }
}

/// Seconds that `body` takes.
func time(_ body: () throws -> Void) rethrows -> Double {
  let start = ContinuousClock.now
  try body()
  return (ContinuousClock.now - start) / .seconds(1)
}
