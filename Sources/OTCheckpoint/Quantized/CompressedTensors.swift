import OTFoundation
import OTJSON
import OTTensor

/// The formats of compressed-tensors (llm-compressor, vLLM): integers, packed integers, E4M3, MXFP4, MXFP8
/// and NVFP4.
///
/// What a module's tensors are says how it is read; the configuration says the bits of packed integers and
/// the sizes of blocks.
struct CompressedTensorsScheme: QuantizedScheme {
  private let format: String
  /// Bits of integers that modules may have.
  private let bits: [Int]
  /// Sizes `[rows, columns]` that blocks may have.
  private let blocks: [[Int]]

  private static let formats: Set<String> = [
    "int-quantized", "pack-quantized", "float-quantized", "naive-quantized", "mxfp4-pack-quantized",
    "mxfp8-quantized", "nvfp4-pack-quantized", "mixed-precision",
  ]

  init?(_ statement: QuantizationStatement) throws {
    guard ["compressed-tensors", "compressed_tensors"].contains(statement.method) else { return nil }
    let json = statement.json
    let groups = json["config_groups"]?.object?.members.map(\.value) ?? []
    for format in [json["format"]?.string] + groups.map({ $0["format"]?.string }) {
      if let format, !CompressedTensorsScheme.formats.contains(format) {
        throw statement.unsupported("format '\(format)'")
      }
    }
    if let sparsity = json["sparsity_config"]?["format"]?.string, sparsity != "dense" {
      throw statement.unsupported("sparsity '\(sparsity)'")
    }
    // Rotations that are undone when the model runs.
    if let transforms = json["transform_config"]?["config_groups"]?.object, transforms.count > 0 {
      throw statement.unsupported("with transforms of activations")
    }
    format = json["format"]?.string ?? "of several formats"
    let weights = groups.compactMap { $0["weights"] }
    bits = Set(weights.filter { $0["type"]?.string != "float" }.compactMap { $0["num_bits"]?.integer })
      .filter { (2...8).contains($0) }.sorted()
    blocks = weights.compactMap { $0["block_structure"]?.array?.compactMap(\.integer) }
  }

  var name: String { "compressed-tensors, \(format)" }
  var parts: [String] {
    [
      "weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx",
      "weight_global_scale",
    ]
  }
  var leftOut: [String] {
    [
      "input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point", "q_scale",
      "k_scale", "v_scale",
    ]
  }

  func weight(of module: QuantizedModule) throws -> TensorView? {
    if let packed = module["weight_packed"] {
      return try packed.elementType == .u8 ? smallFloats(module) : packedIntegers(module)
    }
    guard let weight = module["weight"], weight.elementType == .i8 || weight.elementType == .f8e4m3 else { return nil }
    guard weight.shape.rank == 2 else { throw module.refusal("quantized-shape", "is no matrix", "weight") }
    let shape = try module.shape(weight.shape.rowCount, weight.shape.dimensions[1], "weight")
    let scales = try scales(of: module, shape)
    return module.weight(
      shape, weight,
      by: ScaledRows(
        codes: weight.elementType == .i8 ? .int8 : .e4m3, view: weight, columnCount: shape.rowElementCount,
        scales: scales, constant: try zeroPoints(of: module, shape, scales, bits: 8),
        blocks: try order(of: module, shape, scales)))
  }

  private func scales(of module: QuantizedModule, _ shape: Shape) throws -> ScaleGrid {
    let view = try module.required("weight_scale", .f32, .f16, .bf16, .u8, .f8e8m0)
    return try module.scales("weight_scale", view, of: shape, blocks: blocks)
  }

  // MARK: Packed

  private func packedIntegers(_ module: QuantizedModule) throws -> TensorView {
    let packed = try module.required("weight_packed", .i32, .u32)
    let stated = try module.required("weight_shape", .i64, .i32)
    try module.check("weight_shape", is: [2])
    let sizes = stated.sizes()
    guard packed.shape.rank == 2, sizes[0] == packed.shape.rowCount else {
      throw module.refusal("quantized-shape", "is \(packed.shape), weight_shape says \(sizes)", "weight_packed")
    }
    let shape = try module.shape(sizes[0], sizes[1], "weight_shape")
    let possible = bits.filter {
      PackedIntegers.wordCount(shape.rowElementCount, bits: $0) == packed.shape.dimensions[1]
    }
    guard possible.count == 1, let bits = possible.first else {
      throw module.refusal(
        "quantized-shape",
        "has \(packed.shape.dimensions[1]) words a row; \(shape.rowElementCount) integers of "
          + (bits.isEmpty ? "unknown" : bits.map(String.init).joined(separator: " or ")) + " bits take others",
        "weight_packed")
    }
    let scales = try scales(of: module, shape)
    return module.weight(
      shape, packed,
      by: ScaledRows(
        codes: .packed(bits: bits, offset: 1 << (bits - 1)), view: packed, columnCount: shape.rowElementCount,
        scales: scales, constant: try zeroPoints(of: module, shape, scales, bits: bits),
        blocks: try order(of: module, shape, scales)))
  }

  /// MXFP4, and NVFP4 with its scale of the whole tensor.
  private func smallFloats(_ module: QuantizedModule) throws -> TensorView {
    let packed = try module.required("weight_packed", .u8)
    guard packed.shape.rank == 2, let columnCount = packed.shape.dimensions[1].multipliedChecked(by: 2) else {
      throw module.refusal("quantized-shape", "is no matrix", "weight_packed")
    }
    let shape = try module.shape(packed.shape.rowCount, columnCount, "weight_packed")
    let isNVFP4 = module["weight_global_scale"] != nil
    let view =
      try isNVFP4 ? module.required("weight_scale", .f8e4m3) : module.required("weight_scale", .u8, .f8e8m0)
    let size = isNVFP4 ? 16 : 32
    try module.check("weight_scale", is: [shape.rowCount, (columnCount - 1) / size + 1])
    var divisor: Float = 1
    if isNVFP4 {
      let scale = try module.required("weight_global_scale", .f32)
      try module.check("weight_global_scale", is: [1], [])
      divisor = scale.narrowFloats(rows: 0..<1)[0]
      guard divisor.isFinite, divisor != 0 else {
        throw module.refusal("quantized-scale", "is \(divisor), by which scales are divided", "weight_global_scale")
      }
    }
    return module.weight(
      shape, packed,
      by: ScaledRows(
        codes: .e2m1, view: packed, columnCount: columnCount,
        scales: ScaleGrid(view: view, rowsPerScale: 1, columnsPerScale: size, divisor: divisor)))
  }

  // MARK: Zero points and orders

  private func zeroPoints(
    of module: QuantizedModule, _ shape: Shape, _ scales: ScaleGrid, bits: Int
  ) throws -> ScaledRows.Constant {
    guard let zeros = module["weight_zero_point"] else { return .none }
    if zeros.elementType == .i8 {
      try module.check("weight_zero_point", is: scales.view.shape.dimensions)
      return .zeroPoints(
        ScaleGrid(
          view: zeros, rowsPerScale: scales.rowsPerScale, columnsPerScale: scales.columnsPerScale))
    }
    _ = try module.required("weight_zero_point", .i32)
    guard let wordCount = PackedIntegers.wordCount(shape.rowCount, bits: bits), scales.rowsPerScale == 1 else {
      throw module.refusal("quantized-shape", "is packed, and scales are not of rows", "weight_zero_point")
    }
    try module.check("weight_zero_point", is: [wordCount, scales.columnCount])
    return .packedZeroPoints(zeros, bits: bits, offset: 1 << (bits - 1))
  }

  /// The group of each input, where they were sorted before they were grouped.
  private func order(of module: QuantizedModule, _ shape: Shape, _ scales: ScaleGrid) throws -> [Int32]? {
    guard module["weight_g_idx"] != nil else { return nil }
    let view = try module.required("weight_g_idx", .i32)
    try module.check("weight_g_idx", is: [shape.rowElementCount])
    let groups = view.integers()
    guard groups.allSatisfy({ (0..<Int32(clamping: scales.columnCount)).contains($0) }) else {
      throw module.refusal("quantized-group", "names a group that is none of the \(scales.columnCount)", "weight_g_idx")
    }
    return groups
  }
}

extension TensorView {
  /// The two elements of an I64 or I32 tensor `[2]`.
  fileprivate func sizes() -> [Int] {
    withRowBytes(0..<2) { bytes in
      (0..<2).map { index in
        elementType == .i64
          ? Int(Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: Int64.self)))
          : Int(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 4, as: Int32.self)))
      }
    }
  }
}
