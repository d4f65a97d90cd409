import COTKernels

// Functions of single elements. A result may be written over a source.
extension Kernels {
  /// A function of single elements.
  package enum Activation: Sendable, Hashable, CaseIterable {
    /// max(x, 0).
    case relu
    /// x/2 · (1 + erf(x/√2)).
    case gelu
    /// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
    case geluTanh
    /// x / (1 + exp(−x)).
    case silu
    /// The hyperbolic tangent.
    case tanh

    fileprivate var kind: ot_activation {
      switch self {
      case .relu: OT_RELU
      case .gelu: OT_GELU
      case .geluTanh: OT_GELU_TANH
      case .silu: OT_SILU
      case .tanh: OT_TANH
      }
    }
  }

  /// y[k] = f(x[k]).
  ///
  /// NaN gives NaN. Errors are a few ulp of the result or, where the formula
  /// cancels, of the argument (GELU, below 0).
  package func activate(
    _ activation: Activation, _ x: UnsafeBufferPointer<Float>,
    into y: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(x.count == y.count, "counts differ")
    guard let from = x.baseAddress, let to = y.baseAddress else { return }
    table.pointee.activate(activation.kind, from, x.count, to)
  }

  /// z[k] = x[k] + y[k].
  package func add(
    _ x: UnsafeBufferPointer<Float>, _ y: UnsafeBufferPointer<Float>,
    into z: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(x.count == z.count && y.count == z.count, "counts differ")
    guard let a = x.baseAddress, let b = y.baseAddress, let to = z.baseAddress else { return }
    table.pointee.add(a, b, z.count, to)
  }

  /// z[k] = x[k] · y[k].
  package func multiply(
    _ x: UnsafeBufferPointer<Float>, _ y: UnsafeBufferPointer<Float>,
    into z: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(x.count == z.count && y.count == z.count, "counts differ")
    guard let a = x.baseAddress, let b = y.baseAddress, let to = z.baseAddress else { return }
    table.pointee.multiply(a, b, z.count, to)
  }

  /// y[k] = (x[k] − shift[k]) / scale[k]; nil leaves a step out.
  package func transform(
    _ x: UnsafeBufferPointer<Float>, shift: UnsafeBufferPointer<Float>?,
    scale: UnsafeBufferPointer<Float>?, into y: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(x.count == y.count, "counts differ")
    precondition((shift?.count ?? x.count) == x.count && (scale?.count ?? x.count) == x.count)
    guard let from = x.baseAddress, let to = y.baseAddress else { return }
    table.pointee.affine(from, shift?.baseAddress, scale?.baseAddress, x.count, to)
  }
}
