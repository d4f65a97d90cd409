import Foundation

/// A number with a fixed count of decimals.
package func fixed(_ value: Double, _ places: Int) -> String { String(format: "%.\(places)f", value) }

/// A count of bytes for a person: `12.3 MB`, powers of 1000.
package func byteText(_ count: Int) -> String {
  if count < 1000 { return "\(count) B" }
  var value = Double(count)
  for unit in ["kB", "MB", "GB"] {
    value /= 1000
    if value < 1000 { return "\(fixed(value, value < 10 ? 2 : 1)) \(unit)" }
  }
  value /= 1000
  return "\(fixed(value, value < 10 ? 2 : 1)) TB"
}
