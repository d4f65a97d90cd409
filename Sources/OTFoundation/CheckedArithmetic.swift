// Sizes that come from a file are never added or multiplied with an operator
// that traps: a trap is a crash, not a refusal.

extension Int {
  /// The sum, or nil when it does not fit.
  @inlinable package func addingChecked(_ other: Int) -> Int? {
    let (value, overflow) = addingReportingOverflow(other)
    return overflow ? nil : value
  }

  /// The product, or nil when it does not fit.
  @inlinable package func multipliedChecked(by other: Int) -> Int? {
    let (value, overflow) = multipliedReportingOverflow(by: other)
    return overflow ? nil : value
  }

  /// The least multiple of `unit` that is not below `self`.
  ///
  /// - Precondition: `unit` is positive and the result fits.
  @inlinable package func roundedUp(toMultipleOf unit: Int) -> Int {
    let remainder = self % unit
    return remainder > 0 ? self + (unit - remainder) : self - remainder
  }
}
