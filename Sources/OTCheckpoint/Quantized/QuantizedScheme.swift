import OTFoundation
import OTJSON
import OTTensor

/// A way in which checkpoints hold weights as integers or narrow floats with scales, and how it is read.
///
/// The rules are in `formats/accepted-quantized.md`. A new scheme is a file with one type, and its line in
/// `QuantizedSchemes.all`.
protocol QuantizedScheme: Sendable {
  /// Reads what the checkpoint says of its quantization; nil where that is another scheme.
  ///
  /// - Throws: `Refusal` with rule `quantized-unsupported` for a variant that is not read, `quantized-statement`
  ///   for members that make no sense.
  init?(_ statement: QuantizationStatement) throws

  /// The scheme in words: `GPTQ, 4 bits`.
  var name: String { get }

  /// Ends of the names of the tensors that a module's weight is made of, without the separator before them.
  var parts: [String] { get }

  /// What stands before these ends: a dot, unless the scheme says something else.
  var separator: String { get }

  /// Ends of the names of tensors that say how activations are rounded: they are left out.
  var leftOut: [String] { get }

  /// The float weight `[out, in]` of a module; nil where the module is not quantized.
  ///
  /// - Throws: `Refusal` with a rule `quantized-…`.
  func weight(of module: QuantizedModule) throws -> TensorView?
}

extension QuantizedScheme {
  var leftOut: [String] { [] }
  var separator: String { "." }
}

/// What a checkpoint says of its quantization.
struct QuantizationStatement: Sendable {
  /// The object: `quantization_config` of config.json, or a file of the program that quantized.
  let json: JSONValue
  /// The scheme that it names, in lower case.
  let method: String
  /// The file that it is in.
  let file: String

  func refusal(_ rule: String, _ message: String, remedy: String? = nil) -> Refusal {
    Refusal(rule, message, file: file, remedy: remedy)
  }

  /// The refusal of a variant that is not read.
  func unsupported(_ what: String) -> Refusal {
    refusal(
      "quantized-unsupported", "the weights are quantized in a way that is not read: \(method), \(what.prefix(200))",
      remedy: "convert the original checkpoint, whose weights are float")
  }

  /// An integer among `allowed`; nil where the member is absent or null.
  ///
  /// - Throws: `Refusal` with rule `quantized-statement`.
  func integer(_ key: String, in allowed: ClosedRange<Int>) throws -> Int? {
    guard let value = json[key], value != .null else { return nil }
    guard let integer = value.integer, allowed.contains(integer) else {
      throw refusal("quantized-statement", "'\(key)' is not an integer in \(allowed)")
    }
    return integer
  }
}

/// The tensors that the weight of one module is made of.
struct QuantizedModule {
  /// The module's name, to which `.weight` is added.
  let name: String
  /// Tensors by the ends of their names.
  let tensors: [String: TensorView]

  subscript(part: String) -> TensorView? { tensors[part] }

  func refusal(_ rule: String, _ message: String, _ part: String) -> Refusal {
    let view = tensors[part]
    return Refusal(
      rule, message, file: view?.file.path ?? tensors.values.first?.file.path, tensor: "\(name).\(part)",
      byteOffset: view?.byteOffset)
  }

  /// A tensor that must be there, of one of `types`.
  ///
  /// - Throws: `Refusal` with rule `quantized-part-missing` or `quantized-part-type`.
  func required(_ part: String, _ types: ElementType...) throws -> TensorView {
    guard let view = tensors[part] else {
      throw refusal("quantized-part-missing", "is not there, and the weight of '\(name)' is made of it", part)
    }
    guard types.contains(view.elementType) else {
      let wanted = types.map(\.rawValue).joined(separator: " or ")
      throw refusal("quantized-part-type", "has elements \(view.elementType.rawValue), not \(wanted)", part)
    }
    return view
  }

  /// - Throws: `Refusal` with rule `quantized-shape`.
  func check(_ part: String, is dimensions: [Int]...) throws {
    guard let view = tensors[part], !dimensions.contains(view.shape.dimensions) else { return }
    let wanted = dimensions.map { "\($0)" }.joined(separator: " or ")
    throw refusal("quantized-shape", "is \(view.shape), not \(wanted)", part)
  }

  /// A shape `[out, in]`, neither of them 0.
  ///
  /// - Throws: `Refusal` with rule `quantized-shape`.
  func shape(_ rowCount: Int, _ columnCount: Int, _ part: String) throws -> Shape {
    guard rowCount > 0, columnCount > 0, let shape = Shape([rowCount, columnCount]) else {
      throw refusal("quantized-shape", "gives a weight of \(rowCount) × \(columnCount)", part)
    }
    return shape
  }

  /// The weight that `decoder` makes of `part` and others.
  func weight(_ shape: Shape, _ part: TensorView, by decoder: any RowDecoder) -> TensorView {
    TensorView(
      decoded: name + ".weight", shape: shape, by: decoder, file: part.file, byteOffset: part.byteOffset)
  }
}
