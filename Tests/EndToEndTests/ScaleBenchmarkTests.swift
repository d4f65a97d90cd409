import Foundation
import OTJSON
import Testing
import _OTTestSupport

/// `otbench scale`: what it prints follows from the points that it measured.
@Suite struct ScaleBenchmarkTests {
  @Test func exponentsAreThoseOfThePoints() throws {
    try withTemporaryFolder { folder in
      let process = Tool.process([
        "scale", "--weights", "1000000", "--weights", "2000000", "--middle", "1000000", "--lengths", "16", "--lengths",
        "64", "--threads", "1", "--threads", "2", "--runs", "1", "--json", "-o", folder + "/plots",
      ])
      process.executableURL = Tool.folder.appendingPathComponent("otbench")
      let outcome = try Tool.finish(process)
      #expect(outcome.status == 0, "\(outcome.errors)")
      let growths = try #require(JSONValue.parse(outcome.output)["growths"]?.array)
      #expect(growths.map { $0["over"]?.string } == ["weights", "length", "threads"])
      for growth in growths {
        let works = try #require(growth["works"]?.array)
        #expect(works.count == (growth["over"]?.string == "length" ? 2 : 4))
        for work in works {
          let points = try #require(work["points"]?.array?.map { $0.array?.compactMap(\.double) ?? [] })
          try #require(points.count == 2 && points.allSatisfy { $0.count == 2 && $0[1] > 0 })
          // Of two points it is the slope between them.
          let slope = log(points[1][1] / points[0][1]) / log(points[1][0] / points[0][0])
          #expect(abs(try #require(work["exponent"]?.double) - slope) < 1e-6)
        }
        let path = try "\(folder)/plots/\(#require(growth["over"]?.string)).svg"
        let svg = try String(contentsOfFile: path, encoding: .utf8)
        #expect(svg.components(separatedBy: "<circle").count - 1 == works.count * 2)
        #expect(svg.hasSuffix("</svg>\n") && !svg.contains("nan"))
      }
    }
  }
}
