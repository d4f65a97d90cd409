import Foundation
import OTJSON
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
