import OTJSON
import OTObservation

/// A recipe that chooses transform, activation and weight quantization of each site.
///
/// A new method is one file that implements this, and a line in `Methods.all`.
package protocol QuantizationMethod: Sendable {
  /// The name on the command line (`--method`) and in the file's metadata.
  static var name: String { get }

  /// The method with what the user chose.
  ///
  /// - Throws: `Refusal` with rule `method-option`; options that it does not take are refused for it.
  init(_ options: inout MethodOptions) throws

  /// The observations that it needs of each site.
  var needs: Set<ObservationKind> { get }

  /// Decides about one site.
  ///
  /// - Throws: `Refusal` when what the method needs to know of the site is missing.
  func plan(_ site: SiteContext) throws -> SitePlan

  /// The file's record of the method beside its name.
  var record: JSONObject { get }
}

extension QuantizationMethod {
  /// Nothing.
  package var needs: Set<ObservationKind> { [] }
  /// Nothing.
  package var record: JSONObject { [:] }
}
