import OTGraph
import OTObservation

/// The quantizer of a site's activation, as the option `activations` of methods names it.
package enum ActivationForm: String, Sendable, CaseIterable {
  /// One static range for all channels, from its least to its greatest value.
  case asymmetric
  /// One static range for all channels, symmetric around 0.
  case symmetric
  /// One scale per token, found when the model runs.
  case token
}

/// One range for all channels of a site, fixed before the model runs: a static quantizer per tensor.
///
/// In float32, with m = min(minimum, 0), M = max(maximum, 0), ε = 2⁻²³, ties to even:
/// - symmetric: q = 2^(b−1) − 1, scale = max(max(−m, M) / q, ε), zero point 2^(b−1);
/// - asymmetric: Q = 2^b − 1, scale = max((M − m) / Q, ε), zero point = clamp(−round(m / scale), 0, Q).
///
/// A code is round(x / scale) + zero point, clamped to 0 … 2^b − 1; when the model runs it is 2^(b−1) less.
/// Symmetric quantizers of papers leave the code 0 out, so that a value below the range may come one step
/// nearer here.
package struct StaticRange: Sendable, Equatable {
  /// The least value that is not clipped.
  package let minimum: Float
  /// The greatest value that is not clipped.
  package let maximum: Float

  private static let leastScale: Float = 0x1p-23

  /// A range.
  package init(minimum: Float, maximum: Float) {
    self.minimum = minimum
    self.maximum = maximum
  }

  /// The range that holds those of all channels.
  package init(_ ranges: ChannelRanges) {
    self.init(minimum: ranges.minima.min() ?? 0, maximum: ranges.maxima.max() ?? 0)
  }

  /// The scale, and the code of 0.
  package func step(bits: Int, isSymmetric: Bool) -> (scale: Float, zeroPoint: Int) {
    let low = min(minimum, 0)
    let high = max(maximum, 0)
    if isSymmetric {
      let largest = Float((1 << (bits - 1)) - 1)
      return (max(max(-low, high) / largest, StaticRange.leastScale), 1 << (bits - 1))
    }
    let largest = Float((1 << bits) - 1)
    let scale = max((high - low) / largest, StaticRange.leastScale)
    let zeroPoint = min(max(-(low / scale).rounded(.toNearestOrEven), 0), largest)
    return (scale, Int(zeroPoint))
  }

  /// The shift and the scale, one for all channels, that make codes less 2^(b−1) of values, and the integer that
  /// then stands for 0.
  ///
  /// Round and clamp to −2^(b−1) … 2^(b−1) − 1 is all that is left to be done when the model runs.
  package func transform(channelCount: Int, bits: Int, isSymmetric: Bool) -> (channels: ChannelTransform, zero: Int) {
    let step = step(bits: bits, isSymmetric: isSymmetric)
    let zero = step.zeroPoint - (1 << (bits - 1))
    func all(_ value: Float) -> [Float] { [Float](repeating: value, count: channelCount) }
    return (ChannelTransform(shift: zero == 0 ? nil : all(Float(-zero) * step.scale), scale: all(step.scale)), zero)
  }
}

extension SiteContext {
  /// The plan of `transform`, and of a quantizer of what it gives: one scale per token, or `range`.
  package func plan(
    _ form: ActivationForm, after transform: ChannelTransform = .identity, range: @autoclosure () throws -> StaticRange
  ) rethrows -> SitePlan {
    let bits = request.activationBits
    guard form != .token, bits < 16 else {
      return SitePlan(
        transform: SiteTransform(transform), activation: request.dynamicActivation, weight: request.weight)
    }
    let step = try range().transform(channelCount: site.size, bits: bits, isSymmetric: form == .symmetric)
    // One step for a matrix of queries, keys and values would be that of the values, divided by the range's step.
    let isPerTensor = request.weight.scheme?.granularity == .perTensor
    return SitePlan(
      transform: SiteTransform(transform.followed(by: step.channels), staysOnEdge: isPerTensor && transform.isIdentity),
      activation: .static(bits: bits, zero: step.zero), weight: request.weight)
  }

  /// The range of the site's value after `transform`.
  ///
  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func range(after transform: ChannelTransform = .identity) throws -> StaticRange {
    guard let ranges = observed.transformed(by: transform).ranges else { throw missingStatistics }
    return StaticRange(ranges.extremes)
  }
}
