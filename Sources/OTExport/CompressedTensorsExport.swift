import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTQuantization
import OTTensor

/// Folders for `transformers` and vLLM, in the layout of the library compressed-tensors.
///
/// Linears of blocks are quantized, with the scales of their activations where the model has such; all else is float.
/// Of activations with scales found by calibration the scales are in the parameters already: `input_scale` is 1, or
/// (2^(bits−1) − 1) / 127 where ours have fewer than the 8 bits that the engines give them.
struct CompressedTensors: QuantizedLayout {
  static let format = "compressed-tensors"
  static let traits = FormatTraits(
    "such a folder with quantized linears, and scales of\nactivations, for transformers and vLLM", .shards,
    prefersSymmetric: true)
  static let metadata = ["format": "pt"]

  /// The form of a linear's weights and of what it reads.
  private struct Form: Hashable {
    enum Activation: Hashable {
      case float, dynamic
      case `static`(scale: Float)

      /// The scale is the tensor's business.
      var isStatic: Bool { if case .static = self { true } else { false } }
      var kind: Activation { isStatic ? .static(scale: 1) : self }
    }

    var activation: Activation
    var bits: Int
    var isSymmetric: Bool
    var groupSize: Int?
    /// A stream of bits, with zero points; else a byte to a value, without.
    var isPacked: Bool

    var name: String { isPacked ? "pack-quantized" : "int-quantized" }
  }

  private let graph: Graph
  private var forms: [String: Form] = [:]
  private var groups: [(form: Form, targets: [String])] = []
  private var ignored: [String] = []

  init(_ model: ExportedModel, _ output: ExportOutput) throws {
    guard let graph = model.graph else {
      throw Refusal(
        "export-graph", "which of its matrices are linears is not known", file: model.path,
        remedy: "export a model of a known family, not --restored")
    }
    // transformers keeps experts in stacks, for which compressed-tensors makes no modules.
    guard !graph.hasExperts else {
      throw Refusal(
        "export-architecture", "mixtures of experts are not written for compressed-tensors", file: model.path,
        remedy: "export it --to safetensors")
    }
    self.graph = graph
  }

  func keepsValues(of tensor: ExportedTensor) -> Bool {
    tensor.use?.role == .weight && tensor.use?.linearRole == .block
  }

  // Scales are float32.
  func factor(of tensor: ExportedTensor) -> Float { 1 }

  // MARK: What it takes

  mutating func accept(_ modules: [QuantizedModule], of model: ExportedModel) throws {
    let found = try modules.map { try activation(of: $0, model) }
    let hasStatic = found.contains(where: \.isStatic)
    for (module, activation) in zip(modules, found) {
      forms[module.name] = try form(of: module, activation, packsValues: !hasStatic, model)
    }
    var counts: [Form: Int] = [:]
    var order: [Form] = []
    for module in modules {
      guard let form = kind(of: module) else { continue }
      if counts[form] == nil { order.append(form) }
      counts[form, default: 0] += 1
    }
    // The most frequent form is that of all linears that no other group names.
    let main = order.max { (counts[$0] ?? 0) < (counts[$1] ?? 0) }
    for form in order where form != main {
      groups.append((form, targets(modules.filter { kind(of: $0) == form }, among: modules)))
    }
    if let main { groups.append((main, ["Linear"])) }
    let quantized = Set(modules.flatMap { $0.entry.parts.compactMap(\.tensor.use?.node) })
    for node in graph.nodes {
      guard case .linear(let linear) = node.operation, !quantized.contains(node.name) else { continue }
      let source = linear.weight.name
      let name = linear.role == .head || !source.hasSuffix(".weight") ? node.name : String(source.dropLast(7))
      let pattern = name == "lm_head" ? name : "re:(.*\\.)?" + CompressedTensors.escaped(name) + "$"
      if !ignored.contains(pattern) { ignored.append(pattern) }
    }
    if !graph.isCausal { ignored += ["re:.*pooler.*", "re:cls.*", "re:.*classifier.*"] }
    if !ignored.contains("lm_head"), graph.outputs["logits"] != nil { ignored.insert("lm_head", at: 0) }
  }

  /// The form that config.json describes, in which static scales are all the same.
  private func kind(of module: QuantizedModule) -> Form? {
    guard var form = forms[module.name] else { return nil }
    form.activation = form.activation.kind
    return form
  }

  private func activation(of module: QuantizedModule, _ model: ExportedModel) throws -> Form.Activation {
    let found = Set(module.entry.parts.compactMap(\.tensor.use?.node).map(model.activation))
    guard found.count == 1, let activation = found.first else {
      throw Refusal(
        "export-parts", "its parts read different activations", file: model.path, tensor: module.entry.entry.name)
    }
    switch activation {
    case .float: return .float
    case .dynamic(_, let groupSize?), .asymmetric(_, let groupSize?):
      throw Refusal(
        "export-activation", "site of '\(module.name)' has a scale for each \(groupSize) channels of a token",
        file: model.path, tensor: module.entry.entry.name, remedy: "use --activations token")
    case .asymmetric:
      throw Refusal(
        "export-activation", "site of '\(module.name)' has a code of 0 for each token", file: model.path,
        tensor: module.entry.entry.name, remedy: "use --activations token")
    case .dynamic: return .dynamic
    case .static(let bits, _): return .static(scale: Float((1 << (bits - 1)) - 1) / 127)
    }
  }

  private func form(
    of module: QuantizedModule, _ activation: Form.Activation, packsValues: Bool, _ model: ExportedModel
  ) throws -> Form {
    let scheme = module.scheme
    func refusal(_ rule: String, _ message: String, _ remedy: String) -> Refusal {
      Refusal(rule, message, file: model.path, tensor: module.entry.entry.name, remedy: remedy)
    }
    var form = Form(
      activation: activation, bits: scheme.bits, isSymmetric: scheme.isSymmetric, groupSize: nil, isPacked: true)
    if case .perGroup(let size) = scheme.granularity {
      guard module.columnCount % size == 0 else {
        throw refusal(
          "export-groups", "\(module.columnCount) columns are no whole groups of \(size)",
          "use another --group-size, or --exclude '\(module.name)'")
      }
      form.groupSize = size
    }
    guard activation != .float else { return form }
    if form.groupSize != nil {
      guard scheme.isSymmetric, !activation.isStatic else {
        throw refusal(
          "export-groups",
          scheme.isSymmetric
            ? "groups of weights do not go with scales of activations that were found by calibration"
            : "asymmetric groups of weights do not go with quantized activations",
          scheme.isSymmetric
            ? "leave out --group-size, or use --activations token"
            : "use --weight-scheme symmetric, or --activation-bits 16")
      }
      return form
    }
    guard module.fitsSignedBytes else { throw module.signedBytesRefusal(of: model) }
    form.isPacked = packsValues && scheme.isSymmetric && scheme.bits < 8
    if !form.isPacked { (form.bits, form.isSymmetric) = (8, true) }
    return form
  }

  // MARK: Names

  private static func escaped(_ name: String) -> String {
    name.map { ".+*?()[]{}|^$\\".contains($0) ? "\\\($0)" : "\($0)" }.joined()
  }

  /// The name behind the number of the layer, and with it.
  private static func ends(of name: String) -> (end: String, numbered: String) {
    let parts = name.split(separator: ".").map(String.init)
    guard let layer = parts.firstIndex(where: { Int($0) != nil }) else { return (name, name) }
    return (parts[(layer + 1)...].joined(separator: "."), parts[layer...].joined(separator: "."))
  }

  /// Patterns that match these modules and none of the others, whatever goes before their names.
  private func targets(_ own: [QuantizedModule], among all: [QuantizedModule]) -> [String] {
    let names = Set(own.map(\.name))
    let others = Set(all.filter { !names.contains($0.name) }.map { CompressedTensors.ends(of: $0.name).end })
    var patterns: [String] = []
    for module in own {
      let (end, numbered) = CompressedTensors.ends(of: module.name)
      // What ends in the same words matches, too: `output.dense` is the end of `attention.output.dense`.
      let isShared = others.contains { $0 == end || $0.hasSuffix("." + end) }
      let pattern = "re:.*\\." + CompressedTensors.escaped(isShared ? numbered : end) + "$"
      if !patterns.contains(pattern) { patterns.append(pattern) }
    }
    return patterns
  }

  // MARK: Tensors

  func entries(of module: QuantizedModule) -> [SafetensorsWriter.Entry] {
    guard let form = forms[module.name] else { return [] }
    var entries: [SafetensorsWriter.Entry] = []
    func add(_ suffix: String, _ type: ElementType, _ dimensions: [Int]) {
      guard let shape = Shape(dimensions) else { return }
      entries.append(.init(name: "\(module.name).\(suffix)", elementType: type, shape: shape))
    }
    let (rows, columns) = (module.rowCount, module.columnCount)
    if form.isPacked {
      add("weight_packed", .i32, [rows, DenseCodes.rowByteCount(columnCount: columns, bits: form.bits) / 4])
      add("weight_shape", .i64, [2])
      if !form.isSymmetric {
        add(
          "weight_zero_point", .i32,
          [DenseCodes.rowByteCount(columnCount: rows, bits: form.bits) / 4, module.groupCount])
      }
    } else {
      add("weight", .i8, [rows, columns])
    }
    add("weight_scale", .f32, [rows, module.groupCount])
    if form.activation.isStatic { add("input_scale", .f32, [1]) }
    return entries
  }

  func encode(
    _ rows: QuantizedRows, of tensor: ExportedTensor, from firstRow: Int, in module: QuantizedModule
  ) throws -> [PlacedBytes] {
    guard let form = forms[module.name] else { return [] }
    let scales = rows.scales.withUnsafeBytes { Array($0) }
    let placedScales = PlacedBytes(
      name: "\(module.name).weight_scale", offset: firstRow * module.groupCount * 4, bytes: scales)
    let columns = module.columnCount
    guard !form.isPacked else {
      return [
        PlacedBytes(
          name: "\(module.name).weight_packed",
          offset: firstRow * DenseCodes.rowByteCount(columnCount: columns, bits: form.bits),
          bytes: DenseCodes.pack(rows.values, columnCount: columns, bits: form.bits)), placedScales,
      ]
    }
    return [
      PlacedBytes(name: "\(module.name).weight", offset: firstRow * columns, bytes: module.signedBytes(rows)),
      placedScales,
    ]
  }

  func ending(of module: QuantizedModule, zeroPoints: [UInt8]) -> [PlacedBytes] {
    guard let form = forms[module.name] else { return [] }
    var placed: [PlacedBytes] = []
    func add(_ suffix: String, _ bytes: [UInt8]) {
      placed.append(PlacedBytes(name: "\(module.name).\(suffix)", offset: 0, bytes: bytes))
    }
    if case .static(let scale) = form.activation { add("input_scale", withUnsafeBytes(of: scale) { Array($0) }) }
    guard form.isPacked else { return placed }
    let shape = [Int64(module.rowCount), Int64(module.columnCount)]
    add("weight_shape", shape.withUnsafeBytes { Array($0) })
    guard !form.isSymmetric else { return placed }
    // A stream for each column of zero points, along the rows; its words are rows of the tensor.
    let groups = module.groupCount
    let words = DenseCodes.rowByteCount(columnCount: module.rowCount, bits: form.bits) / 4
    var bytes = [UInt8](repeating: 0, count: words * groups * 4)
    for group in 0..<groups {
      let column = stride(from: group, to: zeroPoints.count, by: groups).map { zeroPoints[$0] }
      let packed = DenseCodes.pack(column, columnCount: column.count, bits: form.bits)
      for word in 0..<words {
        let place = (word * groups + group) * 4
        bytes.replaceSubrange(place..<place + 4, with: packed[word * 4..<word * 4 + 4])
      }
    }
    add("weight_zero_point", bytes)
    return placed
  }

  // MARK: config.json

  func describe(in configuration: inout JSONObject) {
    let names = Set(groups.map(\.form.name))
    var groups = JSONObject()
    for (index, group) in self.groups.enumerated() {
      let form = group.form
      groups["group_\(index)"] = .object([
        "targets": .array(group.targets.map { .string($0) }), "format": .string(form.name),
        "weights": CompressedTensors.arguments(
          bits: form.bits, isSymmetric: form.isSymmetric, strategy: form.groupSize == nil ? "channel" : "group",
          groupSize: form.groupSize),
        "input_activations": CompressedTensors.arguments(of: form.activation), "output_activations": .null,
      ])
    }
    var members: JSONObject = [
      "quant_method": .string("compressed-tensors"),
      "format": .string(names.count == 1 ? names.first ?? "" : "mixed-precision"),
      "quantization_status": .string("compressed"), "version": .string("0.18.0"),
      "ignore": .array(ignored.map { .string($0) }), "kv_cache_scheme": .null, "global_compression_ratio": .null,
      "sparsity_config": .object([:]), "transform_config": .object([:]), "config_groups": .object(groups),
    ]
    // transformers reads packed zero points no other way, and sentence-transformers goes past what makes weights of
    // their values.
    if !graph.isCausal || self.groups.contains(where: { !$0.form.isSymmetric }) { members["dequantize"] = .bool(true) }
    configuration["quantization_config"] = .object(members)
  }

  private static func arguments(of activation: Form.Activation) -> JSONValue {
    switch activation {
    case .float: .null
    case .dynamic: arguments(bits: 8, isSymmetric: true, strategy: "token", isDynamic: true)
    case .static: arguments(bits: 8, isSymmetric: true, strategy: "tensor")
    }
  }

  private static func arguments(
    bits: Int, isSymmetric: Bool, strategy: String, groupSize: Int? = nil, isDynamic: Bool = false
  ) -> JSONValue {
    .object([
      "num_bits": .integer(bits), "type": .string("int"), "symmetric": .bool(isSymmetric),
      "strategy": .string(strategy), "dynamic": .bool(isDynamic),
      "group_size": groupSize.map { .integer($0) } ?? .null, "block_structure": .null, "actorder": .null,
      "observer": isDynamic ? .null : .string("memoryless_minmax"), "observer_kwargs": .object([:]),
    ])
  }
}
