import Foundation
import Testing
import _OTFuzzTargets
import _OTTestSupport

/// The inputs that fuzzing has found, of which each goes another way through a reader, and those that once were faults.
struct CorpusTests {
  static func folder(_ target: FuzzTarget) -> String { Fixtures.path("fuzz/\(target.name)") }

  /// None traps, and none is answered by anything but a value or a refusal.
  @Test(arguments: FuzzTarget.all)
  func everyInputIsReadOrRefused(target: FuzzTarget) throws {
    let names = try FileManager.default.contentsOfDirectory(atPath: Self.folder(target)).sorted()
    var accepted = 0
    for name in names {
      let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: "\(Self.folder(target))/\(name)")))
      if try target.run(bytes) == nil { accepted += 1 }
    }
    // A corpus that is refused whole would reach nothing.
    #expect(accepted > 0 && names.count > accepted, "\(accepted) of \(names.count) inputs are accepted")
  }
}
