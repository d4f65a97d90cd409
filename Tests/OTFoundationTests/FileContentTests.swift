import Foundation
import OTFoundation
import Testing
import _OTTestSupport

@Suite struct FileContentTests {
  private static let tar = [UInt8](repeating: 0x61, count: 257) + Array("ustar\u{0}00".utf8)

  /// First bytes as other programs write them.
  static let beginnings: [(FileContent, [UInt8])] = [
    (.safetensors, [2, 0, 0, 0, 0, 0, 0, 0] + Array("{}".utf8)), (.zip, Array("PK\u{3}\u{4}\u{14}".utf8)),
    (.pickle, [0x80, 2, 0x7D]), (.json, Array("\u{FEFF} {\"a\": 1}".utf8)), (.json, Array("\n{}".utf8)),
    (.gguf, Array("GGUF\u{3}".utf8)), (.otq, [0x89, 0x4F, 0x54, 0x51, 0x0D, 0x0A, 0x1A, 0x0A]),
    (.gitLFSPointer, Array("version https://git-lfs.github.com/spec/v1\noid sha256:0\n".utf8)),
    (.html, Array("<!DOCTYPE html>".utf8)), (.html, Array(" <HTML lang=en>".utf8)), (.tar, tar),
    (.gzip, [0x1F, 0x8B, 8]), (.zstd, [0x28, 0xB5, 0x2F, 0xFD]), (.xz, [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0]),
    (.arrow, Array("ARROW1\0\0".utf8)), (.arrow, Array("FEA1".utf8)),
    (.arrow, [0xFF, 0xFF, 0xFF, 0xFF, 0x10, 1, 0, 0]),
    (.pdf, Array("%PDF-1.7\n".utf8)), (.bzip2, Array("BZh91AY".utf8)), (.parquet, Array("PAR1\u{15}".utf8)),
    (.numpy, [0x93] + Array("NUMPY\u{1}".utf8)),
    (.hdf5, [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A]), (.sevenZip, [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]),
    (.mobile, Array("PYTORCH1".utf8)), (.utf16, [0xFF, 0xFE, 0x7B, 0]), (.empty, []),
    (.unknown, Array("In the beginning".utf8)), (.unknown, [0x80]),
  ]

  @Test(arguments: beginnings)
  func kinds(_ expected: FileContent, _ bytes: [UInt8]) {
    bytes.withUnsafeBytes { #expect(FileContent($0) == expected) }
    // What is shorter is of no kind, and does not trap.
    for count in 0..<min(bytes.count, 12) { bytes.prefix(count).withUnsafeBytes { _ = FileContent($0) } }
  }

  @Test func everyKindIsTried() { #expect(Set(Self.beginnings.map(\.0)) == Set(FileContent.allCases)) }

  /// Each kind has its own rule and says what to do.
  @Test func refusalsNameTheKind() {
    let refusals = FileContent.allCases.map { $0.refusal(reader: "json", wanted: "JSON", file: "f") }
    #expect(Set(refusals.map(\.rule)).count == FileContent.allCases.count)
    #expect(refusals.allSatisfy { $0.remedy?.isEmpty == false && $0.message.hasPrefix("is ") })
  }
}
