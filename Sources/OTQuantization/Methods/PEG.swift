import OTFoundation
import OTGraph
import OTJSON
import OTObservation

/// Per-embedding-group quantization (PEG, arXiv 2109.12948): the channels of a site that a norm feeds are cut
/// into groups, each with one static asymmetric range.
///
/// The groups are equally large, of the channels sorted by their range, max − min, so that outliers are together: the
/// paper's permutation. It only says which channels share a range, and no value changes its place. All other sites have
/// one range. A code is round(x / Δ) + zp, clamped, with Δ and zp of the channel's group as `StaticRange` has them.
///
/// The paper adds up a product for each group, times its Δ. Here Δ is part of the weights' columns before these are
/// rounded, as OutlierTune's steps are, and the bias takes up W·z of what stands for 0. Groups of neighbours are not
/// offered: one outlier would widen the steps of channels like all others, and spoil the rounding of their weights.
package struct PEG: QuantizationMethod {
  /// Its name.
  package static let name = "peg"

  /// Groups of a site.
  package let groupCount: Int

  /// Takes `groups`, 8 unless given.
  package init(_ options: inout MethodOptions) throws {
    groupCount = try options.integer("groups", in: 1...65536, default: 8)
  }

  /// Ranges of the channels.
  package var needs: Set<ObservationKind> { [.ranges] }

  /// None that has a name: those of groups are the method's own.
  package func gives(_ scales: ActivationScales) -> Bool { false }

  /// `{groups}`.
  package var record: JSONObject { ["groups": .integer(groupCount)] }

  /// - Throws: `Refusal` with rule `statistics-missing`, or `method-option` where the groups do not divide a site.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    let bits = site.request.activationBits
    guard site.site.isNormFed, bits < 16 else { return try site.plan(.asymmetric, range: site.range()) }
    guard let ranges = site.observed.ranges?.extremes else { throw site.missingStatistics }
    guard site.site.size % groupCount == 0 else {
      throw Refusal(
        "method-option",
        "method 'peg': \(groupCount) groups do not divide the \(site.site.size) channels of "
          + "'\(site.site.consumers.first ?? site.site.producer)'",
        remedy: "choose another number: --method peg,groups=N")
    }
    var scale = [Float](repeating: 1, count: site.site.size)
    var shift = [Float](repeating: 0, count: site.site.size)
    for channels in groups(ranges) {
      let range = StaticRange(
        minimum: channels.map { ranges.minima[$0] }.min() ?? 0, maximum: channels.map { ranges.maxima[$0] }.max() ?? 0)
      let step = range.step(bits: bits, isSymmetric: false)
      let zero = step.zeroPoint - (1 << (bits - 1))
      for channel in channels {
        scale[channel] = step.scale
        shift[channel] = Float(-zero) * step.scale
      }
    }
    return SitePlan(
      transform: SiteTransform(shift: shift, scale: scale), activation: .static(bits: bits),
      weight: site.request.weight)
  }

  /// The channels of each group, sorted by their range; equal ones in order.
  ///
  /// - Precondition: the groups divide them.
  private func groups(_ ranges: ChannelRanges) -> [[Int]] {
    let widths = zip(ranges.minima, ranges.maxima).map { $1 - $0 }
    let order = widths.indices.sorted { widths[$0] != widths[$1] ? widths[$0] < widths[$1] : $0 < $1 }
    let size = order.count / groupCount
    return (0..<groupCount).map { Array(order[$0 * size..<($0 + 1) * size]) }
  }
}
