import OTGraph
import OTJSON

/// Rotation by block Hadamard transforms (QuaRot, arXiv 2404.00456, its online transforms): spreads
/// outlier channels over their block before the activation is quantized; the inverse is part of the
/// weights.
///
/// It is done at every site whose width has a block; activations get one scale per token at run time.
/// It needs no text, and follows well after a method that scales channels.
package struct Hadamard: QuantizationMethod {
  /// Its name.
  package static let name = "hadamard"

  /// Channels of a block; nil: the largest block that the width of a site has.
  package let blockSize: Int?

  /// Takes `block`, a power of 2 from 16 to 512.
  package init(_ options: inout MethodOptions) throws {
    blockSize = try options.choice("block", of: Rotation.blockSizes)
  }

  /// The method.
  package init(blockSize: Int? = nil) { self.blockSize = blockSize }

  /// `{block}` where it was chosen.
  package var record: JSONObject { blockSize.map { ["block": .integer($0)] } ?? [:] }

  /// Dynamic, rotated where the site's width is a multiple of the block.
  package func plan(_ site: SiteContext) -> SitePlan {
    SitePlan(
      transform: SiteTransform(rotation: rotation(of: site.site)), activation: site.request.dynamicActivation,
      weight: site.request.weight)
  }

  /// The rotation of a site's value; nil where its width has none.
  func rotation(of site: Site) -> Rotation? {
    guard let blockSize else { return Rotation(largestFor: site.size) }
    return site.size % blockSize == 0 ? Rotation(blockSize: blockSize) : nil
  }
}
