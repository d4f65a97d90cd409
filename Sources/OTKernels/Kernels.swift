import COTKernels
import OTTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The numeric kernels in the form of one instruction set.
///
/// Every set gives the same results, bit for bit. Float arithmetic is IEEE
/// float32, one rounding per operation, ties to even, fused only where
/// `COTKernels.h` says so; sums over a row have 16 lanes (lane j takes elements
/// j, j + 16, …) that are added in a fixed tree (i and i + 8, then + 4, + 2, + 1).
/// Counts are preconditions.
///
/// This type fences the unsafe C kernels. Buffers must not overlap unless they
/// are the same.
package struct Kernels: @unchecked Sendable {
  /// The set whose form this is.
  package let instructionSet: InstructionSet
  /// A constant of the C module: immutable, and never freed.
  let table: UnsafePointer<ot_kernels>

  /// The kernels of `instructionSet`; nil when this machine lacks it.
  package init?(_ instructionSet: InstructionSet) {
    var known: Int32 = 0
    guard let table = ot_kernels_named(instructionSet.rawValue, &known) else { return nil }
    self.instructionSet = instructionSet
    self.table = table
  }

  /// The kernels in use, chosen once: those the environment forces where they
  /// are available (see `InstructionSet.checkEnvironment()`), else the fastest.
  package static let current: Kernels = {
    if let value = getenv(InstructionSet.environmentVariable),
      let set = InstructionSet(rawValue: String(cString: value)), let kernels = Kernels(set)
    {
      return kernels
    }
    let table = ot_kernels_best()
    let name = String(cString: table.pointee.name)
    return Kernels(table: table, instructionSet: InstructionSet(rawValue: name) ?? .scalar)
  }()

  private init(table: UnsafePointer<ot_kernels>, instructionSet: InstructionSet) {
    self.table = table
    self.instructionSet = instructionSet
  }
}

// MARK: - Conversions

extension Kernels {
  /// Converts little-endian elements of a float type to float32.
  ///
  /// F64 is rounded to nearest even, beyond the range to infinity. A signalling
  /// NaN of F16 or F64 becomes quiet.
  /// - Precondition: `type.isConvertibleFloat`, and `source` holds exactly the
  ///   elements of `target`; its alignment does not matter.
  package func convert(
    _ source: UnsafeRawBufferPointer, from type: ElementType,
    to target: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(source.count * 8 == target.count * type.bitWidth, "counts differ")
    guard let from = source.baseAddress, let to = target.baseAddress, !target.isEmpty else {
      return
    }
    switch type {
    case .f32: memcpy(to, from, source.count)
    case .f16: table.pointee.f32_from_f16(from, to, target.count)
    case .bf16: table.pointee.f32_from_bf16(from, to, target.count)
    case .f64: table.pointee.f32_from_f64(from, to, target.count)
    default: preconditionFailure("\(type.rawValue) is not converted to float32")
    }
  }

  /// Converts float32 to little-endian F32, F16 or BF16, to nearest, ties to
  /// even, beyond the range to infinity; NaN stays NaN. F64 is exact.
  ///
  /// - Precondition: `type.isConvertibleFloat`, and `target` has exactly the
  ///   bytes of the elements.
  package func convert(
    _ source: UnsafeBufferPointer<Float>, to type: ElementType,
    into target: UnsafeMutableRawBufferPointer
  ) {
    precondition(target.count * 8 == source.count * type.bitWidth, "counts differ")
    guard let from = source.baseAddress, let to = target.baseAddress, !source.isEmpty else {
      return
    }
    switch type {
    case .f32: memcpy(to, from, target.count)
    case .f16: table.pointee.f16_from_f32(from, to, source.count)
    case .bf16: table.pointee.bf16_from_f32(from, to, source.count)
    case .f64:
      for (index, value) in source.enumerated() {
        target.storeBytes(
          of: Double(value).bitPattern.littleEndian, toByteOffset: index * 8, as: UInt64.self)
      }
    default: preconditionFailure("\(type.rawValue) is not converted from float32")
    }
  }
}

// MARK: - Rows of floats

extension Kernels {
  /// x[k] = (x[k] · columnScale[k]) / rowScale, in place; nil leaves a step out.
  package func transform(
    _ row: UnsafeMutableBufferPointer<Float>, columnScale: UnsafeBufferPointer<Float>?,
    rowScale: Float?
  ) {
    precondition(columnScale.map { $0.count == row.count } ?? true, "counts differ")
    guard let x = row.baseAddress, !row.isEmpty else { return }
    if var divisor = rowScale {
      table.pointee.transform_row(x, columnScale?.baseAddress, &divisor, row.count)
    } else {
      table.pointee.transform_row(x, columnScale?.baseAddress, nil, row.count)
    }
  }

  /// Sum of x[k] · y[k], in 16 float32 lanes.
  package func dot(_ x: UnsafeBufferPointer<Float>, _ y: UnsafeBufferPointer<Float>) -> Float {
    precondition(x.count == y.count, "counts differ")
    guard let a = x.baseAddress, let b = y.baseAddress else { return 0 }
    return table.pointee.dot(a, b, x.count)
  }

  /// Extremes of a row.
  package struct RowRange: Sendable, Equatable {
    /// Smallest and largest element, NaN left out; a zero is always positive.
    /// 0 and 0 for no elements, ∞ and −∞ when all are NaN.
    package let minimum, maximum: Float
    /// Index of the first NaN or infinity; nil when there is none.
    package let firstNonFinite: Int?

    /// A range as found.
    package init(minimum: Float, maximum: Float, firstNonFinite: Int?) {
      self.minimum = minimum
      self.maximum = maximum
      self.firstNonFinite = firstNonFinite
    }
  }

  /// The extremes of a row.
  package func range(_ row: UnsafeBufferPointer<Float>) -> RowRange {
    guard let x = row.baseAddress else {
      return RowRange(minimum: 0, maximum: 0, firstNonFinite: nil)
    }
    let range = table.pointee.range(x, row.count)
    return RowRange(
      minimum: range.minimum, maximum: range.maximum,
      firstNonFinite: range.first_nonfinite < 0 ? nil : range.first_nonfinite)
  }
}

// MARK: - Weights

extension Kernels {
  /// The error of quantizing, in real units.
  package struct RowError: Sendable, Equatable {
    /// Σ(x − x̂)² and Σx²: each difference is a float32, squares and sums are
    /// float64 in 16 lanes.
    package var squaredError, squares: Double
    /// Largest |x − x̂|.
    package var maximum: Float
  }

  /// u[k] = clamp(round(x[k] / scale) + zeroPoint, codes), ties to even, by a
  /// true division in float32. NaN becomes the smallest code.
  ///
  /// - Precondition: `zeroPoint` is in `codes`, which is within 0 ... 255.
  /// - Returns: What x̂ = scale · (u − zeroPoint) differs from x by.
  package func quantize(
    _ row: UnsafeBufferPointer<Float>, scale: Float, zeroPoint: Int, codes: ClosedRange<Int>,
    into target: UnsafeMutableBufferPointer<UInt8>
  ) -> RowError {
    precondition(row.count == target.count, "counts differ")
    precondition(codes.contains(zeroPoint) && codes.lowerBound >= 0 && codes.upperBound <= 255)
    guard let x = row.baseAddress, let u = target.baseAddress else {
      return RowError(squaredError: 0, squares: 0, maximum: 0)
    }
    var error = ot_error(squared_error: 0, squares: 0, maximum: 0)
    table.pointee.quantize_row(
      x, row.count, scale, Int32(zeroPoint), Int32(codes.lowerBound), Int32(codes.upperBound), u,
      &error)
    return RowError(
      squaredError: error.squared_error, squares: error.squares, maximum: error.maximum)
  }

  /// x[k] = scale · (u[k] − zeroPoint).
  package func dequantize(
    _ codes: UnsafeBufferPointer<UInt8>, scale: Float, zeroPoint: Int,
    into row: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(row.count == codes.count, "counts differ")
    precondition((0...255).contains(zeroPoint))
    guard let u = codes.baseAddress, let x = row.baseAddress else { return }
    table.pointee.dequantize_row(u, codes.count, scale, Int32(zeroPoint), x)
  }

  /// x[k] = scale · (u[k] − zeroPoint) for some columns of a row whose groups have steps of their own.
  ///
  /// - Parameters:
  ///   - codes: those of `columns`.
  ///   - groupSize: columns of a group, counted from column 0.
  ///   - step: scale and zero point of a group.
  package func dequantize(
    _ codes: UnsafeBufferPointer<UInt8>, columns: Range<Int>, groupSize: Int,
    into row: UnsafeMutableBufferPointer<Float>, step: (_ group: Int) -> (scale: Float, zeroPoint: Int)
  ) {
    precondition(codes.count == columns.count && groupSize > 0, "counts differ")
    var column = columns.lowerBound
    while column < columns.upperBound {
      let group = column / groupSize
      let end = min((group + 1) * groupSize, columns.upperBound)
      let part = column - columns.lowerBound..<end - columns.lowerBound
      let (scale, zeroPoint) = step(group)
      dequantize(
        UnsafeBufferPointer(rebasing: codes[part]), scale: scale, zeroPoint: zeroPoint,
        into: UnsafeMutableBufferPointer(rebasing: row[part]))
      column = end
    }
  }
}

// MARK: - Activations

extension Kernels {
  /// Sum of activation codes, for the correction by weights' zero points.
  package func sum(_ codes: UnsafeBufferPointer<Int8>) -> Int32 {
    guard let q = codes.baseAddress else { return 0 }
    return table.pointee.sum(q, codes.count)
  }

  static func largestActivationCode(bits: Int) -> Int {
    precondition((2...8).contains(bits))
    return 1 << (bits - 1) - 1
  }
}
