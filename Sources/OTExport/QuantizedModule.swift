import OTFoundation
import OTGraph
import OTQuantization
import OTTensor

/// A matrix of the source whose rows become quantized values of one scheme: the weight of a linear or a table.
struct QuantizedModule: Sendable {
  /// The source's name without `.weight`.
  let name: String
  /// The matrix, and the parameters whose rows make it up, one after another.
  let entry: SourceEntry
  /// The scheme of all rows.
  let scheme: QuantizationScheme

  /// Output channels.
  var rowCount: Int { entry.entry.shape.rowCount }
  /// Input channels.
  var columnCount: Int { entry.entry.shape.rowElementCount }
  /// Scales of a row.
  var groupCount: Int { scheme.groupCount(columnCount: columnCount) }
  /// The node that uses the first of its rows.
  var node: String? { entry.parts.first?.tensor.use?.node }

  /// - Throws: `Refusal` with rule `export-parts` or `export-layout` where its rows are no rows of quantized values of
  ///   one scheme, `export-per-tensor` where all share one scale.
  init(_ entry: SourceEntry, of model: ExportedModel) throws {
    func refusal(_ rule: String, _ message: String, _ remedy: String) -> Refusal {
      Refusal(rule, message, file: model.path, tensor: entry.entry.name, remedy: remedy)
    }
    let schemes = Set(entry.parts.map(\.tensor.scheme))
    guard schemes.count == 1, let scheme = schemes.first ?? nil else {
      throw refusal(
        "export-parts", "its parts are quantized in different ways, and the format has it whole",
        "give all of them the same bits")
    }
    guard entry.isOfRows, entry.entry.shape.rank == 2, entry.entry.name.hasSuffix(".weight") else {
      throw refusal(
        "export-layout", "is not stored [out, in] row by row, as the format has it", "export it --to safetensors")
    }
    guard scheme.granularity != .perTensor else {
      throw refusal("export-per-tensor", "has one scale for the whole matrix", "leave out --per-tensor")
    }
    name = String(entry.entry.name.dropLast(".weight".count))
    self.entry = entry
    self.scheme = scheme
  }

  /// The zero point of a scale of some rows: in a symmetric scheme that of all.
  func zeroPoint(_ rows: QuantizedRows, _ index: Int) -> Int {
    scheme.isSymmetric ? scheme.symmetricZeroPoint : Int(rows.zeroPoints[index])
  }
}

extension QuantizedModule {
  /// Values less their zero points, for formats whose rows are signed bytes with one scale each.
  ///
  /// - Precondition: they fit.
  func signedBytes(_ rows: QuantizedRows) -> [UInt8] {
    var bytes = rows.values
    for row in 0..<rows.rows.count {
      let zero = UInt8(truncatingIfNeeded: zeroPoint(rows, row))
      for index in row * columnCount..<(row + 1) * columnCount { bytes[index] &-= zero }
    }
    return bytes
  }

  /// True when values less their zero points are signed bytes.
  var fitsSignedBytes: Bool { scheme.isSymmetric || scheme.bits < 8 }

  /// The refusal of values that do not fit.
  ///
  /// - Parameter also: another way out, such as `--dtype f16`.
  func signedBytesRefusal(of model: ExportedModel, also: String? = nil) -> Refusal {
    Refusal(
      "export-asymmetric", "asymmetric values of 8 bits, less their zero points, do not fit a signed byte",
      file: model.path, tensor: entry.entry.name,
      remedy: "use --weight-scheme symmetric, or at most 7 bits" + (also.map { ", or \($0)" } ?? ""))
  }
}

extension SourceEntry {
  /// The first row of a part.
  func firstRow(of tensor: ExportedTensor) -> Int {
    parts.first { $0.tensor.name == tensor.name }?.place.box[0].lowerBound ?? 0
  }

  /// True when every part is whole rows, or elements of a vector, in their order.
  var isOfRows: Bool {
    parts.allSatisfy { part in
      let place = part.place
      return place.columns == nil && place.axes == Array(entry.shape.dimensions.indices)
        && zip(place.box, entry.shape.dimensions).dropFirst().allSatisfy { $0 == 0..<$1 }
    }
  }
}

/// Quantized values of a few bits one behind another.
package enum DenseCodes {
  /// Each row of codes as one stream of bits, the least significant first, filled up with zeros to whole words of 32
  /// bits: what compressed-tensors and MLX have.
  ///
  /// - Precondition: codes are below 2^`bits`, and `bits` is 2 to 8.
  package static func pack(_ codes: [UInt8], columnCount: Int, bits: Int) -> [UInt8] {
    guard columnCount > 0 else { return [] }
    let rowByteCount = rowByteCount(columnCount: columnCount, bits: bits)
    let rowCount = codes.count / columnCount
    var bytes = [UInt8](repeating: 0, count: rowCount * rowByteCount)
    bytes.withUnsafeMutableBufferPointer { bytes in
      codes.withUnsafeBufferPointer { codes in
        for row in 0..<rowCount {
          var (pending, count, place) = (UInt32(0), 0, row * rowByteCount)
          for column in 0..<columnCount {
            pending |= UInt32(codes[row * columnCount + column]) << UInt32(count)
            count += bits
            while count >= 8 {
              bytes[place] = UInt8(truncatingIfNeeded: pending)
              (pending, count, place) = (pending >> 8, count - 8, place + 1)
            }
          }
          if count > 0 { bytes[place] = UInt8(truncatingIfNeeded: pending) }
        }
      }
    }
    return bytes
  }

  /// Bytes of a row: whole words of 32 bits.
  package static func rowByteCount(columnCount: Int, bits: Int) -> Int { (columnCount * bits + 31) / 32 * 4 }
}
