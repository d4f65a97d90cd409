import Foundation
import OTJSON
import OTModel
import Testing
import _OTModelSupport
import _OTTestSupport

/// `--effort` and `--budget` as a user gives them.
@Suite struct EffortTests {
  private static let model = Fixtures.path("models/llama-mini")

  private func convert(_ output: String, _ options: String...) throws -> Tool.Outcome {
    try Tool.finish(Tool.process([Self.model, output, "--bits", "6"] + options))
  }

  @Test func fastNeedsNoText() throws {
    try withTemporaryFolder { folder in
      let fast = try convert(folder + "/a.otq", "--effort", "fast")
      #expect(fast.status == 0 && fast.output.contains("hadamard") && !fast.errors.contains("calibrating"))
      #expect(try convert(folder + "/b.otq", "--no-calibration").status == 0)
      let bytes = try ["a", "b"].map { try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\($0).otq")) }
      #expect(bytes[0] == bytes[1])
    }
  }

  /// Thorough: the file tells what was tried, and so does the page of verify.
  @Test func thoroughShowsWhatItTried() throws {
    try withTemporaryFolder { folder in
      let file = folder + "/m.otq"
      let outcome = try convert(file, "--effort", "thorough", "--samples", "4", "--length", "64")
      #expect(outcome.status == 0 && outcome.output.contains("choice"), "\(outcome.errors)")
      let verified = try Tool.run(
        "verify", file, "--reference", Self.model, "--level", "layers", "--report", folder + "/r.html", "--json",
        "--samples", "2", "--length", "64")
      #expect(verified.status == 0, "\(verified.errors)")
      let sites = try #require(JSONValue.parse(verified.output)["sites"]?.array)
      for site in sites {
        let trials = try #require(site["trials"]?.object?.members)
        let least = trials.compactMap { trial in trial.value.double.map { (trial.key, $0) } }.min { $0.1 < $1.1 }
        #expect(site["chosen"]?.string == least?.0 && trials.count > 5)
      }
      let page = try String(contentsOfFile: folder + "/r.html", encoding: .utf8)
      #expect(page.contains("chosen by the error of"))
    }
  }

  /// Two megabytes do for observing; rounding, which comes after it, takes more than four.
  @Test func tooLittleMemoryIsRefusedBeforeCalibrating() throws {
    try withTemporaryFolder { folder in
      let sample = ["--samples", "4", "--length", "64", "--max-memory"]
      for (memory, isEnough) in [("4M", false), ("5M", true)] {
        let outcome = try Tool.finish(Tool.process([Self.model, folder + "/m.otq"] + sample + [memory]))
        #expect((outcome.status == 0) == isEnough && outcome.errors.contains("calibrating on") == isEnough)
        #expect(outcome.errors.contains("[calibration-memory]") != isEnough, "\(outcome.errors)")
      }
    }
  }

  @Test func aBudgetIsKept() throws {
    try withTemporaryFolder { folder in
      let file = folder + "/m.otq"
      let outcome = try Tool.run(
        Self.model, file, "--budget", "5bpw", "--samples", "4", "--length", "64", "--quiet")
      #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
      let packed = try PackedModel(path: file)
      #expect(packed.linearBitsPerWeight <= 5)
      #expect(Set(packed.blockWeights.compactMap { $0.scheme?.bits }).count > 1)
      #expect(packed.container.metadata["options"]?["budget"]?.string == "5.0bpw")
      #expect(try Tool.run("verify", file, "--reference", Self.model, "--level", "weights").status == 0)
      let tight = try Tool.run(Self.model, folder + "/n.otq", "--budget", "10K", "--effort", "fast")
      #expect(tight.status == 1 && tight.errors.contains("[budget-small]"), "\(tight.errors)")
      #expect(!FileManager.default.fileExists(atPath: folder + "/n.otq"))
    }
  }

  @Test func wrongUsage() throws {
    for options in [
      ["--effort", "most"], ["--effort", "fast", "--method", "best"], ["--effort", "thorough", "--no-calibration"],
      ["--effort", "fast", "--text", "a.txt"], ["--effort", "standard", "--weights-only"], ["--budget", "much"],
      ["--budget", "5bpw", "--bits", "6"], ["--effort", "fast", "--statistics", "s"],
    ] {
      #expect(try Tool.finish(Tool.process([Self.model, "x"] + options)).status == 64, "\(options)")
    }
    #expect(try Tool.run("plan", Self.model, "--budget", "5bpw").status == 64)
    let exported = try Tool.run("export", Self.model, "x", "--to", "safetensors", "--budget", "5bpw")
    #expect(exported.status == 64, "\(exported.errors)")
  }
}
