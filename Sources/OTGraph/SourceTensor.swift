import OTTensor

/// The source of a parameter: a tensor of the checkpoint, or a part or another view of one.
///
/// Families write it down; `ParameterReader` reads it forward and undoes it
/// backward, and nothing else knows that a parameter may be more than a name.
package indirect enum SourceTensor: Sendable, Hashable {
  /// The tensor of this name, whole.
  case named(String)
  /// `[in, out]` read as `[out, in]`: the Conv1D of GPT-2.
  case transposed(SourceTensor)
  /// Some rows of the first dimension: one part of a fused projection.
  case rows(of: SourceTensor, Range<Int>)
  /// One index of the first dimension, which goes: one expert of a stack.
  case element(of: SourceTensor, Int)
  /// Some columns of a matrix.
  case columns(of: SourceTensor, ChannelChoice)
  /// Every element plus a constant: the gain 1 + γ of Gemma.
  case plus(SourceTensor, Float)

  /// The checkpoint's name of the tensor that it is made of.
  package var name: String {
    switch self {
    case .named(let name): name
    case .transposed(let source), .rows(let source, _), .element(let source, _), .columns(let source, _),
      .plus(let source, _):
      source.name
    }
  }

  /// True when it is the checkpoint's tensor, whole and as it is.
  package var isWhole: Bool { if case .named = self { true } else { false } }

  /// True when its rows are columns of the checkpoint's tensor.
  package var isTransposed: Bool {
    switch self {
    case .named: false
    case .transposed(let source): !source.isTransposed
    case .rows(let source, _), .element(let source, _), .columns(let source, _), .plus(let source, _):
      source.isTransposed
    }
  }

  /// The sum of the constants: what is added to each element of the view.
  package var constant: Float {
    switch self {
    case .named: 0
    case .transposed(let source), .rows(let source, _), .element(let source, _), .columns(let source, _):
      source.constant
    case .plus(let source, let constant): source.constant + constant
    }
  }

  /// The shape that it has where the checkpoint's tensor has `shape`; nil where it cannot be taken of that.
  package func shape(ofNamed shape: Shape) -> Shape? { place(in: shape)?.shape }

  /// The elements of `tensor`, the checkpoint's tensor of this name, that it is made of, before the
  /// constant is added; nil where it cannot be taken of that tensor.
  package func view(of tensor: TensorView) -> TensorView? {
    switch self {
    case .named: return tensor
    case .plus(let source, _): return source.view(of: tensor)
    case .transposed(let source): return source.view(of: tensor)?.transposed()
    case .rows(let source, let rows): return source.view(of: tensor)?.rows(rows)
    case .element(let source, let index): return source.view(of: tensor)?.element(index)
    case .columns(let source, let columns): return source.view(of: tensor)?.columns(columns)
    }
  }
}

extension SourceTensor: ExpressibleByStringInterpolation {
  /// The tensor of this name.
  package init(stringLiteral name: String) { self = .named(name) }
}

extension SourceTensor: CustomStringConvertible {
  /// `'name'`, with what is taken of it.
  package var description: String {
    switch self {
    case .named(let name): "'\(name)'"
    case .transposed(let source): "\(source) transposed"
    case .rows(let source, let rows): "rows \(rows.lowerBound)..<\(rows.upperBound) of \(source)"
    case .element(let source, let index): "element \(index) of \(source)"
    case .columns(let source, let columns):
      columns.isRest
        ? "\(source) without \(columns.listed.count) columns" : "\(columns.listed.count) columns of \(source)"
    case .plus(let source, let constant): "\(source) + \(constant)"
    }
  }
}
