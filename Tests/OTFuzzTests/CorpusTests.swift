import Foundation
import Testing
import _OTFuzzTargets
import _OTTestSupport

/// The inputs that fuzzing has found, of which each goes another way through a reader, and those that once were faults.
enum Corpus {
  /// Those of a target, in the order of their names.
  static func inputs(of target: FuzzTarget) throws -> [[UInt8]] {
    let folder = Fixtures.path("fuzz/\(target.name)")
    return try FileManager.default.contentsOfDirectory(atPath: folder).sorted().map { name in
      Array(try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)")))
    }
  }
}

struct CorpusTests {
  /// None traps, and none is answered by anything but a value or a refusal.
  @Test(arguments: FuzzTarget.all)
  func everyInputIsReadOrRefused(target: FuzzTarget) throws {
    let inputs = try Corpus.inputs(of: target)
    let accepted = try inputs.count { try target.run($0) == nil }
    // A corpus that is refused whole would reach nothing.
    #expect(accepted > 0 && inputs.count > accepted, "\(accepted) of \(inputs.count) inputs are accepted")
  }
}
