import Foundation
import OTGraph
import OTModel
import OTObservation
import OTVerify
import Testing
import _OTTestSupport

/// Names that mean something in HTML, XML, CSS or to a terminal.
private let hostileNames = [
  "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "a & b &amp; c", "'; --", "]]>", "</style><b>",
  "tab\tnewline\nnul\0end", "\u{1B}[31mred", "\u{202E}backwards", "\u{FFFE}\u{FFFF}", "emoji 😀 e\u{301}", "",
  String(repeating: "long.", count: 400),
]

@Suite struct ReportTests {
  /// A site that a norm of this name gives.
  private func site(_ name: String, size: Int) throws -> Site {
    let graph = try Graph(
      family: "opt",
      nodes: [
        Node("ids", .tokenIDs),
        Node("table", .embedding(Embedding(table: "t", rowCount: 9, size: size)), inputs: ["ids"]),
        Node(name, .layerNorm(Norm(gamma: nil, beta: nil, epsilon: 0, size: size)), inputs: ["table"]),
        Node(
          name + ".reader",
          .linear(Linear(weight: "w", bias: nil, inFeatures: size, outFeatures: 1, role: .block)), inputs: [name]),
      ], outputs: ["hidden": name + ".reader"])
    return try #require(graph.site(producedBy: name))
  }

  /// A report all of whose texts are hostile.
  private func report(failing: Bool = true, named names: [String] = hostileNames) throws -> VerificationReport {
    let faults = failing ? ["is wrong by <b>5</b> & more"] : []
    let findings = names.enumerated().map { index, name in
      TensorFinding(
        name: name, storage: "alias of \(name)", sqnrDecibels: index % 2 == 0 ? 20 : nil,
        maximumError: index == 3 ? .nan : 0.25, faults: index == 1 ? faults : [],
        codeCounts: index % 2 == 0 ? [1, 0, 5, 900] : [])
    }
    var error = OutputError(channelCount: 3)
    try [Float(1), 2, 3].withUnsafeBufferPointer { reference in
      try [Float(1), 2, 3.5].withUnsafeBufferPointer { try error.add(model: $0, reference: reference) }
    }
    var broken = OutputError(channelCount: 1)
    try [Float(1)].withUnsafeBufferPointer { reference in
      try [Float.nan].withUnsafeBufferPointer { try broken.add(model: $0, reference: reference) }
    }
    let layers = names.enumerated().map { index, name in
      var layer = LayerFinding(
        name: "x.\(index).\(name)", kind: index % 3 == 2 ? .attention : .linear, scheme: name,
        error: index == 4 ? broken : error, faults: index == 0 ? faults : [])
      if index % 2 == 0 { (layer.weightBits, layer.activationBits, layer.site) = (6, 8, "h.\(index).\(name)") }
      return layer
    }
    var histogram = ValueHistogram()
    [Float(1), -2, .infinity].withUnsafeBufferPointer { histogram.add($0) }
    // Graphs refuse unprintable names themselves.
    let usable = names.enumerated().compactMap { try? site("h.\($0).\($1)", size: 2) }
    #expect(usable.count > names.count / 2)
    let sites = usable.map { site in
      var finding = SiteFinding(
        site: site, quantization: .static(bits: 6),
        transform: ChannelTransform(shift: [1, 2], scale: [0.5, 0.25]),
        sourceRanges: ChannelRanges(minima: [-1, 0], maxima: [5, 90]), sourceHistogram: histogram,
        packedRanges: ChannelRanges(channelCount: 2), packedHistogram: ValueHistogram(), clippedCount: 1, valueCount: 9)
      finding.errors = SiteErrors(activation: 0.25, weight: .nan, output: 0.125, untransformedOutput: 0.5)
      return finding
    }
    let model = ModelFinding(
      perplexity: .init(packed: 10, source: 9, ratio: .infinity, standardError: 0.1, tokenCount: 7),
      divergence: .init(mean: .nan, percentile99: 1, maximum: 2, top1Agreement: 0.5),
      similarities: [.init(output: names[0], mean: 0.9, minimum: -1)],
      faults: failing ? [("perplexity ratio", "is inf, 1.1 is allowed")] : [])
    return VerificationReport(
      path: "/tmp/\(names[0])",
      files: [
        FileRecord(name: names[0], byteCount: 5, sha256: "00"), FileRecord(name: names[1], byteCount: 0, sha256: "01"),
      ], facts: [(names[0], names[1])],
      weights: WeightVerification(findings: findings, notes: names),
      run: RunVerification(
        layers: layers, sites: sites, model: model, tokenCount: 1, sequenceCount: 1,
        scheme: ModelScheme(weightBits: 6, activationBits: 6, isStatic: true), tolerance: Tolerance()),
      text: .init(source: names[1], sequenceCount: 1, tokenCount: 1234567))
  }

  private func parsed(_ text: String) -> ParsedPage {
    let page = ParsedPage(text)
    #expect(page.fault == nil)
    return page
  }

  @Test func hostileNamesStayText() throws {
    let text = HTMLReport(try report()).text
    let page = parsed(text)
    for element in ["script", "img", "b", "link", "iframe", "object"] { #expect(page.elements[element] == nil) }
    #expect(page.elements["style"] == 1)
    #expect(page.attributes.isDisjoint(with: ["src", "onerror", "onload"]))
    // From the tables to the activations and back.
    #expect(!page.links.isEmpty && page.brokenLinks.isEmpty, "\(page.brokenLinks)")
    for name in ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</style><b>", "emoji 😀 e\u{301}"] {
      #expect(page.texts.contains { $0.contains(name) }, "\(name)")
    }
    #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" || $0.value == 0x202E || $0.value == 0xFFFE })
    #expect(text.contains("default-src 'none'") || text.contains("default-src &#39;none&#39;"))
    #expect(!text.contains("http://") && !text.contains("https://"))
  }

  /// The needs of a reader without eyes: captions, headings of columns, words for pictures.
  @Test func tablesAndPicturesHaveWords() throws {
    let page = parsed(HTMLReport(try report()).text)
    #expect(page.elements["caption"] == page.elements["table"] && page.elements["table"] != nil)
    #expect(page.elements["desc"] == page.elements["svg"])
    #expect((page.elements["title"] ?? 0) > (page.elements["svg"] ?? 0))
    #expect(page.elements["h1"] == 1 && page.elements["main"] == 1)
  }

  /// What a site loses alone, before the method and after it, and bits of each linear, stand in tables.
  @Test func sitesAndBitsHaveTables() throws {
    let page = parsed(HTMLReport(try report(named: ["plain", "other"])).text)
    for text in ["50.0 %", "12.5 %", "NaN %", "6 / 8"] { #expect(page.texts.contains(text), "\(text)") }
    #expect(page.links.contains("#site-0") && page.ids.contains("site-0"))
    let json = try #require(try report(named: ["plain", "other"]).json["sites"]?.array?.first?["errors"])
    #expect(json["untransformedOutput"]?.double == 0.5 && json["weight"] == .null)
  }

  @Test(arguments: [true, false]) func junit(failing: Bool) throws {
    let report = try report(failing: failing)
    let text = JUnitReport(report).text
    let file = parsed(text)
    let count = hostileNames.count
    #expect(file.elements["testsuite"] == 3)
    // Perplexity ratio, divergence, agreement, cosine.
    #expect(file.elements["testcase"] == count * 2 + 4)
    #expect(file.elements["failure"] == (failing ? 3 : nil))
    #expect(file.attributeValues.contains("\"><img src=x onerror=alert(1)>"))
    #expect(text.contains("tests=\"\(count * 2 + 4)\" failures=\"\(failing ? 3 : 0)\""))
    #expect(text.contains("a &amp; b &amp;amp; c"))
  }

  @Test func jsonHoldsWhatNumbersCannot() throws {
    // NUL cannot be in a name of JSON, but in values.
    let json = try report().json
    #expect(json["passed"]?.bool == false && json["level"]?.string == "model")
    #expect(json["model"]?["perplexityRatio"] == .null && json["model"]?["klMean"] == .null)
    #expect(json["layers"]?.array?.count == hostileNames.count)
    #expect(!json.text().isEmpty)
  }

  @Test func theFirstAndTheWorstAreNamed() throws {
    let faults = try report().faults
    #expect(faults.count == 3)
    #expect(faults[0].contains("onerror"))
    #expect(faults[1].contains("the first to be off"))
    #expect(faults[2].contains("perplexity ratio"))
  }

  /// A 30-layer model's page stays below 3 MB, whatever its width.
  @Test func pagesStaySmall() throws {
    var random = SeededGenerator(seed: 3)
    let names = (0..<30).flatMap { block in ["norm1", "attention", "norm2", "gated"].map { "m.layers.\(block).\($0)" } }
    let sites = try names.map { name in
      func ranges() -> ChannelRanges {
        ChannelRanges(
          minima: (0..<4096).map { _ in Float.random(in: -9...0, using: &random) },
          maxima: (0..<4096).map { _ in Float.random(in: 0...9, using: &random) })
      }
      var histogram = ValueHistogram()
      (0..<2000).map { _ in Float.random(in: -9...9, using: &random) }.withUnsafeBufferPointer { histogram.add($0) }
      return SiteFinding(
        site: try site(name, size: 4096),
        quantization: .static(bits: 8),
        transform: ChannelTransform(
          shift: [Float](repeating: 0, count: 4096), scale: [Float](repeating: 1, count: 4096)),
        sourceRanges: ranges(), sourceHistogram: histogram, packedRanges: ranges(), packedHistogram: histogram,
        clippedCount: 0, valueCount: 1)
    }
    let layers = (0..<30).flatMap { block in
      (0..<12).map {
        LayerFinding(
          name: "m.layers.\(block).part\($0)", kind: .linear, scheme: "int8 asym channel, static int8",
          error: OutputError(channelCount: 1), faults: [])
      }
    }
    let tensors = (0..<272).map {
      TensorFinding(
        name: "m.layers.\($0).weight", storage: "int8 asym channel", sqnrDecibels: 40, faults: [],
        codeCounts: (0..<256).map { _ in Int.random(in: 0...100_000, using: &random) })
    }
    let report = VerificationReport(
      path: "m", files: [FileRecord(name: "m", byteCount: 1, sha256: "00")], facts: [],
      weights: WeightVerification(findings: tensors, notes: []),
      run: RunVerification(
        layers: layers, sites: sites, model: nil, tokenCount: 1, sequenceCount: 1,
        scheme: ModelScheme(weightBits: 8, activationBits: 8, isStatic: true), tolerance: Tolerance()),
      text: nil)
    #expect(HTMLReport(report).text.utf8.count < 3_000_000)
  }
}
