import OTGraph
import OTJSON
import OTObservation
import OTPlatform

/// The package's own recipe: shift, scale, rotation, and GPTQ on what the quantized network gives.
///
/// - Shift z_j, the mean of the channel, where a LayerNorm gives the site and nothing else reads it: it goes into
///   the norm's offset. RMSNorms get none: activations with a scale per token gain nothing from it.
/// - Scale s_j = C_j^¼ / ‖W_:,j‖^½ over its geometric mean, C_j the mean square of the shifted channel and W the
///   stacked linears of the site, where it goes into what gives the site. It evens out what an error in a
///   channel of the activation costs with what an error in a column of the weights costs. Channels that
///   share a value head share the geometric mean.
/// - Rotation by the largest block Hadamard that the width has, so that what is quantized is nearly normal.
/// - Activations get one scale per token, weights are symmetric per row and rounded by GPTQ with
///   coordinate descent after it.
package struct Best: QuantizationMethod {
  /// Its name.
  package static let name = "best"

  /// Scales stay within this factor of their geometric mean.
  private static let largestScale = 1e4

  /// True when sites behind a LayerNorm are shifted.
  package let isShifted: Bool
  /// True when sites are rotated.
  package let isRotated: Bool
  /// True when channels are scaled.
  package let isScaled: Bool
  /// Channels of a block of the rotation; nil: the largest that the width of a site has.
  package let blockSize: Int?

  /// Takes `shift`, `scale`, `rotate` (true unless given) and `block`.
  package init(_ options: inout MethodOptions) throws {
    isShifted = try options.flag("shift", default: true)
    isScaled = try options.flag("scale", default: true)
    isRotated = try options.flag("rotate", default: true)
    blockSize = try options.choice("block", of: Rotation.blockSizes)
  }

  /// The method.
  package init(isRotated: Bool = true) {
    (isShifted, isScaled, self.isRotated, blockSize) = (true, true, isRotated, nil)
  }

  /// Moments of the channels.
  package var needs: Set<ObservationKind> { [.channelMoments] }

  /// Symmetric, GPTQ and as many passes of descent as hardly any row needs. Damped ten times as much as in the paper:
  /// on some ten thousand tokens less follows what is theirs alone.
  package var weightDefaults: WeightDefaults {
    WeightDefaults(isSymmetric: true, rounding: GPTQ(damping: 0.1, passCount: 10))
  }

  /// `{shift, scale, rotate, block}`.
  package var record: JSONObject {
    var record: JSONObject = ["shift": .bool(isShifted), "scale": .bool(isScaled), "rotate": .bool(isRotated)]
    record["block"] = blockSize.map { .integer($0) }
    return record
  }

  /// - Throws: `Refusal` with rule `statistics-missing` for a site of which nothing is known; as weights are read.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    guard let moments = site.observed.channelMoments else { throw site.missingStatistics }
    let pushability = site.graph.pushability(of: site.site)
    let shifts = isShifted && site.isFedByLayerNorm && pushability.shift
    var scale: [Float]?
    if isScaled, pushability.scale {
      let powers = shifts ? moments.variance : moments.meanSquare
      scale = Best.scales(powers, try site.weights.columnSquares(), site.sharedChannels)
    }
    let rotation = isRotated ? Hadamard(blockSize: blockSize).rotation(of: site.site) : nil
    return SitePlan(
      transform: SiteTransform(shift: shifts ? moments.mean.map { Float($0) } : nil, scale: scale, rotation: rotation),
      activation: site.request.dynamicActivation, weight: site.request.weight)
  }

  /// C^¼ / ‖W_:,j‖^½ of each channel over the geometric mean; 1 where a channel or its column is dead.
  static func scales(_ powers: [Double], _ squares: [Double], _ shared: [Int]?) -> [Float] {
    var logarithms = zip(powers, squares).map { power, square in
      power > 0 && square > 0 ? (log(power) - log(square)) / 4 : Double.nan
    }
    func mean(_ values: [Double]) -> Double {
      let known = values.filter(\.isFinite)
      return known.isEmpty ? 0 : known.reduce(0, +) / Double(known.count)
    }
    if let shared {
      var groups: [Int: [Double]] = [:]
      for (channel, first) in shared.enumerated() { groups[first, default: []].append(logarithms[channel]) }
      let means = groups.mapValues { $0.contains(where: \.isFinite) ? mean($0) : .nan }
      logarithms = shared.map { means[$0] ?? .nan }
    }
    let middle = mean(logarithms)
    let bound = log(largestScale)
    return logarithms.map { $0.isFinite ? Float(exp(min(max($0 - middle, -bound), bound))) : 1 }
  }
}
