import OTTensor

/// A tensor of an `.otq` file: what it is and in which extents it lies.
package struct StoredTensor: Sendable, Hashable {
  /// The extents of a plane, and its decoded size.
  struct Plane: Sendable, Hashable {
    let extents: Range<Int>
  }

  /// The form of a plane's quantized values in the file.
  package enum CodeForm: String, Sendable, Hashable {
    /// One to a byte, for compression.
    case bytes
    /// 4, 6 or 8 bits each, in place for the kernels.
    case packed
  }

  /// One of the three kinds of tensors.
  package enum Content: Sendable, Hashable {
    /// Integer codes in the order of `TileLayout`.
    case quantized(QuantizationScheme, form: CodeForm, rowTilesPerChunk: Int)
    /// Elements as they are, row-major and little-endian.
    case plain(ElementType)
    /// The same as another tensor of the file, which is not an alias itself.
    case alias(of: String)

    /// True when it can stand for elements of `type`: only floats are quantized or
    /// converted. What an alias stands for is for its target to say.
    func canBeMade(of type: ElementType) -> Bool {
      switch self {
      case .quantized: type.isConvertibleFloat
      case .plain(let own): own == type || own.isConvertibleFloat && type.isConvertibleFloat
      case .alias: true
      }
    }
  }

  /// The source tensor that this one was made from.
  package struct Source: Sendable, Hashable {
    /// The source's name.
    package let name: String
    /// The source's element type.
    package let elementType: ElementType
    /// The source's shape where it is another than the stored tensor's: that was made of a part of
    /// it, or of its transpose.
    package let shape: Shape?
    /// A tensor of the source.
    package init(name: String, elementType: ElementType, shape: Shape? = nil) {
      self.name = name
      self.elementType = elementType
      self.shape = shape
    }
  }

  /// Unique within the file.
  package let name: String
  /// Dimensions, `[out, in]` for a weight.
  package let shape: Shape
  /// The kind of the tensor, with its planes.
  package let content: Content
  /// Nil for a tensor that conversion created.
  package let source: Source?
  /// The rule by which quantized values were chosen.
  package var rounding = RoundingKind.nearest
  /// The quantization error, as the converter measured it; nil when nothing was quantized.
  package let error: QuantizationError?
  /// Planes by name: codes, scales, zeroPoints; or values.
  let planes: [String: Plane]
  /// The names of planes, in the order in which they are written.
  static let planeNames = ["codes", "scales", "zeroPoints", "values"]

  /// The codes' place; columns are all dimensions but the first.
  package var layout: TileLayout { TileLayout(rowCount: shape.rowCount, columnCount: shape.rowElementCount) }

  /// The scheme, when the tensor is quantized.
  package var scheme: QuantizationScheme? {
    if case .quantized(let scheme, _, _) = content { scheme } else { nil }
  }
}

/// The error of quantizing a weight.
package struct QuantizationError: Sendable, Hashable {
  /// Signal to quantization noise in decibels; nil when nothing was lost.
  package let sqnrDecibels: Double?
  /// Largest |w − ŵ| in steps of its scale.
  package let maximumInSteps: Double
  /// Losses as measured.
  package init(sqnrDecibels: Double?, maximumInSteps: Double) {
    self.sqnrDecibels = sqnrDecibels
    self.maximumInSteps = maximumInSteps
  }
}

extension StoredTensor {
  /// The tensor's storage, in words.
  package var storageDescription: String {
    switch content {
    case .alias(let target): "alias of \(target)"
    case .plain(let type): type.rawValue
    case .quantized(let scheme, _, _): scheme.text
    }
  }
}
