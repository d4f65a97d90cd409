import OTFoundation
import OTJSON
import OTTensor

/// bitsandbytes: 8 bits, and 4 bits by a table of 16 values (nf4, fp4).
///
/// 8 bits: `weight` I8 `[out, in]`, `SCB` F32 `[out]`: w = q · (SCB/127). 4 bits: `weight` U8 has two elements a
/// byte, the first in the high half, in the order of rows; w = table[q] · absmax of its block of elements, which
/// may go on in the next row. Quantized twice, absmax = nested table[u] · nested absmax of its block + offset.
struct BitsAndBytesScheme: QuantizedScheme {
  private static let states = [
    "weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4",
  ]

  let name: String

  init?(_ statement: QuantizationStatement) throws {
    guard statement.method == "bitsandbytes" else { return nil }
    let json = statement.json
    let isFourBits = json["load_in_4bit"]?.bool == true
    let type = json["bnb_4bit_quant_type"]?.string ?? "fp4"
    guard !isFourBits || ["nf4", "fp4"].contains(type) else {
      throw statement.unsupported("bnb_4bit_quant_type '\(type)'")
    }
    let isDouble = json["bnb_4bit_use_double_quant"]?.bool == true
    name = "bitsandbytes, " + (isFourBits ? "4 bits (\(type)\(isDouble ? ", scales quantized too" : ""))" : "8 bits")
  }

  var parts: [String] {
    [
      "weight", "SCB", "weight_format", "weight.absmax", "weight.quant_map", "weight.nested_absmax",
      "weight.nested_quant_map",
    ] + BitsAndBytesScheme.states
  }

  func weight(of module: QuantizedModule) throws -> TensorView? {
    if module["SCB"] != nil || module["weight"]?.elementType == .i8 { return try eightBits(module) }
    guard let state = BitsAndBytesScheme.states.first(where: { module[$0] != nil }) else { return nil }
    return try fourBits(module, state)
  }

  private func eightBits(_ module: QuantizedModule) throws -> TensorView {
    let weight = try module.required("weight", .i8)
    let scales = try module.required("SCB", .f32)
    guard weight.shape.rank == 2 else { throw module.refusal("quantized-shape", "is no matrix", "weight") }
    let shape = try module.shape(weight.shape.rowCount, weight.shape.dimensions[1], "weight")
    try module.check("SCB", is: [shape.rowCount], [1])
    if let format = module["weight_format"], format.shape.elementCount > 0 {
      let layout = try module.required("weight_format", .u8).withRowBytes(0..<1) { $0[0] }
      guard layout == 0 else {
        throw module.refusal("quantized-layout", "is \(layout): the weight does not lie row by row", "weight_format")
      }
    }
    return module.weight(
      shape, weight,
      by: ScaledRows(
        codes: .int8, view: weight, columnCount: shape.rowElementCount,
        scales: try module.scales("SCB", scales, of: shape, divisor: 127)))
  }

  // MARK: 4 bits

  private func fourBits(_ module: QuantizedModule, _ statePart: String) throws -> TensorView {
    let weight = try module.required("weight", .u8)
    let state = try state(of: module, statePart)
    func integer(_ key: String, _ allowed: ClosedRange<Int>) throws -> Int {
      guard let value = state[key]?.integer, allowed.contains(value) else {
        throw module.refusal("quantized-statement", "'\(key)' is not an integer in \(allowed)", statePart)
      }
      return value
    }
    let dimensions = state["shape"]?.array?.compactMap(\.integer) ?? []
    guard dimensions.count == 2, dimensions.allSatisfy({ $0 > 0 }) else {
      throw module.refusal("quantized-statement", "'shape' is not that of a matrix", statePart)
    }
    let shape = try module.shape(dimensions[0], dimensions[1], statePart)
    let count = shape.elementCount
    guard weight.shape.elementCount == (count - 1) / 2 + 1 else {
      throw module.refusal("quantized-shape", "has \(weight.shape.elementCount) bytes for \(count) elements", "weight")
    }
    let blockSize = try integer("blocksize", 1...1 << 24)
    let blockCount = (count - 1) / blockSize + 1
    let absmax = try module.required("weight.absmax", .f32, .u8)
    try module.check("weight.absmax", is: [blockCount])
    let table = try self.table(of: module, "weight.quant_map", count: 16)
    var nested: BlockCodes.Nested?
    if absmax.elementType == .u8 {
      let nestedSize = try integer("nested_blocksize", 1...1 << 24)
      let scales = try module.required("weight.nested_absmax", .f32)
      try module.check("weight.nested_absmax", is: [(blockCount - 1) / nestedSize + 1])
      guard let offset = state["nested_offset"]?.double, offset.isFinite else {
        throw module.refusal("quantized-statement", "'nested_offset' is not a number", statePart)
      }
      nested = BlockCodes.Nested(
        table: try self.table(of: module, "weight.nested_quant_map", count: 256), absmax: scales,
        blockSize: nestedSize, offset: Float(offset))
    }
    return module.weight(
      shape, weight,
      by: BlockCodes(
        weight: weight, table: table, absmax: absmax, blockSize: blockSize, nested: nested,
        columnCount: shape.rowElementCount))
  }

  private func state(of module: QuantizedModule, _ part: String) throws -> JSONValue {
    let view = try module.required(part, .u8)
    guard view.shape.elementCount <= 65_536 else {
      throw module.refusal("quantized-statement", "is longer than any statement", part)
    }
    return try view.withRowBytes(0..<view.shape.rowCount) {
      try JSONValue.parse($0, limits: .configuration, file: "\(view.file.path): \(view.name)")
    }
  }

  private func table(of module: QuantizedModule, _ part: String, count: Int) throws -> [Float] {
    let view = try module.required(part, .f32)
    try module.check(part, is: [count])
    return view.narrowFloats(rows: 0..<count)
  }
}

/// Weights of 4 bits by a table, in blocks of elements that may go on from row to row.
private struct BlockCodes: RowDecoder {
  /// How the scales of blocks are quantized themselves.
  struct Nested {
    /// 256 values.
    let table: [Float]
    let absmax: TensorView
    let blockSize: Int
    let offset: Float
  }

  let weight: TensorView
  /// 16 values.
  let table: [Float]
  let absmax: TensorView
  let blockSize: Int
  let nested: Nested?
  let columnCount: Int

  func decode(_ rows: Range<Int>, into target: UnsafeMutableRawBufferPointer) {
    guard !rows.isEmpty else { return }
    let target = target.bindMemory(to: Float.self)
    let elements = rows.lowerBound * columnCount..<rows.upperBound * columnCount
    let blocks = elements.lowerBound / blockSize..<(elements.upperBound - 1) / blockSize + 1
    let scales = scales(of: blocks)
    weight.withRowBytes(0..<weight.shape.rowCount) { bytes in
      for (index, block) in blocks.enumerated() {
        let scale = scales[index]
        let part = max(block * blockSize, elements.lowerBound)..<min((block + 1) * blockSize, elements.upperBound)
        for element in part {
          let byte = bytes[element / 2]
          target[element - elements.lowerBound] = table[Int(element % 2 == 0 ? byte >> 4 : byte & 15)] * scale
        }
      }
    }
  }

  func release(_ rows: Range<Int>) {
    guard weight.shape.rowCount > 0, weight.isContiguous else { return }
    let bytes = rows.lowerBound * columnCount / 2..<rows.upperBound * columnCount / 2
    weight.file.release(weight.byteOffset + bytes.lowerBound..<weight.byteOffset + bytes.upperBound)
  }

  func storedByteCount(of rows: Range<Int>) -> Int {
    // The scales of the scales are few.
    rows.count * columnCount / 2 + rows.count * columnCount / blockSize * absmax.elementType.bitWidth / 8
  }

  private func scales(of blocks: Range<Int>) -> [Float] {
    guard let nested else { return absmax.narrowFloats(rows: blocks) }
    let outer = blocks.lowerBound / nested.blockSize..<(blocks.upperBound - 1) / nested.blockSize + 1
    let scales = nested.absmax.narrowFloats(rows: outer)
    return absmax.withRowBytes(blocks) { bytes in
      blocks.enumerated().map { index, block in
        nested.table[Int(bytes[index])] * scales[block / nested.blockSize - outer.lowerBound] + nested.offset
      }
    }
  }
}
