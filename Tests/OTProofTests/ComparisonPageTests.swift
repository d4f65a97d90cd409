import OTConversion
import OTFoundation
import OTObservation
import OTProof
import OTQ
import OTVerify
import Testing
import _OTTestSupport

/// The page, Markdown and table of results.
@Suite struct ComparisonPageTests {
  private static let hostile = "<script>alert(1)</script> \"'& | \u{202E}"

  private static func figures(_ kl: Double, bytes: Int, sites: Bool = false) -> RowFigures {
    var figures = RowFigures()
    figures.byteCount = bytes
    figures.linearBitsPerWeight = Double(bytes) / 1e7
    figures.perplexity = 30 * (1 + kl)
    figures.perplexityRatio = 1 + kl
    figures.divergence = .init(mean: kl, percentile99: kl, maximum: kl, top1Agreement: 0.9)
    figures.tasks = [
      TaskFigures(
        name: hostile, figures: [.init(name: "accuracy", value: 0.5, standardError: 0.01)],
        answers: kl > 0.005 ? "0011" : "1100")
    ]
    if sites {
      figures.sites = (0..<12).map { index in
        let ranges = ChannelRanges(minima: [-1, -2, -Float(index)], maxima: [1, 2, 90])
        return SiteFigures(
          producer: "\(hostile) \(index)", consumers: [hostile], activationScheme: "static int8", weightScheme: "int8",
          ranges: ranges, shiftedRanges: ranges, scaledRanges: ranges, isShifted: true, isScaled: index % 2 == 0)
      }
    }
    return figures
  }

  private static func result(_ peers: [String] = ["Q6_K=6.5bpw,0.02"]) throws -> ComparisonRecord {
    let eight = try #require(ConversionSetting("w8a8")), six = try #require(ConversionSetting("w6a8"))
    var result = ComparisonRecord(
      source: figures(0, bytes: 250_000_000),
      entries: [
        (ComparisonRow(method: "best", setting: eight, group: "INT8*"), .measured(figures(0.002, bytes: 80_000_000))),
        (ComparisonRow(method: "best", setting: six), .measured(figures(0.01, bytes: 60_000_000, sites: true))),
        (ComparisonRow(method: "os", setting: six, label: hostile), .measured(figures(.nan, bytes: 61_000_000))),
        (ComparisonRow(method: "quarot", setting: six), .refused(Refusal("rotation-stream", hostile))),
        (ComparisonRow(method: "osplus", setting: six), .missing),
      ])
    result.facts = [("model", hostile), ("text", "5 tokens")]
    result.peers = peers.compactMap(Peer.init)
    return result
  }

  @Test func thePageIsWellFormedAndAlone() throws {
    for peers in [[], ["Q6_K=6.5bpw,0.02"], ["\(Self.hostile)=70MB,0.02"]] {
      let text = ComparisonPage(try Self.result(peers)).text
      let page = ParsedPage(text)
      #expect(page.fault == nil)
      for element in ["script", "img", "link", "iframe", "object"] { #expect(page.elements[element] == nil) }
      #expect(page.attributes.isDisjoint(with: ["src", "onerror", "onload"]))
      #expect(!page.links.isEmpty && page.brokenLinks.isEmpty, "\(page.brokenLinks)")
      #expect(!text.contains("http://") && !text.contains("https://") && !text.contains("url("))
      #expect(text.contains("prefers-color-scheme: dark"))
      #expect(page.elements["caption"] == page.elements["table"])
      #expect(page.elements["desc"] == page.elements["svg"] && (page.elements["svg"] ?? 0) > 8)
      // A point for each file with figures, the peer as a mark; NaN stands at the upper end.
      #expect(page.elements["circle"] == 3)
      #expect(page.texts.contains { $0.contains("<script>") })
    }
  }

  /// No two of many methods are drawn alike.
  @Test func seriesAreToldApart() throws {
    let setting = try #require(ConversionSetting("w6a8"))
    let result = ComparisonRecord(
      source: Self.figures(0, bytes: 250_000_000),
      entries: (0..<16).map { index in
        (
          ComparisonRow(method: "best", setting: setting, label: "method \(index)"),
          .measured(Self.figures(0.01, bytes: 60_000_000 + index))
        )
      })
    let text = ComparisonPage(result).text
    let keys = text.matches(of: /class="(key s[^"]*)"/).map { String($0.output.1) }
    #expect(keys.count == 16 && Set(keys).count == 16, "\(keys)")
  }

  /// What five places would show as nothing has its power of ten.
  @Test func smallDivergencesAreShown() throws {
    let setting = try #require(ConversionSetting("w8a8"))
    let result = ComparisonRecord(
      source: Self.figures(0, bytes: 250_000_000),
      entries: [4.7e-6, 0.002].map {
        (ComparisonRow(method: "best", setting: setting), .measured(Self.figures($0, bytes: 80_000_000)))
      })
    let markdown = ComparisonTable(result).markdown
    #expect(markdown.contains("| 4.7e-06 |") && markdown.contains("| 0.00200 |"))
  }

  @Test func sizesOfPeersDecideTheAxis() throws {
    func has(_ peer: String, _ text: String) throws -> Bool {
      ParsedPage(ComparisonPage(try Self.result([peer])).text).texts.contains(text)
    }
    #expect(try has("P=6.5bpw,0.02", "bits per weight of linears"))
    #expect(try has("P=65MB,0.02", "size of the file, MB"))
  }

  @Test func markdownHasARowForEach() throws {
    let markdown = ComparisonTable(try Self.result()).markdown
    let lines = markdown.split(separator: "\n")
    #expect(lines.filter { $0.hasPrefix("| ") }.count == 2 + 1 + 5)
    // A bar of a name ends no cell.
    let counts = Set(lines.filter { $0.hasPrefix("| ") }.map { $0.replacing("\\|", with: "").count { $0 == "|" } })
    #expect(counts.count == 1)
    #expect(markdown.contains("| INT8* | best | w8a8 | 30.060 | 1.0020 | 0.00200 | 90.0 % |"))
    #expect(markdown.contains("[rotation-stream]") && markdown.contains("not measured yet"))
    #expect(!markdown.contains("cosine"))
    // Two answers became right, two wrong; of NaN nothing is above 0.005.
    #expect(markdown.contains("0.5000 ± 0.0100 | +2 −2 |") && markdown.contains("| +0 −0 |"))
  }

  @Test func jsonHasTheOptionsOfEachRow() throws {
    let json = try Self.result().json
    let rows = try #require(json["rows"]?.array)
    #expect(rows.count == 5)
    let options = try #require(rows[1]["options"]?.array).compactMap { $0.string }
    #expect(options == ["--method", "best", "--bits", "6", "--activation-bits", "8"])
    #expect(rows[3]["refusal"]?["rule"]?.string == "rotation-stream")
    #expect(rows[2]["figures"]?["klMean"] == .null)
    #expect(json["peers"]?.array?.count == 1)
  }
}
