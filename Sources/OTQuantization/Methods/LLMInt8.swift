import OTGraph
import OTJSON
import OTObservation
import OTTensor

/// LLM.int8() (arXiv 2208.07339): vector-wise quantization, but for outlier channels, which are multiplied in
/// floating point.
///
/// A channel is an outlier where |x| is `threshold` or more for any token of the text. Linears of floats read these
/// channels, with the weights as they are; the others have one scale per token, and their weights symmetric ones per
/// row, both without the outliers. The authors look for outliers in each batch anew; here they are those of the text,
/// so that a weight is stored once, in one of the two forms.
package struct LLMInt8: QuantizationMethod {
  /// Its name.
  package static let name = "llmint8"

  /// The least |x| of an outlier.
  package let threshold: Double

  /// Takes `threshold`, 6 unless given.
  package init(_ options: inout MethodOptions) throws {
    threshold = try options.number("threshold", in: 0...1e9, default: 6)
  }

  /// Ranges of the channels.
  package var needs: Set<ObservationKind> { [.ranges] }

  /// Symmetric.
  package var weightDefaults: WeightDefaults { WeightDefaults(isSymmetric: true) }

  /// `{threshold}`.
  package var record: JSONObject { ["threshold": .number(threshold)] }

  /// - Throws: `Refusal` with rule `statistics-missing`.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    guard let maxima = site.observed.absoluteMaximum else { throw site.missingStatistics }
    let outliers = maxima.indices.filter { Double(maxima[$0]) >= threshold }
    // Where all channels are outliers, there is nothing to be quantized.
    guard outliers.count < maxima.count else {
      return SitePlan(activation: .float, weight: WeightPlan(scheme: nil))
    }
    let keeps = !outliers.isEmpty && site.request.activationBits < 16
    return SitePlan(
      transform: SiteTransform(.identity, floatChannels: keeps ? ChannelChoice(outliers) : nil),
      activation: site.request.dynamicActivation, weight: site.request.weight)
  }
}
