import OTPlatform

/// A number with a fixed count of decimals.
package func fixed(_ value: Double, _ places: Int) -> String { formatted(value, "%.\(places)f") }

/// A number with one digit before its point: `1.2e-05`.
package func scientific(_ value: Double, _ places: Int) -> String { formatted(value, "%.\(places)e") }

/// - Parameter format: of C's `printf`, for one number.
private func formatted(_ value: Double, _ format: String) -> String {
  withVaList([value]) { arguments in
    // The greatest number has 309 digits before its point.
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { text in
      _ = vsnprintf(text.baseAddress, text.count, format, arguments)
      return text.baseAddress.map { String(cString: $0) } ?? ""
    }
  }
}

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
