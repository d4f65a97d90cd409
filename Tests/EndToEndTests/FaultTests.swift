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
      // What a kill leaves behind the next run removes.
      #expect(try Tool.finish(Tool.process(convert("6"))).status == 0)
      #expect(try contents(target) == six)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["m.otq"])
    }
  }

  @Test func whatAKilledExportLeavesTheNextRemoves() throws {
    try withTemporaryFolder { folder in
      // Linux gives no process so high a number; the other one lives.
      let (stray, other) = (".m.4194399.abc.partial", ".m.\(getpid()).abc.partial")
      for name in [stray, other] {
        try FileManager.default.createDirectory(
          atPath: "\(folder)/\(name)/1_Pooling", withIntermediateDirectories: true)
        try Data("left".utf8).write(to: URL(fileURLWithPath: "\(folder)/\(name)/1_Pooling/config.json"))
      }
      for options in [[], ["--force"]] {
        let export = Tool.process(
          [
            "export", Fixtures.path("models/gpt2-mini"), folder + "/m", "--to", "safetensors", "--quiet",
            "--no-calibration",
          ] + options)
        #expect(try Tool.finish(export).status == 0)
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == [other, "m"])
    }
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP]) func aSignalEndsAndLeavesNothing(signal: Int32) throws {
    try withTemporaryFolder { folder in
      let text = folder + "/t.txt"
      try String(repeating: "In the beginning God created the heaven and the earth.\n", count: 20_000)
        .write(toFile: text, atomically: true, encoding: .utf8)
      // Minutes of work, with a file that waits for its name.
      let process = Tool.process([
        "eval", Fixtures.path("models/opt-mini"), "--text", text, "--logits-out", folder + "/l.safetensors",
      ])
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      while try FileManager.default.contentsOfDirectory(atPath: folder).count < 2, process.isRunning { usleep(1000) }
      kill(process.processIdentifier, signal)
      process.waitUntilExit()
      #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == signal)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["t.txt"])
    }
  }

  /// `nohup`, and what a shell starts in the background.
  @Test func anIgnoredSignalStaysIgnored() throws {
    try withTemporaryFolder { folder in
      let outcome = try Tool.shell(
        "trap '' HUP; \"$OTCONVERT\" run '\(Fixtures.path("models/bloom-mini"))' --prompt In --max-tokens 300 "
          + "> \(folder)/out & while [ ! -s \(folder)/out ]; do sleep 0.05; done; kill -HUP $!; wait $!; echo $?")
      #expect(outcome.output == "0\n", "\(outcome.errors)")
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

/// Limits that the system sets a process.
@Suite struct LimitTests {
  /// Sanitizers take more addresses than these limits before a program begins.
  private static let isSanitized = ProcessInfo.processInfo.environment["ASAN_OPTIONS"] != nil

  /// Without floats to multiply there is no BLAS, whose threads would not start; with them there is a clear line.
  @Test(.enabled(if: !isSanitized), arguments: ["--no-calibration", ""])
  func littleAddressSpaceEndsCleanly(option: String) throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/opt-mini")
      let outcome = try Tool.shell("ulimit -v 200000; exec \"$OTCONVERT\" '\(model)' '\(folder)/m.otq' \(option)")
      if option.isEmpty {
        #expect(outcome.status == 1 && outcome.errors.contains("[blas-memory]"), "\(outcome.errors)")
      } else {
        #expect(outcome.status == 0, "\(outcome.errors)")
      }
    }
  }

  /// Where the library itself finds no room, it is not said to be missing.
  @Test(.enabled(if: !isSanitized), arguments: [200_000, 256_000, 300_000])
  func littleAddressSpaceIsNamed(kilobytes: Int) throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/gpt2-mini")
      let outcome = try Tool.shell(
        "ulimit -v \(kilobytes); exec \"$OTCONVERT\" '\(model)' '\(folder)/m.otq' --samples 4 --length 32 --threads 1")
      #expect(outcome.status == 1 && outcome.errors.contains("[blas-memory]"), "\(outcome.errors)")
    }
  }

  /// Threads follow the processors that the process may use, and more of them change nothing.
  @Test func threadsFollowTheProcessors() throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/opt-mini")
      let bytes = try [("a", ""), ("b", "--threads 16")].map { name, option in
        let line = "exec taskset -c 0 \"$OTCONVERT\" '\(model)' \(folder)/\(name).otq --samples 4 \(option)"
        let outcome = try Tool.shell(line)
        #expect(outcome.status == 0, "\(outcome.errors)")
        return try contents("\(folder)/\(name).otq")
      }
      #expect(bytes[0] == bytes[1])
    }
  }
}
