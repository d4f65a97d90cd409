import COTKernels
import OTFoundation
import OTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

extension Kernels {
  /// Most columns over which a product's sums cannot exceed 32 bits:
  /// 65,536 · 255 · 128 < 2^31.
  package static let maximumProductColumnCount = 65_536

  /// Bytes that a product needs for unpacked codes; a first-level cache holds them.
  package static let productScratchByteCount = Int(OT_PRODUCT_SCRATCH)

  /// Row tiles that one call of `multiply` best takes where threads share a
  /// product and each of them gets several such blocks: a multiple of 4.
  ///
  /// Few rows cost what reading the codes costs, so a block is 512 KiB of them.
  /// For many rows, the results of a block stay in a second-level cache, to be
  /// scaled while they are there.
  package static func preferredRowTiles(rowCount: Int, columnCount: Int, bits: Int) -> Int {
    let tileByteCount = max(columnCount * 2 * TileLayout.packedBitWidth(bits: bits), 1)
    let forCodes = (524_288 / tileByteCount).roundedUp(toMultipleOf: 4)
    let forResults = 524_288 / (64 * max(rowCount, 1)) / 4 * 4
    return max(4, min(forCodes, forResults, rowCount > 24 ? 16 : 64))
  }

  /// y[m][n] = Σ u[n][k] · x[m][k] over columns `columns`, in int32.
  ///
  /// - Parameters:
  ///   - packed: Packed codes of all row tiles of `layout`.
  ///   - bits: Bits of a code, which decide how it is packed.
  ///   - rowTiles: The row tiles to multiply by.
  ///   - columns: Bounds are multiples of 16, within the padded columns.
  ///   - activations: `[rowCount, paddedColumnCount]` codes. What stands in
  ///     padding does not matter, since its weight codes are 0.
  ///   - result: `[rowCount, resultStride]`; the element of row m, output
  ///     channel n goes to `m · resultStride + n − 16 · rowTiles.lowerBound`,
  ///     padding rows of the last tile included (they give 0). The last row may
  ///     end where its results do.
  ///   - scratch: `productScratchByteCount` bytes, whatever they hold.
  /// - Precondition: Counts fit, and `columns` are at most 65,536.
  package func multiply(
    _ packed: UnsafeBufferPointer<UInt8>, layout: TileLayout, bits: Int, rowTiles: Range<Int>,
    columns: Range<Int>, activations: UnsafeBufferPointer<Int8>, rowCount: Int,
    into result: UnsafeMutableBufferPointer<Int32>, resultStride: Int,
    scratch: UnsafeMutableBufferPointer<UInt8>
  ) {
    guard
      var product = product(
        packed, layout: layout, bits: bits, rowTiles: rowTiles, columns: columns, activations: activations,
        rowCount: rowCount, into: UnsafeMutableRawBufferPointer(result), resultStride: resultStride, scratch: scratch)
    else { return }
    switch TileLayout.packedBitWidth(bits: bits) {
    case 4: table.pointee.product4(&product)
    case 6: table.pointee.product6(&product)
    default: table.pointee.product8(&product)
    }
  }

  /// Columns that may share a scale of activations: sums of products of so many are exact as floats, and the
  /// products' vectors are full.
  package static let activationGroupSizes = [32, 64, 128, 256]

  /// Activations whose groups of columns have a scale each.
  package struct ActivationGroups {
    /// Columns of a group, one of `activationGroupSizes`.
    package var size: Int
    /// `[rowCount, groups of a row]`.
    package var rows: UnsafeBufferPointer<CodeRow>
    /// Zero points of the weights, 0 … 255, one for each result of a row.
    package var zeroPoints: UnsafeBufferPointer<Int32>
    /// For groups whose code of 0 is not 0: these codes, as `rows`, and Σ (u − zeroPoint) of each group of each result,
    /// `[row tiles, groups, 16]`.
    package var offsets: (zeros: UnsafeBufferPointer<Int32>, weightSums: UnsafeBufferPointer<Int32>)?

    /// See the properties for shapes.
    package init(size: Int, rows: UnsafeBufferPointer<CodeRow>, zeroPoints: UnsafeBufferPointer<Int32>) {
      (self.size, self.rows, self.zeroPoints) = (size, rows, zeroPoints)
    }
  }

  /// y[m][n] = Σ scale[m][g] · e[m][n][g] over the groups g of columns `columns`, e = Σ (u[n][k] − zeroPoint[n]) · x[m][k]
  /// over the columns of the group, exact, less zero[m][g] · Σ (u[n][k] − zeroPoint[n]) where groups have codes of 0; the
  /// sum over groups in their order in float32, multiply and add fused.
  ///
  /// - Parameters: as for the product of whole rows; `columns` begin where a group does, activations are −127 … 127, or
  ///   any where groups have codes of 0.
  /// - Precondition: as there.
  package func multiply(
    _ packed: UnsafeBufferPointer<UInt8>, layout: TileLayout, bits: Int, rowTiles: Range<Int>,
    columns: Range<Int>, activations: UnsafeBufferPointer<Int8>, groups: ActivationGroups, rowCount: Int,
    into result: UnsafeMutableBufferPointer<Float>, resultStride: Int, scratch: UnsafeMutableBufferPointer<UInt8>
  ) {
    let groupCount = (layout.columnCount + groups.size - 1) / groups.size
    precondition(Kernels.activationGroupSizes.contains(groups.size) && columns.lowerBound % groups.size == 0)
    precondition(columns.upperBound <= groupCount * groups.size, "columns without a group")
    precondition(groups.rows.count >= rowCount * groupCount, "too few groups")
    precondition(groups.zeroPoints.count >= rowTiles.count * 16, "too few zero points")
    guard
      var product = product(
        packed, layout: layout, bits: bits, rowTiles: rowTiles, columns: columns, activations: activations,
        rowCount: rowCount, into: UnsafeMutableRawBufferPointer(result), resultStride: resultStride, scratch: scratch)
    else { return }
    guard let rows = groups.rows.baseAddress else { preconditionFailure("a row has a group") }
    product.group_size = groups.size
    product.group_stride = groupCount
    product.zero_point = groups.zeroPoints.baseAddress
    if let offsets = groups.offsets {
      precondition(offsets.zeros.count >= rowCount * groupCount, "too few codes of 0")
      precondition(offsets.weightSums.count >= rowTiles.count * groupCount * 16, "too few sums of weights")
      (product.group_zeros, product.weight_sums) = (offsets.zeros.baseAddress, offsets.weightSums.baseAddress)
    }
    rows.withMemoryRebound(to: ot_code_row.self, capacity: groups.rows.count) { rows in
      product.groups = rows
      switch TileLayout.packedBitWidth(bits: bits) {
      case 4: table.pointee.grouped_product4(&product)
      case 6: table.pointee.grouped_product6(&product)
      default: table.pointee.grouped_product8(&product)
      }
    }
  }

  /// A product to be carried out; nil where nothing is left to do.
  private func product(
    _ packed: UnsafeBufferPointer<UInt8>, layout: TileLayout, bits: Int, rowTiles: Range<Int>,
    columns: Range<Int>, activations: UnsafeBufferPointer<Int8>, rowCount: Int,
    into result: UnsafeMutableRawBufferPointer, resultStride: Int, scratch: UnsafeMutableBufferPointer<UInt8>
  ) -> ot_product? {
    let tileByteCount = layout.packedRowTileByteCount(bits: bits)
    let width = layout.paddedColumnCount
    precondition(rowTiles.lowerBound >= 0 && rowTiles.upperBound <= layout.rowTileCount)
    precondition(
      packed.count == tileByteCount * layout.rowTileCount, "not the codes of this layout")
    precondition(columns.lowerBound >= 0 && columns.upperBound <= width)
    precondition(columns.lowerBound % 16 == 0 && columns.upperBound % 16 == 0)
    precondition(columns.count <= Kernels.maximumProductColumnCount, "sums could overflow")
    precondition(rowCount >= 0 && activations.count >= rowCount * width, "too few activations")
    let resultWidth = rowTiles.count * 16
    precondition(resultStride >= resultWidth)
    precondition(rowCount == 0 || result.count >= 4 * ((rowCount - 1) * resultStride + resultWidth))
    precondition(scratch.count >= Kernels.productScratchByteCount, "too little scratch")
    guard rowCount > 0, !rowTiles.isEmpty, let y = result.baseAddress,
      let memory = scratch.baseAddress
    else { return nil }
    guard let u = packed.baseAddress, let x = activations.baseAddress, width > 0 else {
      for row in 0..<rowCount { memset(y + 4 * row * resultStride, 0, 4 * resultWidth) }
      return nil
    }
    return ot_product(
      tiles: u + rowTiles.lowerBound * tileByteCount, tile_byte_count: tileByteCount,
      tile_count: rowTiles.count, first_column: columns.lowerBound, column_count: columns.count,
      x: x, x_stride: width, x_count: rowCount, y: y, y_stride: resultStride,
      scratch: memory, group_size: 0, groups: nil, group_stride: 0, zero_point: nil, group_zeros: nil, weight_sums: nil)
  }
}
