import Foundation
import OTCheckpoint
import OTJSON
import OTTensor
import Testing
import _OTTestSupport

/// `verify --level layers` and `model`, as a user runs them.
@Suite struct RunVerificationCommandTests {
  private static let ids = Fixtures.path("models/opt-mini/goldens.safetensors")

  /// A copy of opt-mini, and a file made from it.
  private func withPackedModel(
    _ options: String..., body: (_ folder: String, _ packed: String) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        try FileManager.default.copyItem(
          atPath: Fixtures.path("models/opt-mini/\(name)"), toPath: "\(folder)/\(name)")
      }
      let fixture = Fixtures.path("models/opt-mini")
      let convert = Tool.process(
        [
          folder, folder + "/m.otq", "--quiet", "--act-scales", fixture + "/act_scales_sym.pt", "--symmetrization",
          fixture + "/symmetrizations.pt", "--symmetrization-samples", "32",
        ] + options)
      #expect(try Tool.finish(convert).status == 0)
      try body(folder, folder + "/m.otq")
    }
  }

  @Test(arguments: ["6", "8"]) func aGoodFilePasses(bits: String) throws {
    try withPackedModel("--bits", bits, "--activation-bits", bits) { folder, packed in
      let arguments = ["verify", packed, "--reference", folder, "--ids", Self.ids, "--level"]
      let outcome = try Tool.finish(Tool.process(arguments + ["model", "--json"]))
      #expect(outcome.status == 0, "\(outcome.errors)")
      let json = try JSONValue.parse(outcome.output, limits: .init(byteCount: 1 << 26, depth: 32))
      #expect(json["passed"]?.bool == true && json["level"]?.string == "model")
      #expect(json["scheme"]?.string == "w\(bits)a\(bits)-static")
      #expect(json["text"]?["tokenCount"]?.integer == 192)
      let layers = try #require(json["layers"]?.array)
      let kinds = layers.reduce(into: [:]) { $0[$1["kind"]?.string ?? "", default: 0] += 1 }
      // Of each of 4 blocks: q, k, v, out, fc1, fc2, two norms, attention, activation; the head and the last norm.
      #expect(kinds == ["linear": 25, "norm": 9, "attention": 4, "activation": 4])
      #expect(layers.allSatisfy { ($0["sqnrDecibels"]?.double ?? 0) > 15 })
      #expect(json["sites"]?.array?.count == 16)
      let ratio = try #require(json["model"]?["perplexityRatio"]?.double)
      #expect(abs(ratio - 1) < 0.02)
      let quiet = try Tool.finish(Tool.process(arguments + ["layers", "--quiet"]))
      #expect(quiet.status == 0 && quiet.output.isEmpty && quiet.errors.isEmpty, "\(quiet.errors)")
    }
  }

  /// Parts put together, in any order, are the result and the page of one machine, bit for bit, also where layers have
  /// faults: weights that were rounded by text, an encoder's vectors, experts that see few tokens, more parts than batches.
  @Test(arguments: [
    ("models/llama-mini", ["--rounding", "gptq,drift=0.5", "--bits", "4"], "model", 2, "100"),
    ("models/llama-mini", ["--rounding", "gptq", "--method", "quarot"], "layers", 3, "200"),
    ("models/bert-mini", ["--bits", "6"], "model", 7, "100"),
    ("models/opt-mini", ["--no-calibration", "--bits", "3", "--activation-bits", "4"], "model", 2, "60"),
  ])
  func partsAreThoseOfOneMachine(
    _ model: String, _ conversion: [String], _ level: String, _ count: Int, _ length: String
  ) throws {
    try withTemporaryFolder { folder in
      let (model, packed, record) = (Fixtures.path(model), folder + "/m.otq", folder + "/verify.json")
      let samples = conversion.contains("--no-calibration") ? [] : ["--samples", "2", "--length", "64"]
      let made = try Tool.finish(Tool.process(["convert", model, packed, "--quiet"] + conversion + samples))
      #expect(made.status == 0, "\(made.errors)")
      let options = [
        "verify", packed, "--reference", model, "--level", level, "--samples", "11", "--length", length,
      ]
      let page = folder + "/page.html"
      let one = try Tool.finish(Tool.process(options + ["--json", "--report", page]))
      #expect(one.status < 2 && one.output.contains("\"layers\""), "\(one.errors)")
      for part in 1...count {
        let own = ["-o", record, "--part", "\(part)", "--of", "\(count)", "--threads", "\(1 + part % 2)"]
        let done = try Tool.finish(Tool.process(options + own))
        #expect(done.status <= one.status, "\(done.errors)")
      }
      let parts = (1...count).reversed().map { "\(record).part-\($0)" }
      let merged = try Tool.finish(Tool.process(options + ["--json", "--report", page + "2", "--merge"] + parts))
      #expect(merged.status == one.status && merged.output == one.output, "\(merged.errors)")
      #expect(try contents(page + "2") == contents(page))

      func refused(_ rule: String, _ arguments: [String]) throws {
        let outcome = try Tool.finish(Tool.process(arguments))
        #expect(outcome.status == 1 && outcome.errors.contains("[\(rule)]"), "\(outcome.errors)")
      }
      // Of other text, of another level.
      try refused("merge-other-plan", options + ["--seed", "7", "--merge"] + parts)
      try refused("merge-other-plan", ["verify", packed, "--reference", model, "--merge"] + parts)
      // Without what was seen, and with another's.
      let part = try #require(
        try JSONValue.parse(
          String(contentsOfFile: parts[0], encoding: .utf8), limits: .init(byteCount: 1 << 28, depth: 32)
        ).object)
      for run in [JSONValue.null, .object(["batches": .array([]), "sites": .object([:])])] {
        var changed = part
        changed["run"] = run
        try JSONValue.object(changed).text().write(toFile: record + ".changed", atomically: true, encoding: .utf8)
        try refused("verify-part", options + ["--merge", record + ".changed"] + parts.dropFirst())
      }
    }
  }

  /// Experts see some of the tokens, of a short sequence none: a page is made all the same, and parts agree with it.
  @Test func aPageOfExperts() throws {
    try withTemporaryFolder { folder in
      let (model, ids) = (Fixtures.path("models/families/qwen3moe"), folder + "/ids.safetensors")
      let shape = try #require(Shape([40, 30]))
      var writer = try SafetensorsWriter(
        path: ids, entries: [.init(name: "input_ids", elementType: .i64, shape: shape)])
      let tokens = (0..<Int64(1200)).map { ($0 * 7 + $0 / 30) % 60 }
      try tokens.withUnsafeBytes { try writer.append($0) }
      try writer.commit()
      #expect(try Tool.run(model, folder + "/m.otq", "--no-calibration", "--quiet").status == 0)
      let options = [
        "verify", folder + "/m.otq", "--reference", model, "--level", "layers", "--ids", ids, "--samples", "40",
      ]
      let one = try Tool.finish(Tool.process(options + ["--json", "--report", folder + "/a.html"]))
      #expect(one.status < 2 && one.output.contains("\"layers\""), "\(one.errors)")
      for part in ["1", "2"] {
        _ = try Tool.finish(Tool.process(options + ["-o", folder + "/v", "--part", part, "--of", "2"]))
      }
      let merge = ["--json", "--report", folder + "/b.html", "--merge", folder + "/v.part-1", folder + "/v.part-2"]
      let merged = try Tool.finish(Tool.process(options + merge))
      #expect(merged.status == one.status && merged.output == one.output, "\(merged.errors)")
      #expect(try contents(folder + "/a.html") == contents(folder + "/b.html"))
    }
  }

  @Test func textIsTheSampleUnlessNamed() throws {
    try withPackedModel { folder, packed in
      try String(repeating: "In the beginning was the Word. ", count: 60)
        .write(toFile: folder + "/t.txt", atomically: true, encoding: .utf8)
      let options = ["verify", packed, "--reference", folder, "--level", "layers", "--samples", "2", "--length", "32"]
      for (more, name) in [([], "sample.jsonl of otq"), (["--text", folder + "/t.txt"], "t.txt")] {
        let outcome = try Tool.finish(Tool.process(options + more + ["--json"]))
        #expect(outcome.status == 0, "\(outcome.errors)")
        let json = try JSONValue.parse(outcome.output, limits: .init(byteCount: 1 << 26, depth: 32))
        #expect(json["text"]?["source"]?.string == name)
        #expect(json["text"]?["tokenCount"]?.integer == 64)
        #expect(json["model"] == nil)
      }
    }
  }

  /// The sign of the weights of one linear is turned in the source.
  @Test func aBrokenLayerIsNamed() throws {
    try withPackedModel("--bits", "6", "--activation-bits", "6") { folder, packed in
      let name = "model.decoder.layers.1.fc2"
      var file = try contents(folder + "/model.safetensors")
      let range = try range(of: name + ".weight", in: file)
      // The high byte of each float16.
      for byte in stride(from: range.lowerBound + 1, to: range.upperBound, by: 2) { file[byte] ^= 0x80 }
      try file.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      let junit = folder + "/j.xml"
      let outcome = try Tool.run(
        "verify", packed, "--reference", folder, "--level", "layers", "--ids", Self.ids, "--quiet", "--junit", junit)
      #expect(outcome.status == 1)
      #expect(outcome.errorLines.count == 1)
      #expect(outcome.errors.contains("layer '\(name)', the first to be off: relative error"), "\(outcome.errors)")
      #expect(outcome.errors.contains("'\(name).weight'"))
      let text = try String(contentsOfFile: junit, encoding: .utf8)
      #expect(text.contains("name=\"\(name)\">") && text.contains("<failure"))
    }
  }

  /// The bytes of a tensor's data in a safetensors file.
  private func range(of tensor: String, in file: Data) throws -> Range<Int> {
    let length = file.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSONValue.parse(String(decoding: file[8..<8 + length], as: UTF8.self))
    let offsets = (header[tensor]?["data_offsets"]?.array ?? []).compactMap(\.integer)
    return 8 + length + offsets[0]..<8 + length + offsets[1]
  }

  @Test func aTightToleranceNamesItsFigure() throws {
    try withPackedModel("--bits", "6", "--activation-bits", "6") { folder, packed in
      try "{\"model\": {\"minimumTop1Agreement\": {\"w6a6-static\": 1}}}"
        .write(toFile: folder + "/t.json", atomically: true, encoding: .utf8)
      let outcome = try Tool.run(
        "verify", packed, "--reference", folder, "--level", "model", "--ids", Self.ids, "--quiet", "--tolerance",
        folder + "/t.json")
      #expect(outcome.status == 1 && outcome.errors.contains("top-1 agreement is 0.9"), "\(outcome.errors)")
    }
  }

  @Test(arguments: [
    ["--level", "layers"], ["--report", "r.html"], ["--junit", "j.xml"], ["--reference", "m", "--ids", "i"],
    ["--reference", "m", "--level", "layers", "--ids", "i", "--text", "t"],
    ["--reference", "m", "--level", "layers", "--samples", "0"], ["--reference", "m", "--level", "deep"],
  ])
  func wrongUsage(arguments: [String]) throws {
    #expect(try Tool.finish(Tool.process(["verify", "m.otq"] + arguments)).status == 64)
  }

  @Test func reportsAreWholeOrNotThere() throws {
    try withPackedModel("--bits", "8") { folder, packed in
      let report = folder + "/r.html"
      func verify(_ more: String...) throws -> Tool.Outcome {
        try Tool.finish(Tool.process(["verify", packed, "--reference", folder, "--quiet"] + more))
      }
      #expect(try verify("--report", report).status == 0)
      let before = try contents(report)
      #expect(before.suffix(8) == Data("</html>\n".utf8))
      var outcome = try verify("--report", report)
      #expect(outcome.status == 1 && outcome.errors.contains("output-exists"))
      #expect(try verify("--report", report, "--force").status == 0)
      // The same files give the same bytes.
      #expect(try contents(report) == before)
      for path in [packed, folder + "/model.safetensors"] {
        let bytes = try contents(path)
        outcome = try verify("--report", path, "--force")
        #expect(outcome.status == 1 && outcome.errors.contains("output-is-input"), "\(outcome.errors)")
        outcome = try verify("--junit", path, "--force")
        #expect(outcome.status == 1 && outcome.errors.contains("output-is-input"), "\(outcome.errors)")
        #expect(try contents(path) == bytes)
      }
      // What cannot be run leaves nothing behind.
      let other = folder + "/other.html"
      outcome = try verify("--report", other, "--level", "layers", "--ids", folder + "/missing.safetensors")
      #expect(outcome.status == 1 && !FileManager.default.fileExists(atPath: other))
      let left = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".partial") }
      #expect(left.isEmpty)
    }
  }

  /// The look of the page: its colours, light and dark, and no wider than its window.
  @Test func theReportInABrowser() throws {
    guard let browser = Browser() else {
      print("the report is not looked at: no Chromium is installed (scripts/bootstrap tests)")
      return
    }
    try withPackedModel("--bits", "6", "--activation-bits", "6") { folder, packed in
      let page = folder + "/r.html"
      let outcome = try Tool.run(
        "verify", packed, "--reference", folder, "--level", "model", "--ids", Self.ids, "--quiet", "--report", page)
      #expect(outcome.status == 0, "\(outcome.errors)")
      // Page, card and the first series of the style sheet.
      for (isDark, colours) in [(false, [0xF6F7F9, 0xFFFFFF, 0x2A66C4]), (true, [0x12151A, 0x1A1F26, 0x79ACFF])] {
        let picture = try browser.screenshot(of: page, width: 1280, height: 2400, isDark: isDark, in: folder)
        #expect(picture.width == 1280 && picture.height == 2400)
        let area = picture.width * picture.height
        let counts = colours.map { picture.counts[UInt32($0)] ?? 0 }
        #expect(counts[0] > area / 5 && counts[1] > area / 5 && counts[2] > 100, "dark \(isDark): \(counts)")
      }
      for width in [360, 768, 1280] {
        #expect(try browser.layoutWidth(of: page, in: width, folder: folder) <= width)
      }
    }
  }

  /// A report of failures shows more, and all of it can be seen.
  @Test func aFailedReportInANarrowWindow() throws {
    guard let browser = Browser() else { return }
    try withPackedModel("--bits", "6", "--activation-bits", "6") { folder, packed in
      try "{\"layers\": {\"maximumRelativeError\": {\"w6a6-static\": 0.0001}}}"
        .write(toFile: folder + "/t.json", atomically: true, encoding: .utf8)
      let page = folder + "/r.html"
      let outcome = try Tool.run(
        "verify", packed, "--reference", folder, "--level", "layers", "--ids", Self.ids, "--quiet", "--tolerance",
        folder + "/t.json", "--report", page)
      #expect(outcome.status == 1, "\(outcome.errors)")
      #expect(try String(contentsOfFile: page, encoding: .utf8).contains(">failed<"))
      for width in [700, 800, 1100] {
        #expect(try browser.layoutWidth(of: page, in: width, folder: folder) <= width)
        // Beyond the boxes that hold the tables: nothing of a verdict, and of a table only in a narrow window.
        let hidden =
          "Math.max(...[...d.querySelectorAll('.bad, .ok')].filter(e => e.closest('.scroll'))"
          + ".map(e => e.getBoundingClientRect().right - e.closest('.scroll').getBoundingClientRect().right))"
        #expect(try browser.measure(hidden, of: page, in: width, folder: folder) <= 0)
        let wide = "Math.max(...[...d.querySelectorAll('#layers .scroll')].map(e => e.scrollWidth - e.clientWidth))"
        if width >= 800 { #expect(try browser.measure(wide, of: page, in: width, folder: folder) <= 0) }
      }
    }
  }
}
