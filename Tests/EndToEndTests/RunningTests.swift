import Foundation
import OTJSON
import Testing
import _OTTestSupport

/// `run` and `embed`, as a user runs them.
@Suite struct RunningTests {
  private static func model(_ family: String) -> String { Fixtures.path("models/\(family)-mini") }
  private static let prompt = "In the beginning God"

  private static func pack(_ family: String, into folder: String) throws -> String {
    let path = "\(folder)/\(family).otq"
    let outcome = try Tool.run(model(family), path, "--bits", "8", "--no-calibration", "--quiet")
    #expect(outcome.status == 0, "\(outcome.errors)")
    return path
  }

  @Test func textStreamsToStandardOutput() throws {
    try withTemporaryFolder { folder in
      let file = try Self.pack("llama", into: folder)
      let options = ["--max-tokens", "20", "--temperature", "0.8", "--top-p", "0.9", "--top-k", "50", "--seed", "9"]
      let arguments = ["run", file, "--prompt", Self.prompt] + options
      let json = try JSONValue.parse(try Tool.finish(Tool.process(arguments + ["--json"])).output)
      let text = try #require(json["text"]?.string)
      #expect(json["tokenIDs"]?.array?.count == 20 && json["tokenCount"]?.integer == 20)
      #expect(json["stopReason"]?.string == "tokenCount")
      let plain = try Tool.finish(Tool.process(arguments))
      #expect(plain.status == 0 && plain.output == text + "\n")
      #expect(plain.errors.contains("prompt") && plain.errors.contains("20 tokens, "), "\(plain.errors)")
      // No instruction set and no number of threads changes it.
      let scalar = Tool.process(arguments + ["--quiet", "--threads", "1"], environment: ["OTQ_ISA": "scalar"])
      let other = try Tool.finish(scalar)
      #expect(other.output == plain.output && other.errors.isEmpty, "\(other.errors)")
      // From a file and from standard input, whose last line break does not count.
      try Data((Self.prompt + "\n").utf8).write(to: URL(fileURLWithPath: folder + "/prompt.txt"))
      let line = "\"$OTCONVERT\" run \(file) --quiet \(options.joined(separator: " ")) --prompt-file"
      #expect(try Tool.shell("\(line) \(folder)/prompt.txt").output == plain.output)
      #expect(try Tool.shell("\(line) - < \(folder)/prompt.txt").output == plain.output)
      // Up to a word of it.
      let word = try #require(text.split(separator: " ").dropFirst(2).first)
      let stopped = try Tool.finish(Tool.process(arguments + ["--stop", String(word)]))
      let end = try #require(text.range(of: word)).lowerBound
      #expect(stopped.output == text[..<end] + "\n" && stopped.errors.contains("--stop"))
    }
  }

  /// Lines in their order, as each alone, wherever they come from and go to.
  @Test func linesAreContinuedTogether() throws {
    try withTemporaryFolder { folder in
      let file = try Self.pack("llama", into: folder)
      let prompts = [Self.prompt, "And", "The sons of Israel", "a \"quoted\" word"]
      let lines = prompts.map { JSONValue.object(["q": .string($0)]).text() + "\n" }.joined()
      try Data(lines.utf8).write(to: URL(fileURLWithPath: folder + "/p.jsonl"))
      try Data(prompts.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: folder + "/p.txt"))
      let options = ["--max-tokens", "12", "--temperature", "0.7", "--seed", "4", "--quiet"]
      let expected = try prompts.map { prompt in
        try JSONValue.parse(
          Tool.finish(Tool.process(["run", file, "--prompt", prompt, "--json"] + options)).output)
      }
      for (source, sequences) in [("p.jsonl", "3"), ("p.txt", "1")] {
        let field = source == "p.jsonl" ? ["--text-field", "q"] : []
        let arguments = ["run", file, "--lines", "\(folder)/\(source)", "--sequences", sequences] + field + options
        let outcome = try Tool.finish(Tool.process(arguments))
        let texts = outcome.output.split(separator: "\n")
        #expect(outcome.status == 0 && texts.count == 4, "\(outcome.errors)")
        for (text, alone) in zip(texts, expected) {
          let value = try JSONValue.parse(String(text))
          for name in ["text", "tokenIDs", "stopReason", "promptTokenCount", "tokenCount"] {
            #expect(value[name] != nil && value[name] == alone[name], "\(name)")
          }
        }
        let output = "\(folder)/out-\(sequences).jsonl"
        #expect(try Tool.finish(Tool.process(arguments + ["-o", output])).status == 0)
        #expect(try String(contentsOfFile: output, encoding: .utf8) == outcome.output)
        let again = try Tool.finish(Tool.process(arguments + ["-o", output]))
        #expect(again.status == 1 && again.errors.contains("[output-exists]"))
      }
    }
  }

  /// A reader that goes away, and signals: the text so far stays, the exit
  /// status is the signal's.
  @Test func endsWithItsPipe() throws {
    // BLOOM has no longest text; greedily it goes on for ever.
    let run = "\"$OTCONVERT\" run \(Self.model("bloom")) --prompt '\(Self.prompt)' --max-tokens 5000"
    let outcome = try Tool.shell("(\(run); echo $? >&2) | head -c 40")
    #expect(outcome.output.utf8.count == 40 && outcome.errors.hasSuffix("141\n"), "\(outcome.errors)")
    #expect(!outcome.errors.contains("Error"))
    try withTemporaryFolder { folder in
      let wait = "while [ ! -s \(folder)/out ]; do sleep 0.05; done"
      let outcome = try Tool.shell("\(run) > \(folder)/out & \(wait); kill -TERM $!; wait $!; echo $?")
      #expect(outcome.output == "143\n")
      #expect(outcome.errors.contains("ended by interrupted"), "\(outcome.errors)")
      #expect(try String(contentsOfFile: folder + "/out", encoding: .utf8).hasSuffix("\n"))
    }
  }

  @Test func embeddings() throws {
    try withTemporaryFolder { folder in
      let file = try Self.pack("bert", into: folder)
      try Data("And God said\r\nJesus wept.\n".utf8).write(to: URL(fileURLWithPath: folder + "/texts"))
      let lines = try Tool.run("embed", file, "--text-file", folder + "/texts")
      #expect(lines.status == 0 && lines.errors.isEmpty, "\(lines.errors)")
      let vectors = lines.output.split(separator: "\n").map { $0.split(separator: " ").compactMap { Float($0) } }
      #expect(vectors.map(\.count) == [128, 128])
      let outcome = try Tool.run("embed", file, "--text", "And God said", "--text", "Jesus wept.", "--json")
      let json = try JSONValue.parse(outcome.output)
      let values = try #require(json["embeddings"]?.array).map { $0.array?.compactMap(\.double).map(Float.init) ?? [] }
      #expect(values == vectors)
      #expect(json["dimension"]?.integer == 128 && json["normalized"]?.bool == false)
      // The same as lines of JSON, into an array: its bytes by the description of NumPy's format.
      let array = folder + "/v.npy"
      try Data("{\"text\": \"And God said\"}\n{\"text\": \"Jesus wept.\"}\n".utf8).write(
        to: URL(fileURLWithPath: folder + "/texts.jsonl"))
      let written = try Tool.run("embed", file, "--lines", folder + "/texts.jsonl", "-o", array)
      #expect(written.status == 0 && written.output.contains("float32 [2, 128]"), "\(written)")
      let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: array)))
      #expect(bytes.starts(with: [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0]))
      let headerCount = Int(bytes[8]) + Int(bytes[9]) * 256
      let header = String(decoding: bytes[10..<10 + headerCount], as: UTF8.self)
      #expect(header.hasPrefix("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 128), }"))
      #expect(header.hasSuffix("\n") && (10 + headerCount) % 64 == 0)
      let floats = stride(from: 10 + headerCount, to: bytes.count, by: 4).map { place in
        Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[place + $1]) << (8 * $1) })
      }
      #expect(floats == vectors.flatMap { $0 })
      #expect(try Tool.run("embed", file, "--lines", folder + "/texts", "-o", array).status == 1)
      #expect(try Tool.run("embed", file, "--lines", folder + "/texts", "-o", array, "--force").status == 0)
      #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: array))) == bytes)
      let long = try Tool.run("embed", file, "--text", String(repeating: "the earth ", count: 300))
      #expect(long.status == 0 && long.errors.contains("1 of 1 texts were cut to 256 tokens"), "\(long.errors)")
    }
  }

  struct BadInput: Sendable, CustomStringConvertible {
    let rule: String
    let arguments: [String]
    var description: String { "\(rule): \(arguments[0])" }
  }

  static let refusals = [
    BadInput(rule: "generate-empty-prompt", arguments: ["run", model("opt"), "--prompt", ""]),
    BadInput(rule: "generate-empty-prompt", arguments: ["run", model("opt"), "--prompt-file", "/dev/null"]),
    BadInput(rule: "run-not-causal", arguments: ["run", model("bert"), "--prompt", "And"]),
    BadInput(
      rule: "run-context",
      arguments: ["run", model("llama"), "--prompt", String(repeating: "the earth ", count: 200)]),
    BadInput(rule: "file-missing", arguments: ["run", model("opt"), "--prompt-file", "/nowhere"]),
    BadInput(rule: "file-missing", arguments: ["run", "/nowhere.otq", "--prompt", "And"]),
    BadInput(rule: "embed-causal", arguments: ["embed", model("llama"), "--text", "And"]),
    BadInput(rule: "embed-empty-text", arguments: ["embed", model("bert"), "--text", " "]),
    BadInput(rule: "embed-empty-text", arguments: ["embed", model("bert"), "--text-file", "-"]),
    BadInput(rule: "text-field", arguments: ["embed", model("bert"), "--lines", Fixtures.path("tasks/piqa.jsonl")]),
  ]

  @Test(arguments: refusals) func badInputGivesOneLine(_ test: BadInput) throws {
    let process = Tool.process(test.arguments)
    process.standardInput = FileHandle.nullDevice
    let outcome = try Tool.finish(process)
    #expect(outcome.status == 1 && outcome.output.isEmpty)
    #expect(outcome.errorLines.count == 1 && outcome.errors.contains("[\(test.rule)]"), "\(outcome.errors)")
  }

  @Test func withoutTokenizer() throws {
    try withTemporaryFolder { folder in
      for name in ["model.safetensors", "config.json"] {
        try FileManager.default.copyItem(atPath: "\(Self.model("llama"))/\(name)", toPath: "\(folder)/\(name)")
      }
      let file = folder + "/m.otq"
      #expect(try Tool.run(folder, file, "--quiet").status == 0)
      for model in [folder, file] {
        let outcome = try Tool.run("run", model, "--prompt", "And")
        #expect(outcome.status == 1 && outcome.errorLines.count == 1)
        #expect(outcome.errors.contains("[tokenizer-missing]"), "\(outcome.errors)")
      }
    }
  }

  @Test(arguments: [
    ["run", "m"], ["run", "m", "--prompt", "a", "--prompt-file", "f"],
    ["run", "m", "--prompt", "a", "--lines", "f"], ["run", "m", "--prompt", "a", "-o", "f"],
    ["run", "m", "--lines", "f", "--force"], ["run", "m", "--lines", "f", "--json"],
    ["run", "m", "--lines", "f", "--sequences", "0"],
    ["run", "m", "--prompt", "a", "--max-tokens", "0"],
    ["run", "m", "--prompt", "a", "--temperature", "-1"], ["run", "m", "--prompt", "a", "--temperature", "nan"],
    ["run", "m", "--prompt", "a", "--top-p", "0.5"],
    ["run", "m", "--prompt", "a", "--top-k", "0", "--temperature", "1"],
    ["run", "m", "--prompt", "a", "--top-p", "1.5", "--temperature", "1"],
    ["run", "m", "--prompt", "a", "--seed", "-1"],
    ["run", "m", "--prompt", "a", "--stop", ""], ["embed", "m"], ["embed", "m", "--text", "a", "--text-file", "f"],
  ])
  func wrongUsage(arguments: [String]) throws {
    let outcome = try Tool.finish(Tool.process(arguments))
    #expect(outcome.status == 64 && outcome.output.isEmpty, "\(outcome.errors)")
  }

  @Test(arguments: ["run", "embed"]) func helpHasExamples(command: String) throws {
    #expect(try Tool.run(command, "--help").output.contains("EXAMPLES"))
  }
}
