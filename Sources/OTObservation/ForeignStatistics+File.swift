import OTCheckpoint
import OTFoundation
import OTKernels
import OTTensor

/// The files: vectors by linear, as `torch.save` writes them, or the same as safetensors.
///
/// SmoothQuant's holds a vector per linear; OutlierTune's a dictionary per
/// linear with a vector as `input`, and maybe one as `output`, which is passed
/// over. In safetensors a dictionary's entries are named `LINEAR.input`.
extension ForeignStatistics {
  /// The meaning of a file's numbers.
  package enum Kind: Sendable, Hashable {
    /// max|x| per input channel: never negative, not all zero.
    case absoluteMaximum
    /// The sum over the samples of each sample's (max + min) / 2: of any sign.
    case midpointSum
  }

  /// The statistics of each linear's input: name → one value per channel.
  ///
  /// Names and lengths are not compared with a model. F16, BF16 and F32 are exact; F64 is rounded to nearest,
  /// ties to even.
  ///
  /// - Throws: `Refusal` with a rule `scales-…`, or one of the file's reader.
  package static func vectors(path: String, kind: Kind) throws -> [String: [Float]] {
    try vectors(MappedFile(path: path), kind: kind)
  }

  /// The same of a file that is mapped.
  ///
  /// - Throws: as `vectors(path:kind:)`.
  package static func vectors(_ mapping: MappedFile, kind: Kind) throws -> [String: [Float]] {
    let path = mapping.path
    let tensors = try tensors(mapping)
    guard !tensors.isEmpty else {
      throw Refusal("scales-empty", "holds no statistics", file: path)
    }
    var inputs: [String: [Float]] = [:]
    var linears: Set<String> = []
    var isNested: Bool?
    for tensor in tensors {
      let (linear, part) = split(tensor.name)
      guard isNested == nil || isNested == (part != nil) else {
        throw refuse(
          "scales-mixed-schemas",
          "stands beside others of another layout (a vector per linear; input and output)",
          tensor)
      }
      isNested = part != nil
      linears.insert(linear)
      if part == .output {
        try checkType(tensor)
      } else {
        inputs[linear] = try values(tensor, kind)
      }
    }
    if let linear = linears.sorted().first(where: { inputs[$0] == nil }) {
      throw Refusal(
        "scales-missing-input", "has no 'input' for this linear", file: path, tensor: linear)
    }
    return inputs
  }

  private enum Part { case input, output }

  private static func split(_ name: String) -> (linear: String, part: Part?) {
    for (suffix, part) in [(".input", Part.input), (".output", .output)]
    where name.hasSuffix(suffix) && name.utf8.count > suffix.utf8.count {
      return (String(name.dropLast(suffix.count)), part)
    }
    return (name, nil)
  }

  private static func tensors(_ mapping: MappedFile) throws -> [TensorView] {
    switch FileContent(mapping.bytes) {
    case .zip, .pickle: break
    case .unknown where mapping.path.hasSuffix(".pt") || mapping.path.hasSuffix(".bin"): break
    default: return try SafetensorsFile(mapping: mapping).tensors
    }
    let file = try PyTorchFile(mapping: mapping)
    if let path = file.otherPaths.first {
      throw Refusal(
        "scales-type", "is not a tensor of numbers", file: mapping.path, tensor: path,
        remedy: "save a vector per linear, one value per channel")
    }
    return file.tensors
  }

  private static func checkType(_ tensor: TensorView) throws {
    guard tensor.elementType.isConvertibleFloat else {
      throw refuse(
        "scales-type", "is of type \(tensor.elementType.rawValue), not F16, BF16, F32 or F64",
        tensor)
    }
  }

  private static func values(_ tensor: TensorView, _ kind: Kind) throws -> [Float] {
    try checkType(tensor)
    let channelCount = tensor.shape.dimensions.last ?? 0
    guard channelCount > 0, tensor.shape.elementCount == channelCount else {
      throw refuse("scales-shape", "is of shape \(tensor.shape), not (C), (1,C) or (1,1,C)", tensor)
    }
    var values = [Float](repeating: 0, count: channelCount)
    tensor.withRowBytes(0..<tensor.shape.rowCount) { bytes in
      values.withUnsafeMutableBufferPointer { Kernels.current.convert(bytes, from: tensor.elementType, to: $0) }
    }
    for (channel, value) in values.enumerated() {
      guard value.isFinite else {
        throw refuse("scales-not-finite", "is \(value) at channel \(channel)", tensor)
      }
      guard kind == .midpointSum || value >= 0 else {
        throw refuse("scales-negative", "is \(value), negative, at channel \(channel)", tensor)
      }
    }
    guard kind == .midpointSum || values.contains(where: { $0 > 0 }) else {
      throw refuse("scales-all-zero", "is zero in all channels", tensor)
    }
    return values
  }

  private static func refuse(_ rule: String, _ message: String, _ tensor: TensorView) -> Refusal {
    Refusal(
      rule, message, file: tensor.file.path, tensor: tensor.name, byteOffset: tensor.byteOffset)
  }
}
