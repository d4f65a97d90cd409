import OTFoundation
import OTJSON
import OTTensor

/// MLX's affine quantization; 2, 3, 4, 5, 6 or 8 bits.
///
/// Of a module, `weight` is U32 `[out, in·bits/32]`, a stream of unsigned integers in each row, `scales` and
/// `biases` are `[out, in/group]`: w = u·scale + bias.
struct MLXScheme: QuantizedScheme {
  /// What the statement of MLX, which has no name in the file, is called here.
  static let method = "mlx"

  private let statement: QuantizationStatement
  private let bits: Int
  private let groupSize: Int

  init?(_ statement: QuantizationStatement) throws {
    guard statement.method == MLXScheme.method else { return nil }
    let mode = statement.json["mode"]?.string ?? "affine"
    guard mode == "affine" else { throw statement.unsupported("mode '\(mode)'") }
    self.statement = statement
    bits = try statement.integer("bits", in: 2...8) ?? 4
    groupSize = try statement.integer("group_size", in: 1...65_536) ?? 64
  }

  var name: String { "MLX, \(bits) bits" }
  var parts: [String] { ["weight", "scales", "biases"] }

  func weight(of module: QuantizedModule) throws -> TensorView? {
    guard module["scales"] != nil || module["biases"] != nil else { return nil }
    let weight = try module.required("weight", .u32)
    let scales = try module.required("scales", .f16, .bf16, .f32)
    let biases = try module.required("biases", .f16, .bf16, .f32)
    let own = statement.json[module.name]
    let bits = own?["bits"]?.integer ?? bits
    let groupSize = own?["group_size"]?.integer ?? groupSize
    guard (2...8).contains(bits), (1...65_536).contains(groupSize) else {
      throw statement.refusal("quantized-statement", "'\(module.name)' has bits or a group size that make no sense")
    }
    guard weight.shape.rank == 2, scales.shape.rank == 2,
      let columnCount = scales.shape.dimensions[1].multipliedChecked(by: groupSize)
    else { throw module.refusal("quantized-shape", "is no matrix", weight.shape.rank == 2 ? "scales" : "weight") }
    let shape = try module.shape(weight.shape.rowCount, columnCount, "weight")
    guard let bitCount = columnCount.multipliedChecked(by: bits), bitCount % 32 == 0,
      weight.shape.dimensions[1] == bitCount / 32
    else {
      throw module.refusal(
        "quantized-shape",
        "has \(weight.shape.dimensions[1]) words a row, which are no \(columnCount) integers of \(bits) bits", "weight")
    }
    try module.check("scales", is: [shape.rowCount, columnCount / groupSize])
    try module.check("biases", is: scales.shape.dimensions)
    func grid(_ view: TensorView) -> ScaleGrid { ScaleGrid(view: view, rowsPerScale: 1, columnsPerScale: groupSize) }
    return module.weight(
      shape, weight,
      by: ScaledRows(
        codes: .packed(bits: bits, offset: 0), view: weight, columnCount: columnCount, scales: grid(scales),
        constant: .offsets(grid(biases))))
  }
}
