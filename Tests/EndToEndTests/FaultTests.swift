import Foundation
import Testing
import _OTTestSupport

/// Kills and full disks: the target is the old file or the new one, whole.
@Suite struct FaultTests {
  @Test func aKilledConversionLeavesAWholeFile() throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/opt-mini")
      let target = folder + "/m.otq"
      func convert(_ bits: String) -> [String] {
        [model, target, "--bits", bits, "--force", "--quiet", "--no-calibration"]
      }
      #expect(try Tool.finish(Tool.process(convert("6"))).status == 0)
      let six = try contents(target)
      #expect(try Tool.finish(Tool.process(convert("8"))).status == 0)
      let eight = try contents(target)
      var random = SeededGenerator()
      for round in 0..<30 {
        let process = Tool.process(convert(round % 2 == 0 ? "6" : "8"))
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        usleep(UInt32.random(in: 0..<60_000, using: &random))
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        let found = try contents(target)
        #expect(found == six || found == eight, "seed \(random.seed), round \(round)")
      }
      // What a kill leaves behind does not disturb the next run.
      #expect(try Tool.finish(Tool.process(convert("6"))).status == 0)
      #expect(try contents(target) == six)
    }
  }

  @Test func aFullDiskLeavesTheOldFile() throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/opt-mini")
      try Data("old".utf8).write(to: URL(fileURLWithPath: folder + "/m.otq"))
      // At most 256 KiB a file.
      let outcome = try Tool.shell(
        "ulimit -f 512; \"$OTCONVERT\" '\(model)' '\(folder)/m.otq' --bits 6 --force --quiet --no-calibration")
      #expect(outcome.status == 1)
      #expect(outcome.errors.contains("[output-write-failed]") && outcome.errors.contains("m.otq"), "\(outcome.errors)")
      #expect(outcome.errorLines.count == 1, "\(outcome.errors)")
      #expect(try contents(folder + "/m.otq") == Data("old".utf8))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["m.otq"])
    }
  }

  @Test func twoWritersOfOneTargetLeaveOneWholeFile() throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/opt-mini")
      let processes = ["6", "8"].map { bits in
        Tool.process([model, folder + "/m.otq", "--bits", bits, "--force", "--quiet", "--no-calibration"])
      }
      for process in processes { try process.run() }
      for process in processes {
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["m.otq"])
      #expect(try Tool.run("verify", folder + "/m.otq", "--reference", model).status == 0)
    }
  }
}
