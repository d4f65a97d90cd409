import Foundation
import OTContainer
import OTFoundation
import OTJSON
import Testing
import _OTTestSupport

/// Journals: what a power cut may leave of one.
@Suite struct JournalTests {
  private static let texts = ["", "a", "ü\n\"", String(repeating: "long ", count: 300)]

  private static func row(_ text: String) -> JSONObject { ["text": .string(text)] }

  private static func texts(of journal: Journal) -> [String?] { journal.rows.map { $0["text"]?.string } }

  /// Cut at any length, it has the rows before, and the next takes the place of what was cut.
  @Test func aTornEndIsLeftOut() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/journal"
      var ends = [0]
      do {
        let journal = try Journal(path: path)
        for text in Self.texts {
          try journal.append(Self.row(text))
          ends.append(try Data(contentsOf: URL(fileURLWithPath: path)).count)
        }
      }
      let whole = try Data(contentsOf: URL(fileURLWithPath: path))
      for length in 0...whole.count {
        try whole.prefix(length).write(to: URL(fileURLWithPath: path))
        let count = ends.lastIndex { $0 <= length } ?? 0
        let journal = try Journal(path: path)
        #expect(Self.texts(of: journal) == Array(Self.texts.prefix(count)), "length \(length)")
        try journal.append(Self.row("next"))
        withExtendedLifetime(journal) {}
        let expected = Array(Self.texts.prefix(count)) + ["next"]
        #expect(try Self.read(path) == expected, "length \(length)")
      }
    }
  }

  private static func read(_ path: String) throws -> [String?] {
    let copy = path + ".copy"
    defer { try? FileManager.default.removeItem(atPath: copy) }
    try FileManager.default.copyItem(atPath: path, toPath: copy)
    return texts(of: try Journal(path: copy))
  }

  /// What another thread starts shares the descriptors of this process for a moment: the lock goes with the journal.
  @Test func nobodyHoldsALockBehindTheJournal() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/journal"
      var copies: [Int32] = []
      do {
        let journal = try Journal(path: path)
        let names = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").filter {
          (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/" + $0)) == path
        }
        copies = names.compactMap { Int32($0) }.map { dup($0) }
        withExtendedLifetime(journal) {}
      }
      defer { for copy in copies { close(copy) } }
      #expect(copies.count == 1)
      #expect(try Journal(path: path).rows.isEmpty)
    }
  }

  /// Any bit that flips ends the rows before its line.
  @Test func aFlippedBitEndsTheRows() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/journal"
      do {
        let journal = try Journal(path: path)
        for text in ["first", "second"] { try journal.append(Self.row(text)) }
      }
      let whole = try Data(contentsOf: URL(fileURLWithPath: path))
      let firstEnd = try #require(whole.firstIndex(of: UInt8(ascii: "\n")))
      for bit in 0..<whole.count * 8 {
        var bytes = whole
        bytes[bit / 8] ^= 1 << (bit % 8)
        try bytes.write(to: URL(fileURLWithPath: path))
        let found = Self.texts(of: try Journal(path: path))
        #expect(found == (bit / 8 <= firstEnd ? [] : ["first"]), "bit \(bit)")
      }
    }
  }

  @Test func oneProcessHasIt() throws {
    try withTemporaryFolder { folder in
      let journal = try Journal(path: folder + "/journal")
      #expect { try Journal(path: folder + "/journal") } throws: { ($0 as? Refusal)?.rule == "resume-busy" }
      withExtendedLifetime(journal) {}
    }
  }
}
