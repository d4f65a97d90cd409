import _OTTestSupport

/// Calls `body` with the path of `name` in a fresh folder.
func withTemporaryPath<Result>(_ name: String, _ body: (String) throws -> Result) throws -> Result {
  try withTemporaryFolder { try body("\($0)/\(name)") }
}
