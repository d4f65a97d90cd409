import Foundation
import OTJSON
import Testing
import _OTTestSupport

/// Standard streams that are full, closed or read by nobody.
@Suite struct StreamTests {
  private static let model = Fixtures.path("models/opt-mini")
  private static let text = "printf 'In the beginning God created the heaven and the earth.\\n%.0s' $(seq 40)"

  /// Runs lines in a folder with a packed model `m.otq`, tokens and `t.txt`.
  private func withModel(_ body: (_ folder: String) throws -> Void) throws {
    try withTemporaryFolder { folder in
      let packed = try Tool.run(Self.model, folder + "/m.otq", "--bits", "8", "--no-calibration", "--quiet")
      #expect(packed.status == 0, "\(packed.errors)")
      #expect(try Tool.shell("\(Self.text) > \(folder)/t.txt").status == 0)
      try body(folder)
    }
  }

  /// Commands that print something on standard error.
  private static let talkative = [
    "run m.otq --prompt In --max-tokens 2", "convert \(model) x.otq --samples 1 --force",
    // A conversion with a warning, without config.json.
    "convert \(model)/model.safetensors x.otq --family opt --force",
  ]

  @Test(arguments: talkative, ["2>/dev/full", "2>&-", "2> >(true)", ">&- 2>&- <&-"])
  func standardErrorMayBeGone(command: String, redirection: String) throws {
    try withModel { folder in
      let line = "cd \(folder) && \"$OTCONVERT\" \(command) \(redirection)"
      let outcome = try Tool.shell("bash -c '\(line)'; echo $?")
      // Without standard output only the result itself is lost.
      #expect(outcome.output.hasSuffix(redirection.hasPrefix(">") ? "1\n" : "0\n"), "\(outcome)")
      if command.contains("x.otq") {
        #expect(try Tool.run("verify", folder + "/x.otq").status == 0, "nothing else was written into it")
      }
    }
  }

  @Test(arguments: [
    "inspect m.otq", "inspect m.otq --json", "inspect \(model)", "eval m.otq --text t.txt --context 16",
    "eval m.otq --text t.txt --context 16 --json", "plan \(model)", "plan \(model) --json", "verify m.otq",
    "verify m.otq --reference \(model) --json", "\(model) x.otq --no-calibration --json --force",
    "calibrate \(model) --text t.txt --samples 1 --length 16 -o s --force", "unpack m.otq u.safetensors --force",
    "run m.otq --prompt In --max-tokens 2 --json", "--help", "run --help", "--version", "demo",
  ])
  func lostResultsAreErrors(command: String) throws {
    try withModel { folder in
      for redirection in [">/dev/full", ">&-"] {
        let outcome = try Tool.shell("cd \(folder) && \"$OTCONVERT\" \(command) \(redirection)")
        #expect(outcome.status == 1 && outcome.errors.contains("[output-unwritable]"), "\(redirection) \(outcome)")
      }
      // Nobody who reads: no message.
      let outcome = try Tool.shell("cd \(folder) && \"$OTCONVERT\" \(command) 2>e | true; cat e")
      #expect(!outcome.output.contains("Error"), "\(outcome)")
    }
  }

  private static let commands = [
    ["convert", model, "x.otq", "--samples", "1"], ["inspect", "m.otq"], ["verify", "m.otq"],
    ["unpack", "m.otq", "u.safetensors"], ["plan", model + "/model.safetensors"], ["demo"],
    ["calibrate", model, "--text", "t.txt", "--samples", "1", "--length", "16", "-o", "s"],
    ["eval", "m.otq", "--text", "t.txt", "--context", "16"], ["run", "m.otq", "--prompt", "In", "--max-tokens", "2"],
    ["embed", Fixtures.path("models/bert-mini"), "--text", "And"],
  ]

  @Test(arguments: commands) func everyCommandIsQuietOrGivesJSON(arguments: [String]) throws {
    try withModel { folder in
      let json = Tool.process(arguments + ["--json"])
      json.currentDirectoryURL = URL(fileURLWithPath: folder)
      let result = try Tool.finish(json)
      #expect(result.status == 0, "\(result.errors)")
      #expect(try JSONValue.parse(result.output, limits: .init(byteCount: 1 << 26, depth: 32)).object != nil)
      for output in ["x.otq", "u.safetensors", "s"] {
        try? FileManager.default.removeItem(atPath: "\(folder)/\(output)")
      }
      let quiet = Tool.process(arguments + ["--quiet"])
      quiet.currentDirectoryURL = URL(fileURLWithPath: folder)
      let outcome = try Tool.finish(quiet)
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
      // These give what they are called for.
      #expect(outcome.output.isEmpty == !["run", "embed"].contains(arguments[0]), "\(outcome.output)")
    }
  }

  @Test func quietConversionsDoNotWarn() throws {
    try withTemporaryFolder { folder in
      for name in ["model.safetensors", "config.json"] {
        try FileManager.default.copyItem(atPath: "\(Self.model)/\(name)", toPath: "\(folder)/\(name)")
      }
      try Data("{\"version\": \"1.0\", \"model\": {\"type\": \"Trigram\"}}".utf8)
        .write(to: URL(fileURLWithPath: folder + "/tokenizer.json"))
      let loud = try Tool.run(folder, folder + "/m.otq")
      #expect(loud.status == 0 && loud.errors.contains("warning: not calibrated"), "\(loud.errors)")
      let quiet = try Tool.run(folder, folder + "/m.otq", "--force", "--quiet")
      #expect(quiet.status == 0 && quiet.output.isEmpty && quiet.errors.isEmpty, "\(quiet.errors)")
    }
  }

  @Test(arguments: [
    ["inspect", "ff"], ["run", "ff", "--prompt", "a"], ["convert", "ff", "x.otq"], ["verify", "ff"],
    ["eval", "ff", "--text", "ff"], ["plan", "ff"],
  ])
  func aPipeIsNoModel(arguments: [String]) throws {
    try withTemporaryFolder { folder in
      let line = arguments.joined(separator: " ")
      let outcome = try Tool.shell("cd \(folder) && mkfifo ff && timeout -s KILL 60 \"$OTCONVERT\" \(line)")
      #expect(outcome.status == 1 && outcome.errors.contains("[file-not-regular]"), "\(outcome)")
    }
  }
}
