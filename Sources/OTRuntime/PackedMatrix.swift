import OTContainer
import OTFoundation
import OTKernels
import OTTensor

/// A quantized weight in memory as the kernels read it: in place in the mapped
/// file where it is stored packed, else packed when it is loaded.
final class PackedMatrix: Sendable {
  /// Columns that share a scale, and which scale of a row that is.
  struct ColumnRun: Sendable {
    let group: Int
    let columns: Range<Int>
  }

  let layout: TileLayout
  let bits: Int
  /// Columns in runs that the kernels can multiply at once.
  let runs: [ColumnRun]
  /// Steps, `[group, row]`; rows are contiguous for the sake of the products, and padded to whole row tiles.
  let scales: [Float]
  /// Zero points, one to a scale.
  let zeroPoints: [Int32]
  /// Steps from group to group.
  var stepStride: Int { layout.rowTileCount * 16 }

  /// Columns that share a scale.
  private let groupSize: Int
  private let codes: PackedCodes

  /// True when the codes are in the mapped file.
  var isInPlace: Bool { codes.isInPlace }

  /// A weight of packed `codes`; scales and zero points are read and checked.
  ///
  /// - Throws: `Refusal` with a rule `otq-…`.
  convenience init(
    _ tensor: StoredTensor, _ scheme: QuantizationScheme, of container: Container, codes: PackedCodes
  ) throws {
    self.init(
      tensor.layout, scheme, scales: try container.scales(of: tensor),
      zeroPoints: try container.zeroPoints(of: tensor).map { Int32($0) }, codes: codes)
  }

  /// A weight of packed `codes` with sound scales and a zero point beside each.
  init(
    _ layout: TileLayout, _ scheme: QuantizationScheme, scales storedScales: [Float], zeroPoints storedPoints: [Int32],
    codes: PackedCodes
  ) {
    self.layout = layout
    self.codes = codes
    bits = scheme.bits
    groupSize = scheme.groupSize(columnCount: layout.columnCount)
    runs = PackedMatrix.runs(scheme, columnCount: layout.columnCount)
    let groupCount = scheme.granularity == .perTensor ? 1 : scheme.groupCount(columnCount: layout.columnCount)
    let (rowCount, paddedRowCount) = (layout.rowCount, layout.rowTileCount * 16)
    func steps<Element>(_ stored: [Element], padding: Element) -> [Element] {
      (0..<groupCount * paddedRowCount).map { index in
        let (group, row) = index.quotientAndRemainder(dividingBy: paddedRowCount)
        guard row < rowCount else { return padding }
        return stored[scheme.granularity == .perTensor ? 0 : row * groupCount + group]
      }
    }
    scales = steps(storedScales, padding: 1)
    zeroPoints = steps(storedPoints, padding: 0)
  }

  private static func runs(_ scheme: QuantizationScheme, columnCount: Int) -> [ColumnRun] {
    var size = Kernels.maximumProductColumnCount
    var isGrouped = false
    if case .perGroup(let groupSize) = scheme.granularity { (size, isGrouped) = (groupSize, true) }
    return stride(from: 0, to: columnCount, by: size).enumerated().map { index, start in
      ColumnRun(group: isGrouped ? index : 0, columns: start..<min(start + size, columnCount))
    }
  }

  /// Σ (u − zeroPoint) of the rows of each run of columns, in whole row tiles.
  ///
  /// - Throws: `Refusal` with rule `run-memory`.
  func weightSums() throws -> [[Int32]] {
    let ones = [Int8](repeating: 1, count: layout.paddedColumnCount)
    let scratch = try AlignedMemory<UInt8>(count: Kernels.productScratchByteCount)
    return runs.map { run in
      var sums = [Int32](repeating: 0, count: stepStride)
      withPackedCodes { packed in
        ones.withUnsafeBufferPointer { ones in
          sums.withUnsafeMutableBufferPointer { sums in
            Kernels.current.multiply(
              packed, layout: layout, bits: bits, rowTiles: 0..<layout.rowTileCount,
              columns: run.columns.lowerBound..<run.columns.upperBound.roundedUp(toMultipleOf: 16), activations: ones,
              rowCount: 1, into: sums, resultStride: stepStride, scratch: scratch.buffer)
          }
        }
      }
      for row in 0..<stepStride {
        sums[row] -= Int32(run.columns.count) * zeroPoints[run.group * stepStride + row]
      }
      return sums
    }
  }

  /// Σ (u − zeroPoint) of each group of `size` columns, `[row tiles, groups, 16]`; groups of columns that share a scale
  /// are whole ones of these.
  ///
  /// - Throws: `Refusal` with rule `run-memory`.
  func weightSums(groupSize size: Int) throws -> [Int32] {
    let groupCount = (layout.columnCount + size - 1) / size
    let ones = [Int8](repeating: 1, count: layout.paddedColumnCount)
    let scratch = try AlignedMemory<UInt8>(count: Kernels.productScratchByteCount)
    var result = [Int32](repeating: 0, count: stepStride * groupCount)
    var sums = [Int32](repeating: 0, count: stepStride)
    for group in 0..<groupCount {
      let columns = group * size..<min((group + 1) * size, layout.columnCount)
      withPackedCodes { packed in
        ones.withUnsafeBufferPointer { ones in
          sums.withUnsafeMutableBufferPointer { sums in
            Kernels.current.multiply(
              packed, layout: layout, bits: bits, rowTiles: 0..<layout.rowTileCount,
              columns: columns.lowerBound..<columns.upperBound.roundedUp(toMultipleOf: 16), activations: ones,
              rowCount: 1, into: sums, resultStride: stepStride, scratch: scratch.buffer)
          }
        }
      }
      let step = (runs.first { $0.columns.contains(columns.lowerBound) }?.group ?? 0) * stepStride
      for row in 0..<stepStride {
        result[(row / 16 * groupCount + group) * 16 + row % 16] =
          sums[row] - Int32(columns.count) * zeroPoints[step + row]
      }
    }
    return result
  }

  /// Calls `body` with the packed codes of all row tiles.
  func withPackedCodes<Result>(_ body: (UnsafeBufferPointer<UInt8>) throws -> Result) rethrows
    -> Result
  {
    // Raw bytes of the file or of our own memory, never bound to another type.
    try body(codes.bytes.assumingMemoryBound(to: UInt8.self))
  }

  /// Columns that are unpacked at a time: their codes take no more memory than the stack gives.
  private static let unpackedColumnCount = 64

  /// Rows `rows`, row-major: `scale × (u − zeroPoint)`. Allocates no memory.
  func dequantize(rows: Range<Int>, into target: UnsafeMutableBufferPointer<Float>) {
    guard !rows.isEmpty, layout.columnCount > 0 else { return }
    let width = PackedMatrix.unpackedColumnCount
    let tileByteCount = layout.packedRowTileByteCount(bits: bits)
    let byteCount = tileByteCount / (layout.paddedColumnCount / width)
    let kernels = Kernels.current
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 16 * width) { codes in
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 16 * width) { plain in
        withPackedCodes { packed in
          for tile in rows.lowerBound / 16...(rows.upperBound - 1) / 16 {
            let tileRows = rows.clamped(to: tile * 16..<tile * 16 + 16)
            for column in stride(from: 0, to: layout.columnCount, by: width) {
              let start = tile * tileByteCount + column / width * byteCount
              kernels.unpack(
                UnsafeBufferPointer(rebasing: packed[start..<start + byteCount]), bits: bits, into: codes)
              kernels.deinterleave(UnsafeBufferPointer(codes), into: plain)
              let columns = column..<min(column + width, layout.columnCount)
              for row in tileRows {
                let from = row % 16 * width
                let to = (row - rows.lowerBound) * layout.columnCount
                kernels.dequantize(
                  UnsafeBufferPointer(rebasing: plain[from..<from + columns.count]), columns: columns,
                  groupSize: groupSize,
                  into: UnsafeMutableBufferPointer(rebasing: target[to + columns.lowerBound..<to + columns.upperBound])
                ) { group in
                  let step = group * stepStride + row
                  return (scales[step], Int(zeroPoints[step]))
                }
              }
            }
          }
        }
      }
    }
  }
}
