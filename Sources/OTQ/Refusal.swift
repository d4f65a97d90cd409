@_exported import struct OTFoundation.Refusal
// Exported, so that their members are there for those who import OTQ alone.
@_exported import struct OTModel.FileRecord
@_exported import struct OTRuntime.Matrix
@_exported import struct OTTensor.QuantizationScheme

/// Why something was refused: the one error that this library throws.
///
/// `rule` is the broken rule in kebab case and stable: test for it.
/// `description` is one line for people: file, tensor, place in bytes, what is
/// wrong, what can be done about it.
///
/// ```swift
/// do {
///   let model = try LanguageModel(path: "model.otq")
/// } catch {
///   print(error.rule)  // file-missing
/// }
/// ```
public typealias Refusal = OTFoundation.Refusal

/// Float32 values, a row for each token: `[rowCount, channelCount]`, row-major in `values`.
public typealias Matrix = OTRuntime.Matrix

/// The quantization of a tensor: bits, symmetric or not, and the elements that share a scale.
public typealias QuantizationScheme = OTTensor.QuantizationScheme

/// Gives what `body` gives, and throws nothing but refusals; those that name no file name `file`.
package func refusing<Result>(naming file: String? = nil, _ body: () throws -> Result) throws(Refusal) -> Result {
  do {
    return try Refusal.naming(file, body)
  } catch let refusal as Refusal {
    throw refusal
  } catch {
    throw Refusal("system", "\(error)")
  }
}
