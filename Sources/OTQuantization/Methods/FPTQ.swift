import OTGraph
import OTJSON
import OTObservation
import OTPlatform

/// FPTQ (arXiv 2308.15987): logarithmic equalization of activations, and a choice between static and
/// dynamic quantization by the size of the site's values.
///
/// v = max|x| of the site: up to `static-up-to` one static range; below `token-from` a site that a norm
/// feeds has s_j = max(a_j / log2(2 + a_j), 1e−5), a_j = max|x_j|, and one static range; all other sites
/// have one scale per token. With `all-norms` every site that a norm feeds is equalized and static.
/// Ranges are symmetric. The paper pairs it with weights of 4 bits in groups.
package struct FPTQ: QuantizationMethod {
  /// Its name.
  package static let name = "fptq"

  private static let leastScale: Float = 1e-5

  /// The largest value with which a site is static as it is.
  package let staticLimit: Double
  /// The least value with which a site has one scale per token.
  package let tokenLimit: Double
  /// True when every site that a norm feeds is equalized, whatever its values.
  package let isForAllNorms: Bool

  /// Takes `static-up-to`, 15 unless given, `token-from`, 150, and `all-norms`, false.
  package init(_ options: inout MethodOptions) throws {
    staticLimit = try options.number("static-up-to", in: 0...1e9, default: 15)
    tokenLimit = try options.number("token-from", in: 0...1e9, default: 150)
    isForAllNorms = try options.flag("all-norms", default: false)
  }

  /// Ranges of the channels.
  package var needs: Set<ObservationKind> { [.ranges] }

  /// One static one.
  package func gives(_ scales: ActivationScales) -> Bool { scales == .tensor }

  /// `{staticUpTo, tokenFrom, allNorms}`.
  package var record: JSONObject {
    [
      "staticUpTo": .number(staticLimit), "tokenFrom": .number(tokenLimit), "allNorms": .bool(isForAllNorms),
    ]
  }

  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    guard let ranges = site.observed.ranges else { throw site.missingStatistics }
    let largest = Double(ranges.extremes.largestMagnitude)
    let isEqualized = site.site.isNormFed && (isForAllNorms || (staticLimit < largest && largest < tokenLimit))
    guard isEqualized else {
      return try site.plan(largest <= staticLimit ? .symmetric : .token, range: site.range())
    }
    let transform = ChannelTransform(
      scale: ranges.absoluteMaximum.map { max($0 / log2f(2 + $0), FPTQ.leastScale) })
    return try site.plan(.symmetric, after: transform, range: site.range(after: transform))
  }
}
