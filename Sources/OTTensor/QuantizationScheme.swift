/// The quantization of a weight: bits, range, and the weights that share a scale.
///
/// Codes are always stored as unsigned integers `u` in 0 ... 2^bits − 1, and
/// the real value is `scale × (u − zeroPoint)`:
/// - asymmetric: `zeroPoint` is chosen per row or group, in 0 ... 2^bits − 1;
///   the range (max(W,0) − min(W,0)) is divided by 2^bits − 1.
/// - symmetric: `zeroPoint` is 2^(bits−1) everywhere and not stored, `u` is in
///   1 ... 2^bits − 1; max|W| is divided by 2^(bits−1) − 1.
public struct QuantizationScheme: Sendable, Hashable {
  /// The weights that share a scale (and a zero point).
  public enum Granularity: Sendable, Hashable {
    case perTensor
    /// One per output channel: a row of `[out, in]`.
    case perChannel
    /// One per `size` consecutive input channels of a row; the last group of a
    /// row may be shorter.
    case perGroup(size: Int)
  }

  /// Bits of a code, 2 ... 8.
  public let bits: Int
  /// True when the zero point is in the middle, and not stored.
  public let isSymmetric: Bool
  /// The weights that share a scale.
  public let granularity: Granularity

  /// Sizes a group may have: multiples of 16 up to 65,536.
  public static func isValidGroupSize(_ size: Int) -> Bool {
    size >= 16 && size % 16 == 0 && size <= 65_536
  }

  /// Nil unless `bits` is 2 ... 8 and a group size is valid.
  public init?(bits: Int, isSymmetric: Bool, granularity: Granularity) {
    guard (2...8).contains(bits) else { return nil }
    if case .perGroup(let size) = granularity {
      guard QuantizationScheme.isValidGroupSize(size) else { return nil }
    }
    self.bits = bits
    self.isSymmetric = isSymmetric
    self.granularity = granularity
  }

  /// The same with other bits; nil unless these are 2 ... 8.
  package func with(bits: Int) -> QuantizationScheme? {
    QuantizationScheme(bits: bits, isSymmetric: isSymmetric, granularity: granularity)
  }

  /// The largest code.
  public var maximumCode: Int { (1 << bits) - 1 }
  /// The smallest code that may occur.
  public var minimumCode: Int { isSymmetric ? 1 : 0 }
  /// The zero point of a symmetric scheme.
  public var symmetricZeroPoint: Int { 1 << (bits - 1) }

  /// The scheme in words: `int6 asym channel`, `int8 sym group 128`.
  package var text: String {
    let sign = isSymmetric ? "sym" : "asym"
    switch granularity {
    case .perTensor: return "int\(bits) \(sign) tensor"
    case .perChannel: return "int\(bits) \(sign) channel"
    case .perGroup(let size): return "int\(bits) \(sign) group \(size)"
    }
  }

  /// Groups in a row of `columnCount` weights: 1 unless granularity is per group.
  public func groupCount(columnCount: Int) -> Int {
    switch granularity {
    case .perTensor, .perChannel: 1
    case .perGroup(let size): (columnCount + size - 1) / size
    }
  }

  /// Columns of a group in a row of `columnCount` weights: all unless granularity is per group; at least 1.
  package func groupSize(columnCount: Int) -> Int {
    if case .perGroup(let size) = granularity { size } else { max(columnCount, 1) }
  }

  /// Number of scales of a `[rowCount, columnCount]` weight, row-major `[row, group]`.
  public func scaleCount(rowCount: Int, columnCount: Int) -> Int {
    switch granularity {
    case .perTensor: 1
    case .perChannel: rowCount
    case .perGroup: rowCount * groupCount(columnCount: columnCount)
    }
  }
}
