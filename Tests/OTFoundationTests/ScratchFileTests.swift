import Foundation
import OTFoundation
import Testing
import _OTTestSupport

@Suite struct ScratchFileTests {
  @Test func whatIsWrittenComesBackAndTheFolderStaysEmpty() throws {
    try withTemporaryFolder { folder in
      let file = try ScratchFile(in: folder)
      let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 * 7 + $0 / 251) }
      try bytes[..<60_000].withUnsafeBytes { try file.write($0, at: 0) }
      try bytes[60_000...].withUnsafeBytes { try file.write($0, at: 60_000) }
      #expect(try file.read(0..<100_000) == bytes)
      #expect(try file.read(59_990..<60_010) == Array(bytes[59_990..<60_010]))
      #expect(try file.read(7..<7).isEmpty)
      #expect(throws: Refusal.self) { try file.read(99_999..<100_001) }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
      #expect(throws: Refusal.self) { try ScratchFile(in: folder + "/none") }
    }
  }
}
