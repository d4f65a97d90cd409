import OTContainer
import OTKernels
import OTTensor

/// A quantized weight in memory as the kernels read it: in place in the mapped
/// file where it is stored packed, else packed when it is loaded.
struct PackedMatrix: Sendable {
  /// Columns that share a scale, and which scale of a row that is.
  struct ColumnRun: Sendable {
    let group: Int
    let columns: Range<Int>
  }

  let layout: TileLayout
  let bits: Int
  /// Columns in runs that the kernels can multiply at once.
  let runs: [ColumnRun]
  /// Steps, `[group, row]`; rows are contiguous for the sake of the products.
  let scales: [Float]
  /// Zero points, one to a scale.
  let zeroPoints: [Int32]

  private let codes: PackedCodes

  /// A weight of packed `codes`; scales and zero points are read and checked.
  ///
  /// - Throws: `Refusal` with a rule `otq-…`.
  init(
    _ tensor: StoredTensor, _ scheme: QuantizationScheme, of container: Container, codes: PackedCodes
  ) throws {
    let layout = tensor.layout
    self.layout = layout
    self.codes = codes
    bits = scheme.bits
    runs = PackedMatrix.runs(scheme, columnCount: layout.columnCount)
    let groupCount = scheme.groupCount(columnCount: layout.columnCount)
    let storedScales = try container.scales(of: tensor)
    let storedPoints = try container.zeroPoints(of: tensor).map { Int32($0) }
    if scheme.granularity == .perTensor {
      scales = [Float](repeating: storedScales[0], count: layout.rowCount)
      zeroPoints = [Int32](repeating: storedPoints[0], count: layout.rowCount)
    } else if groupCount == 1 {
      scales = storedScales
      zeroPoints = storedPoints
    } else {
      func place(_ index: Int) -> Int { index % layout.rowCount * groupCount + index / layout.rowCount }
      let indices = 0..<groupCount * layout.rowCount
      scales = indices.map { storedScales[place($0)] }
      zeroPoints = indices.map { storedPoints[place($0)] }
    }
  }

  private static func runs(_ scheme: QuantizationScheme, columnCount: Int) -> [ColumnRun] {
    var size = Kernels.maximumProductColumnCount
    var isGrouped = false
    if case .perGroup(let groupSize) = scheme.granularity { (size, isGrouped) = (groupSize, true) }
    return stride(from: 0, to: columnCount, by: size).enumerated().map { index, start in
      ColumnRun(group: isGrouped ? index : 0, columns: start..<min(start + size, columnCount))
    }
  }

  /// Calls `body` with the packed codes of all row tiles.
  func withPackedCodes<Result>(_ body: (UnsafeBufferPointer<UInt8>) throws -> Result) rethrows
    -> Result
  {
    // Raw bytes of the file or of our own memory, never bound to another type.
    try body(codes.bytes.assumingMemoryBound(to: UInt8.self))
  }

  /// Rows `rows`, row-major: `scale × (u − zeroPoint)`.
  func dequantized(rows: Range<Int>) -> [Float] {
    let width = layout.columnCount
    guard !rows.isEmpty, width > 0 else { return [] }
    let tileByteCount = layout.packedRowTileByteCount(bits: bits)
    let count = rows.count * width
    let kernels = Kernels.current
    return [Float](unsafeUninitializedCapacity: count) { result, initializedCount in
      let tileCodeCount = layout.rowTileByteCount
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 2 * tileCodeCount) { memory in
        let tileCodes = UnsafeMutableBufferPointer(rebasing: memory[..<tileCodeCount])
        let plain = UnsafeMutableBufferPointer(
          rebasing: memory[tileCodeCount..<2 * tileCodeCount])
        withPackedCodes { packed in
          for tile in rows.lowerBound / 16...(rows.upperBound - 1) / 16 {
            let start = tile * tileByteCount
            kernels.unpack(
              UnsafeBufferPointer(rebasing: packed[start..<start + tileByteCount]), bits: bits,
              into: tileCodes)
            kernels.deinterleave(UnsafeBufferPointer(tileCodes), into: plain)
            for row in rows.clamped(to: tile * 16..<tile * 16 + 16) {
              for run in runs {
                let from = row % 16 * layout.paddedColumnCount + run.columns.lowerBound
                let to = (row - rows.lowerBound) * width + run.columns.lowerBound
                let step = run.group * layout.rowCount + row
                kernels.dequantize(
                  UnsafeBufferPointer(rebasing: plain[from..<from + run.columns.count]),
                  scale: scales[step], zeroPoint: Int(zeroPoints[step]),
                  into: UnsafeMutableBufferPointer(
                    rebasing: result[to..<to + run.columns.count]))
              }
            }
          }
        }
      }
      initializedCount = count
    }
  }
}
