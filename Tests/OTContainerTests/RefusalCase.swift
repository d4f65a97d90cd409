import Foundation
import OTContainer
import OTFoundation
import Testing
import _OTCSupport
import _OTTestSupport

/// A file that breaks one rule, and the rule.
struct RefusalCase: Sendable, CustomTestStringConvertible {
  let name: String
  let rule: String
  let make: @Sendable () throws -> [UInt8]
  var testDescription: String { name }

  init(_ name: String, _ rule: String, _ make: @escaping @Sendable () throws -> [UInt8]) {
    (self.name, self.rule, self.make) = (name, rule, make)
  }

  /// The small file, changed, its checksums fitting again.
  init(_ name: String, _ rule: String, changing change: @escaping @Sendable (inout [UInt8]) -> Void) {
    self.init(name, rule) {
      var bytes = HandmadeFile.small.bytes
      change(&bytes)
      HandmadeFile.seal(&bytes)
      return bytes
    }
  }

  /// The small file with other metadata.
  init(_ name: String, _ rule: String, _ old: String, _ new: String) {
    self.init(name, rule) { HandmadeFile.small(old, new).bytes }
  }

  /// Expects the rule when the file is opened.
  func expectAtOpening() throws {
    let bytes = try make()
    let refusal = #expect(throws: Refusal.self) { try open(bytes) }
    #expect(refusal?.rule == rule, "\(refusal?.description ?? "")")
    #expect(refusal?.file?.hasSuffix("model.otq") == true)
    try expectThroughC(bytes)
  }

  /// Expects the rule of a caller in C.
  private func expectThroughC(_ bytes: [UInt8]) throws {
    try withTemporaryFolder { folder in
      try Data(bytes).write(to: URL(fileURLWithPath: "\(folder)/model.otq"))
      #expect(CInterface.rule(refusing: "\(folder)/model.otq") == rule)
    }
  }

  /// Expects that the file opens, and the rule when its data are read.
  func expectAtReading() throws {
    let bytes = try make()
    let container = try open(bytes)
    try expectThroughC(bytes)
    for read in [{ try container.verify(threadCount: 2) }, { _ = try contents(container) }] {
      let refusal = #expect(throws: Refusal.self) { try read() }
      #expect(refusal?.rule == rule, "\(refusal?.description ?? "")")
      #expect(refusal?.file?.hasSuffix("model.otq") == true)
    }
  }
}
