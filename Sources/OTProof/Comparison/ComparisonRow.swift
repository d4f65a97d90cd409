import OTConversion
import OTFoundation
import OTQuantization

/// One conversion of those that are compared: methods, and bits and scales.
package struct ComparisonRow: Sendable, Hashable {
  /// The methods as `--method` takes them, joined by `+` where there are several: `osplus`, `quarot+best`.
  package let method: String
  /// Bits and scales.
  package let setting: ConversionSetting
  /// The method's name in the table, where it is another: `osplus without shift`.
  package var label: String?
  /// The part of a paper's table that the row belongs to: `INT8*`.
  package var group: String?

  /// A row.
  package init(method: String, setting: ConversionSetting, label: String? = nil, group: String? = nil) {
    (self.method, self.setting, self.label, self.group) = (method, setting, label, group)
  }

  /// The method's name in tables and plots.
  package var title: String { label ?? method }

  /// The methods.
  ///
  /// - Throws: `Refusal` with rule `method-unknown` or `method-option`.
  package var methods: [any QuantizationMethod] { get throws { try ComparisonRow.methods(method) } }

  /// The options of `convert` that make the row's file.
  package var arguments: [String] {
    let names = (try? ComparisonRow.names(method)) ?? [method]
    return names.flatMap { ["--method", $0] } + setting.arguments
  }

  /// The methods that a text names, joined by `+`; an option may have a `+` in it (`choice,of=best+osplus`).
  ///
  /// - Throws: `Refusal` with rule `method-unknown` or `method-option`.
  package static func methods(_ text: String) throws -> [any QuantizationMethod] {
    try names(text).map(Methods.method)
  }

  private static func names(_ text: String) throws -> [String] {
    do {
      _ = try Methods.method(text)
      return [text]
    } catch {
      for mark in text.indices where text[mark] == "+" {
        let first = String(text[..<mark])
        guard (try? Methods.method(first)) != nil,
          let others = try? names(String(text[text.index(after: mark)...]))
        else { continue }
        return [first] + others
      }
      throw error
    }
  }
}
