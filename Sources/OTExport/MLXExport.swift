import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTKernels
import OTQuantization
import OTTensor

/// Folders for `mlx` and `mlx-lm`: affine quantized values, u · scale + bias for each group of a row.
///
/// All quantized matrices stay such, tables and heads too. A scale of a whole row is repeated for the largest groups
/// that MLX has and the row fills.
struct MLX: QuantizedLayout {
  static let format = "mlx"
  static let traits = FormatTraits("a folder for mlx-lm: quantized values in groups", .shards)
  static let metadata = ["format": "mlx"]

  /// Bits and groups of a matrix.
  private struct Form: Hashable {
    let bits, groupSize: Int

    var members: JSONObject {
      ["group_size": .integer(groupSize), "bits": .integer(bits), "mode": .string("affine")]
    }
  }

  private static let groupSizes = [128, 64, 32]

  private let facts: MLXFacts
  private let folded: FoldedScale
  private let elementType: ElementType?
  private var forms: [(name: String, form: Form)] = []
  private var formOf: [String: Form] = [:]

  init(_ model: ExportedModel, _ output: ExportOutput) throws {
    facts = try MLXFacts(model)
    folded = FoldedScale(model.graph)
    elementType = output.elementType
  }

  var notes: [String] { facts.notes }

  func keepsValues(of tensor: ExportedTensor) -> Bool { tensor.shape.rank == 2 }

  /// The type of scales and of floats beside them.
  private func type(of module: QuantizedModule) -> ElementType {
    elementType ?? module.entry.parts[0].tensor.source?.elementType ?? .f16
  }

  // All sites: none is quantized with scales of its own here.
  func factor(of tensor: ExportedTensor) -> Float { folded.factor(tensor.use) }

  mutating func accept(_ modules: [QuantizedModule], of model: ExportedModel) throws {
    for module in modules {
      func refusal(_ rule: String, _ message: String, _ remedy: String) -> Refusal {
        Refusal(rule, message, file: model.path, tensor: module.entry.entry.name, remedy: remedy)
      }
      // The names of the modules of mlx-lm.
      guard module.name.hasPrefix("model.") || module.name == "lm_head" else {
        throw refusal(
          "export-layout", "is not called as in mlx-lm, 'model.…'", "export the whole model, with its head")
      }
      let own: Int? = if case .perGroup(let size) = module.scheme.granularity { size } else { nil }
      let size = MLX.groupSizes.first { module.columnCount % $0 == 0 && (own ?? 0) % $0 == 0 }
      guard let size else {
        throw refusal(
          "export-groups",
          own.map { "groups of \($0) are not made of MLX's groups of 32, 64 or 128" }
            ?? "\(module.columnCount) columns are no whole groups of 32",
          own == nil
            ? "use --exclude '\(module.name)'" : "use --group-size 32, 64 or 128, or leave it out")
      }
      // MLX has no 7 bits.
      let form = Form(bits: module.scheme.bits == 7 ? 8 : module.scheme.bits, groupSize: size)
      forms.append((module.name, form))
      formOf[module.name] = form
    }
  }

  // MARK: Tensors

  func entries(of module: QuantizedModule) -> [SafetensorsWriter.Entry] {
    guard let form = formOf[module.name] else { return [] }
    let groups = module.columnCount / form.groupSize
    return [
      ("weight", ElementType.u32, module.columnCount * form.bits / 32), ("scales", type(of: module), groups),
      ("biases", type(of: module), groups),
    ].compactMap { suffix, type, columns in
      Shape([module.rowCount, columns]).map { .init(name: "\(module.name).\(suffix)", elementType: type, shape: $0) }
    }
  }

  func encode(
    _ rows: QuantizedRows, of tensor: ExportedTensor, from firstRow: Int, in module: QuantizedModule
  ) throws -> [PlacedBytes] {
    guard let form = formOf[module.name] else { return [] }
    let type = type(of: module)
    let groups = module.columnCount / form.groupSize
    let groupsOfOne = groups / module.groupCount
    let factor = factor(of: tensor)
    // The bias is that of the scale as it is stored.
    let scales = MLX.rounded(rows.scales.map { $0 * factor }, to: type)
    var (all, biases): ([Float], [Float]) = ([], [])
    for index in scales.indices {
      all += [Float](repeating: scales[index], count: groupsOfOne)
      biases += [Float](repeating: -Float(module.zeroPoint(rows, index)) * scales[index], count: groupsOfOne)
    }
    let rowByteCount = groups * type.bitWidth / 8
    func placed(_ suffix: String, _ values: [Float]) throws -> PlacedBytes {
      let name = "\(module.name).\(suffix)"
      return PlacedBytes(
        name: name, offset: firstRow * rowByteCount,
        bytes: try FloatBytes.with(values, as: type, of: name, in: nil, remedy: "use --dtype f32") { Array($0) })
    }
    return [
      PlacedBytes(
        name: "\(module.name).weight",
        offset: firstRow * DenseCodes.rowByteCount(columnCount: module.columnCount, bits: form.bits),
        bytes: DenseCodes.pack(rows.values, columnCount: module.columnCount, bits: form.bits)),
      try placed("scales", all), try placed("biases", biases),
    ]
  }

  /// Values as elements of `type`; what does not fit is left to be refused.
  private static func rounded(_ values: [Float], to type: ElementType) -> [Float] {
    guard type != .f32, type != .f64 else { return values }
    var bytes = [UInt8](repeating: 0, count: values.count * 2)
    var result = values
    bytes.withUnsafeMutableBytes { bytes in
      values.withUnsafeBufferPointer { Kernels.current.convert($0, to: type, into: bytes) }
      result.withUnsafeMutableBufferPointer {
        Kernels.current.convert(UnsafeRawBufferPointer(bytes), from: type, to: $0)
      }
    }
    return result
  }

  func ending(of module: QuantizedModule, zeroPoints: [UInt8]) -> [PlacedBytes] { [] }

  // MARK: config.json

  func describe(in configuration: inout JSONObject) {
    facts.describe(in: &configuration)
    let counts = Dictionary(forms.map { ($0.form, 1) }, uniquingKeysWith: +)
    let main = forms.map(\.form).max { (counts[$0] ?? 0) < (counts[$1] ?? 0) }
    var members = main?.members ?? [:]
    for (name, form) in forms where form != main { members[name] = .object(form.members) }
    configuration["quantization"] = .object(members)
    configuration["quantization_config"] = .object(members)
  }
}
