/// The result as an XML file that CI servers read: JUnit's.
///
/// A suite for each level that was verified, a case for each tensor, each layer
/// and each figure of the model; cases that failed say why.
package struct JUnitReport: Sendable {
  private let report: VerificationReport

  /// The result of `report`.
  package init(_ report: VerificationReport) { self.report = report }

  private struct Case {
    let name: String
    let faults: [String]
  }

  /// The whole file.
  package var text: String {
    var suites = [("weights", report.weights.findings.map { Case(name: $0.name, faults: $0.faults) })]
    if let run = report.run {
      suites.append(("layers", run.layers.map { Case(name: $0.name, faults: $0.faults) }))
      if let model = run.model { suites.append(("model", cases(of: model))) }
    }
    let total = suites.reduce(0) { $0 + $1.1.count }
    let failed = suites.reduce(0) { $0 + failureCount($1.1) }
    var lines = ["<?xml version=\"1.0\" encoding=\"UTF-8\"?>"]
    lines.append("<testsuites name=\"otconvert verify\" tests=\"\(total)\" failures=\"\(failed)\" errors=\"0\">")
    for (name, cases) in suites {
      lines.append(
        "  <testsuite name=\"\(name)\" tests=\"\(cases.count)\" failures=\"\(failureCount(cases))\" errors=\"0\">")
      lines += cases.flatMap { elements(of: $0, suite: name) }
      lines.append("  </testsuite>")
    }
    lines.append("</testsuites>")
    return lines.joined(separator: "\n") + "\n"
  }

  private func failureCount(_ cases: [Case]) -> Int { cases.count { !$0.faults.isEmpty } }

  private func elements(of test: Case, suite: String) -> [String] {
    let packed = Markup.escaped(report.name)
    let start = "    <testcase classname=\"\(packed).\(suite)\" name=\"\(Markup.escaped(test.name))\""
    guard let first = test.faults.first else { return [start + "/>"] }
    return [
      start + ">",
      "      <failure type=\"verify-failed\" message=\"\(Markup.escaped(first))\">"
        + "\(Markup.escaped(test.faults.joined(separator: "\n")))</failure>",
      "    </testcase>",
    ]
  }

  private func cases(of model: ModelFinding) -> [Case] {
    model.figures.map { figure in
      Case(
        name: figure.name,
        faults: model.faults.filter { $0.figure == figure.name }.map { "\($0.figure) \($0.message)" })
    }
  }
}
