extension StringProtocol {
  /// True when both have the same bytes of UTF-8.
  ///
  /// `==`, `Set` and `Dictionary` take canonically equivalent strings for
  /// equal, such as U+00E9 and U+0065 U+0301. Names in files are equal only when
  /// all their bytes are: whoever looks one up in a dictionary compares what was
  /// found by this.
  package func hasSameBytes(as other: some StringProtocol) -> Bool {
    // Not equal at all, as nearly always, is told soonest by the standard library.
    self == other && utf8.elementsEqual(other.utf8)
  }
}
