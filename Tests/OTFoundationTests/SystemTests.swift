import Foundation
import OTFoundation
import Synchronization
import Testing
import _OTTestSupport

/// What the modules have of the system in place of Foundation, against Foundation.
@Suite struct SystemTests {
  @Test func base64IsFoundations() {
    var random = SeededGenerator()
    for count in 0..<200 {
      let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
      let text = Data(bytes).base64EncodedString()
      #expect(Base64.encode(bytes) == text)
      #expect(Base64.decode(text) == bytes)
    }
    for wrong in ["A", "AA", "AAA", "A===", "====", "AA=A", "AAAA\n", "AA A", "ÄAAA", "AA-_"] {
      #expect(Base64.decode(wrong) == nil, "'\(wrong)'")
    }
  }

  @Test func numbersAreFoundations() {
    var random = SeededGenerator()
    var values: [Double] = [0, -0.0, 0.5, 1.5, 2.5, -0.05, 1e300, -1e-300, .greatestFiniteMagnitude]
    for _ in 0..<500 { values.append(Double.random(in: -1e6...1e6, using: &random)) }
    for value in values {
      for places in 0...6 { #expect(fixed(value, places) == String(format: "%.\(places)f", value)) }
      #expect(scientific(value, 1) == String(format: "%.1e", value))
    }
  }

  @Test func foldersAreSeenAsTheyAre() throws {
    try withTemporaryFolder { folder in
      #expect(FileSystem.createFolder(folder + "/a/b/c"))
      #expect(FileSystem.createFolder(folder + "/a/b/c"))
      try "text \u{E4}".write(toFile: folder + "/a/file", atomically: false, encoding: .utf8)
      try FileManager.default.createSymbolicLink(atPath: folder + "/a/link", withDestinationPath: folder + "/a/b")
      #expect(try FileSystem.names(in: folder + "/a").sorted() == ["b", "file", "link"])
      #expect(FileSystem.kind(folder + "/a/b") == .folder)
      #expect(FileSystem.kind(folder + "/a/file") == .file)
      #expect(FileSystem.kind(folder + "/a/link") == .symbolicLink)
      #expect(FileSystem.kind(folder + "/none") == nil)
      #expect(FileSystem.isFolder(folder + "/a/link"))
      #expect(!FileSystem.isFolder(folder + "/a/file"))
      #expect(!FileSystem.createFolder(folder + "/a/file/d"))
      #expect(FileSystem.text(of: folder + "/a/file") == "text \u{E4}")
      #expect(FileSystem.text(of: folder + "/none") == nil)
      try Data([0xFF, 0xFE]).write(to: URL(fileURLWithPath: folder + "/a/bytes"))
      #expect(FileSystem.text(of: folder + "/a/bytes") == nil)
      let refusal = #expect(throws: Refusal.self) { try FileSystem.names(in: folder + "/none") }
      #expect(refusal?.rule == "directory-unreadable")
      #expect((folder + "/a/b/..").resolvedName == "a")
      #expect((folder + "/a/b/").resolvedName == "b")
    }
    #expect((FileSystem.freeByteCount(in: "/") ?? 0) > 0)
    #expect(FileSystem.freeByteCount(in: "/none/of/these") == nil)
  }

  @Test func threadsWaitForEachOther() {
    let condition = Condition()
    let turns = Mutex<[Int]>([])
    for number in 0..<4 {
      let hasStarted = WorkThread.start {
        condition.lock()
        while turns.withLock({ $0.count }) != number { condition.wait() }
        turns.withLock { $0.append(number) }
        condition.broadcast()
        condition.unlock()
      }
      #expect(hasStarted)
    }
    condition.lock()
    while turns.withLock({ $0.count }) < 4 { condition.wait() }
    condition.unlock()
    #expect(turns.withLock { $0 } == [0, 1, 2, 3])
  }
}
