import COTQ
import Testing

/// The C interface, as a caller in C has it.
package enum CInterface {
  /// An error of the C interface, its accessors read.
  package struct Fault: Sendable, Equatable {
    /// As the functions return it.
    package let status: otq_status
    /// The rule.
    package let rule: String
    /// The offending file.
    package let file: String?
    /// The whole in one line.
    package let description: String
  }

  /// Calls a function; nil where it gives `OTQ_OK`.
  ///
  /// Expects an error if, and only if, the status says that there is one, and frees it.
  package static func fault(_ call: (UnsafeMutablePointer<OpaquePointer?>) -> otq_status) -> Fault? {
    var error: OpaquePointer?
    let status = call(&error)
    defer { otq_error_free(error) }
    #expect((status == otq_status(OTQ_OK)) == (error == nil))
    guard status != otq_status(OTQ_OK) else { return nil }
    let fault = Fault(
      status: status, rule: text(otq_error_rule(error)) ?? "", file: text(otq_error_file(error)),
      description: text(otq_error_description(error)) ?? "")
    #expect(!fault.rule.isEmpty && !fault.description.isEmpty)
    #expect(text(otq_error_message(error)) != nil)
    return fault
  }

  /// A copy of a text; nil for NULL.
  package static func text(_ text: UnsafePointer<CChar>?) -> String? { text.map { String(cString: $0) } }

  /// A copy of a text that the caller owns, which is freed.
  package static func taking(_ text: UnsafeMutablePointer<CChar>?) -> String? {
    defer { otq_free(text) }
    return CInterface.text(text)
  }

  /// The rule by which opening a file, checking it, reading all of its tensors or loading it as a model refuses it; nil
  /// where nothing does.
  package static func rule(refusing path: String) -> String? {
    var file: OpaquePointer?
    if let fault = fault({ otq_open(path, &file, $0) }) {
      #expect(file == nil)
      #expect(fault.status == otq_status(OTQ_REFUSED))
      return fault.rule
    }
    defer { otq_close(file) }
    if path.hasSuffix(".otq"), let fault = fault({ otq_verify(path, nil, nil, nil, $0) }) { return fault.rule }
    var json: UnsafeMutablePointer<CChar>?
    if let fault = fault({ otq_tensors(file, &json, $0) }) { return fault.rule }
    #expect(taking(json)?.isEmpty == false)
    if let fault = fault({ otq_metadata(file, &json, $0) }) { return fault.rule }
    #expect(taking(json)?.isEmpty == false)
    var model: OpaquePointer?
    defer { otq_model_free(model) }
    return fault { otq_model_load(file, nil, &model, $0) }?.rule
  }
}
