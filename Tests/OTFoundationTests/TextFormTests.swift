import OTFoundation
import Testing

/// How paths are taken apart and numbers written.
@Suite struct TextFormTests {
  @Test(arguments: [
    ("a/b.otq", "a", "b.otq"), ("b.otq", ".", "b.otq"), ("/b", "/", "b"), ("/a/b/", "/a/b", "b"), ("a//", "a/", "a"),
    ("/", "/", "/"), ("", ".", ""), ("a/é\u{301}", "a", "é\u{301}"), ("a/\u{301}b", "a", "\u{301}b"),
  ])
  func paths(path: String, parent: String, last: String) {
    #expect(path.parentPath == parent && path.lastPathComponent == last)
  }

  @Test func appendedPathsHaveOneSlash() {
    #expect("a".appendingPathComponent("b") == "a/b" && "a/".appendingPathComponent("b") == "a/b")
  }

  @Test(arguments: [
    (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9_994, "9.99 kB"), (10_000, "10.0 kB"), (123_456, "123.5 kB"),
    (1_500_000, "1.50 MB"), (40_000_000_000, "40.0 GB"), (5_000_000_000_000, "5.00 TB"),
    (4_000_000_000_000_000, "4000.0 TB"),
  ])
  func bytes(count: Int, text: String) { #expect(byteText(count) == text) }

  @Test func decimals() {
    #expect(fixed(2.5, 0) == "2" && fixed(-1.005, 1) == "-1.0" && fixed(1.0 / 3, 3) == "0.333")
  }
}
