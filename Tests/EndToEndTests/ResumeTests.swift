import Foundation
import Testing
import _OTTestSupport

/// Work that goes on where a process ended: the bytes are those of a run that nothing interrupted.
@Suite struct ResumeTests {
  /// Samples that take a moment.
  private static let few = ["--samples", "4", "--length", "32", "--quiet"]

  /// Ends a run by a limit on the size of files, in units of 512 bytes, which no process outlives by luck.
  private static func interrupted(_ arguments: [String], blocks: Int) throws -> Tool.Outcome {
    let words = arguments.map { "'\($0)'" }.joined(separator: " ")
    return try Tool.shell("ulimit -f \(blocks); exec \"$OTCONVERT\" \(words)")
  }

  /// Nearest, sequential rounding with a choice among methods before it, a chain of methods that is decided again, and
  /// weights whose products with a shift go into biases.
  @Test(arguments: [
    ["--no-calibration"], ["--bits", "6"], ["--method", "osplus", "--method", "smoothquant"],
    ["--method", "outliertune"], ["--compression", "none", "--budget", "5.0bpw"],
  ])
  func aConversionGoesOn(options: [String]) throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/gpt2-mini")
      func run(_ name: String) -> [String] {
        [model, "\(folder)/\(name)"] + options + (options == ["--no-calibration"] ? ["--quiet"] : Self.few)
      }
      #expect(try Tool.finish(Tool.process(run("whole"))).status == 0)
      let whole = try contents(folder + "/whole")
      var endings = 0
      for blocks in [8, 60, 150, 300, 600, 900] {
        let outcome = try Self.interrupted(run("out") + ["--resume"], blocks: blocks)
        guard outcome.status != 0 else { break }
        #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome.errors)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["out.resume", "whole"])
        endings += 1
      }
      #expect(endings > 1)
      if !FileManager.default.fileExists(atPath: folder + "/out") {
        let outcome = try Tool.finish(Tool.process(run("out") + ["--resume"]))
        #expect(outcome.status == 0, "\(outcome.errors)")
      }
      #expect(try contents(folder + "/out") == whole)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["out", "whole"])
    }
  }

  @Test func killedAgainAndAgainItComesToItsEnd() throws {
    try withTemporaryFolder { folder in
      let arguments = [Fixtures.path("models/gpt2-mini"), folder + "/out", "--bits", "6"] + Self.few
      #expect(try Tool.finish(Tool.process(arguments)).status == 0)
      let whole = try contents(folder + "/out")
      var random = SeededGenerator()
      for round in 0..<4 {
        try FileManager.default.removeItem(atPath: folder + "/out")
        for _ in 0..<3 {
          let process = Tool.process(arguments + ["--resume", "--force"])
          process.standardError = FileHandle.nullDevice
          try process.run()
          usleep(UInt32.random(in: 0..<400_000, using: &random))
          kill(process.processIdentifier, SIGKILL)
          process.waitUntilExit()
        }
        let outcome = try Tool.finish(Tool.process(arguments + ["--resume", "--force"]))
        #expect(outcome.status == 0, "seed \(random.seed), round \(round): \(outcome.errors)")
        #expect(try contents(folder + "/out") == whole, "seed \(random.seed), round \(round)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["out"])
      }
    }
  }

  @Test func aJournalOfAnotherWorkIsRefusedByName() throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try FileManager.default.copyItem(atPath: Fixtures.path("models/gpt2-mini"), toPath: model)
      let arguments = [model, folder + "/out", "--no-calibration", "--quiet", "--resume"]
      #expect(try Self.interrupted(arguments, blocks: 200).status == 1)
      func refusal(_ more: String...) throws -> String {
        let outcome = try Tool.finish(Tool.process(arguments + more))
        #expect(outcome.status == 1 && !FileManager.default.fileExists(atPath: folder + "/out"))
        return outcome.errors
      }
      let options = try refusal("--bits", "6")
      #expect(options.contains("[resume-other-options]") && options.contains("'bits' was 8 and is 6"), "\(options)")

      let journal = folder + "/out.resume/journal"
      let text = try String(contentsOfFile: journal, encoding: .utf8)
      let first = try #require(text.split(separator: "\n").first)
      let other = String(first.dropFirst(9)).replacingOccurrences(of: "\"program\":\"otq ", with: "\"program\":\"otq 0")
      try "\(Self.checksum(other)) \(other)\n".write(toFile: journal, atomically: false, encoding: .utf8)
      let version = try refusal()
      #expect(version.contains("[resume-other-version]") && version.contains("otq 0"), "\(version)")
      try text.write(toFile: journal, atomically: false, encoding: .utf8)

      let weights = model + "/model.safetensors"
      try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: weights)
      let source = try refusal()
      #expect(source.contains("[resume-other-source]") && source.contains("'model.safetensors'"), "\(source)")
    }
  }

  /// CRC-32 by its definition, bit by bit.
  private static func checksum(_ text: String) -> String {
    var sum = UInt32.max
    for byte in text.utf8 {
      sum ^= UInt32(byte)
      for _ in 0..<8 { sum = sum & 1 == 1 ? sum >> 1 ^ 0xEDB8_8320 : sum >> 1 }
    }
    return String(format: "%08x", ~sum)
  }

  /// What rows tell of and the disk does not have is made again.
  @Test(arguments: ["output", "rounded", "decided"]) func damagedFilesOfTheWorkAreMadeAgain(file: String) throws {
    try withTemporaryFolder { folder in
      let arguments = [Fixtures.path("models/gpt2-mini"), folder + "/out", "--bits", "6"] + Self.few
      #expect(try Tool.finish(Tool.process(arguments)).status == 0)
      let whole = try contents(folder + "/out")
      try FileManager.default.removeItem(atPath: folder + "/out")
      #expect(try Self.interrupted(arguments + ["--resume"], blocks: 400).status == 1)
      let path = "\(folder)/out.resume/\(file)"
      var bytes = try contents(path)
      for place in stride(from: bytes.count / 3, to: bytes.count, by: 97) { bytes[place] ^= 0x55 }
      try bytes.write(to: URL(fileURLWithPath: path))
      #expect(try Tool.finish(Tool.process(arguments + ["--resume"])).status == 0)
      #expect(try contents(folder + "/out") == whole)
    }
  }

  @Test(arguments: [false, true]) func aCalibrationGoesOn(isPart: Bool) throws {
    try withTemporaryFolder { folder in
      // The whole, or a part that has as many samples.
      let (suffix, part) = isPart ? (".part-2", ["--part", "2", "--of", "2"]) : ("", [])
      let text = folder + "/t"
      try String(repeating: "In the beginning God created the heaven and the earth.\n", count: 2000)
        .write(toFile: text, atomically: true, encoding: .utf8)
      func run(_ name: String) -> [String] {
        [
          "calibrate", Fixtures.path("models/gpt2-mini"), "--text", text, "-o", "\(folder)/\(name)", "--samples",
          isPart ? "480" : "240", "--length", "64", "--quiet",
        ] + part
      }
      #expect(try Tool.finish(Tool.process(run("whole"))).status == 0)
      let process = Tool.process(run("out") + ["--resume"])
      try process.run()
      // After the first batch.
      while process.isRunning, !Self.hasRow("observed", in: folder + "/out\(suffix).resume/journal") {
        usleep(500)
      }
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      if isPart {
        // Another number of parts would have other samples.
        let other = run("out").map { $0 == "2" ? "3" : $0 }
        try FileManager.default.moveItem(
          atPath: folder + "/out.part-2.resume", toPath: folder + "/out.part-3.resume")
        let refused = try Tool.finish(Tool.process(other + ["--resume"]))
        #expect(refused.status == 1 && refused.errors.contains("[resume-other-options]"), "\(refused.errors)")
        try FileManager.default.moveItem(
          atPath: folder + "/out.part-3.resume", toPath: folder + "/out.part-2.resume")
      }
      let outcome = try Tool.finish(Tool.process(run("out") + ["--resume", "--force"]))
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(try contents(folder + "/out" + suffix) == contents(folder + "/whole" + suffix))
      let names = ["out" + suffix, "t", "whole" + suffix]
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == names)
    }
  }

  /// A disk that is full from one write on, now later and now sooner: what was kept stays, and with room it comes to the
  /// same end. The shim is that of `scripts/check-faults`.
  @Test func aNearlyFullDisk() throws {
    try withTemporaryFolder { folder in
      let root = Fixtures.root.deletingLastPathComponent().path
      let shim = folder + "/shim.so"
      let made = try Tool.shell("clang -shared -fPIC -O1 -o '\(shim)' '\(root)/scripts/faults/shim.c' -ldl -lpthread")
      #expect(made.status == 0, "\(made.errors)")
      try FileManager.default.createDirectory(atPath: folder + "/disk", withIntermediateDirectories: true)
      let arguments = [Fixtures.path("models/gpt2-mini"), folder + "/disk/out", "--bits", "6"] + Self.few
      #expect(try Tool.finish(Tool.process(arguments)).status == 0)
      let whole = try contents(folder + "/disk/out")
      try FileManager.default.removeItem(atPath: folder + "/disk/out")
      func rowCount() -> Int {
        let text = try? String(contentsOfFile: folder + "/disk/out.resume/journal", encoding: .utf8)
        return text?.split(separator: "\n").count ?? 0
      }
      var most = 0
      for call in [12, 60, 3, 30, 1, 90] {
        let outcome = try Tool.finish(
          Tool.process(
            arguments + ["--resume"],
            environment: [
              "LD_PRELOAD": shim, "FAULT_ROOTS": folder + "/disk", "FAULT_KINDS": "create,write,sync,size",
              "FAULT_AT": "\(call)", "FAULT_EVER": "1", "FAULT_MODE": "ENOSPC",
            ]))
        guard outcome.status != 0 else { break }
        #expect(outcome.status == 1 && outcome.errorLines.count == 1, "call \(call): \(outcome.errors)")
        #expect(rowCount() >= most, "call \(call)")
        most = rowCount()
        #expect(!FileManager.default.fileExists(atPath: folder + "/disk/out"))
      }
      #expect(most > 3)
      #expect(try Tool.finish(Tool.process(arguments + ["--resume", "--force"])).status == 0)
      #expect(try contents(folder + "/disk/out") == whole)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/disk") == ["out"])
    }
  }

  private static func hasRow(_ step: String, in journal: String) -> Bool {
    (try? String(contentsOfFile: journal, encoding: .utf8))?.contains("\"step\":\"\(step)\"") ?? false
  }

  @Test func aMergeGoesOn() throws {
    try withTemporaryFolder { folder in
      let (plan, out) = (folder + "/plan", folder + "/out")
      let model = Fixtures.path("models/gpt2-mini")
      #expect(try Tool.run("plan", model, out, "--parts", "2", "-o", plan, "--no-calibration", "--quiet").status == 0)
      for part in ["1", "2"] {
        #expect(try Tool.run("convert", "--plan", plan, "--part", part, "--quiet").status == 0)
      }
      #expect(try Self.interrupted(["merge", "--plan", plan, "--resume"], blocks: 560).status == 1)
      #expect(Self.hasRow("written", in: out + ".resume/journal"))
      let outcome = try Tool.run("merge", "--plan", plan, "--resume", "--quiet")
      #expect(outcome.status == 0, "\(outcome.errors)")
      #expect(!FileManager.default.fileExists(atPath: out + ".resume"))
      #expect(try Tool.run(model, folder + "/whole", "--no-calibration", "--quiet").status == 0)
      #expect(try contents(out) == contents(folder + "/whole"))
    }
  }
}

/// Files that are cut while they are read, and files that are read instead of mapped.
@Suite struct ReadingTests {
  /// A file that was cut after it was opened is refused with its name and the place, not a crash.
  @Test(arguments: [false, true]) func aSourceThatIsCutIsRefused(isMapped: Bool) throws {
    try withTemporaryFolder { folder in
      let model = folder + "/model"
      try FileManager.default.copyItem(atPath: Fixtures.path("models/opt-mini"), toPath: model)
      let weights = model + "/model.safetensors"
      let pipe = folder + "/text"
      mkfifo(pipe, 0o600)
      // It waits for the text, with its source open.
      let process = Tool.process(
        [model, folder + "/out", "--text", pipe, "--samples", "4", "--length", "64", "--quiet"]
          + (isMapped ? [] : ["--no-mmap"]))
      let errors = Pipe()
      process.standardError = errors
      try process.run()
      let descriptor = open(pipe, O_WRONLY)
      #expect(truncate(weights, 4096) == 0)
      let text = Array(String(repeating: "In the beginning God created the heaven.\n", count: 300).utf8)
      _ = text.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      close(descriptor)
      let line = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(process.terminationReason == .exit && process.terminationStatus == 1, "\(line)")
      #expect(line.contains("[file-changed]") && line.contains("model.safetensors"), "\(line)")
      #expect(!isMapped || line.contains(": byte "), "\(line)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["model", "text"])
    }
  }

  @Test func filesThatAreReadGiveTheSameBytes() throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/gpt2-mini")
      for (name, option) in [("mapped", "--quiet"), ("read", "--no-mmap")] {
        let outcome = try Tool.run(model, "\(folder)/\(name)", "--no-calibration", option)
        #expect(outcome.status == 0, "\(outcome.errors)")
      }
      #expect(try contents(folder + "/read") == contents(folder + "/mapped"))
      let run = ["run", folder + "/read", "--prompt", "In", "--max-tokens", "8"]
      let mapped = try Tool.finish(Tool.process(run))
      let read = try Tool.finish(Tool.process(run + ["--no-mmap"]))
      #expect(mapped.status == 0 && mapped.output == read.output)
    }
  }
}
