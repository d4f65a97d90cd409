import OTFoundation

/// Numbers as a report shows them.
enum ReportNumber {
  /// With a fixed count of decimals; `∞`, `−∞` and `NaN` in words of one sign.
  static func fixed(_ value: Double, _ places: Int) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "−∞" : "∞" }
    let text = OTFoundation.fixed(value, places)
    return text.hasPrefix("-") ? "−" + text.dropFirst() : text
  }

  /// A share as per cent, with three digits or so.
  static func percent(_ share: Double) -> String {
    let value = share * 100
    return "\(fixed(value, abs(value) >= 100 ? 0 : abs(value) >= 10 ? 1 : abs(value) >= 0.095 ? 2 : 3)) %"
  }

  /// With about three digits, whatever the magnitude.
  static func short(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return fixed(value, 0) }
    let magnitude = abs(value)
    if magnitude >= 100_000 || magnitude < 0.001 {
      let text = OTFoundation.scientific(value, 1)
      return text.hasPrefix("-") ? "−" + text.dropFirst() : text
    }
    return fixed(value, magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : magnitude >= 1 ? 2 : 3)
  }

  /// An integer with thin spaces between thousands.
  static func count(_ value: Int) -> String {
    var digits = Array(String(value.magnitude))
    var index = digits.count - 3
    while index > 0 {
      digits.insert("\u{2009}", at: index)
      index -= 3
    }
    return (value < 0 ? "−" : "") + String(digits)
  }
}
