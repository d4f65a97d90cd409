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

extension String {
  /// The same of two whole strings, sooner: a large header has names by the ten thousand.
  package func hasSameBytes(as other: String) -> Bool {
    guard utf8.count == other.utf8.count else { return false }
    return withBytes { bytes in other.withBytes { bytes.elementsEqual($0) } }
  }

  /// The bytes of UTF-8.
  package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    var text = self
    return try text.withUTF8 { try body(UnsafeRawBufferPointer($0)) }
  }
}
