import OTJSON
import Testing

/// That `otbench kernels` measures what it says; how fast is not a test's business.
@Suite struct KernelBenchmarkTests {
  static func run(_ arguments: [String]) throws -> Tool.Outcome {
    let process = Tool.process(["kernels"] + arguments)
    process.executableURL = Tool.folder.appendingPathComponent("otbench")
    return try Tool.finish(process)
  }

  @Test func json() throws {
    let outcome = try Self.run([
      "--quick", "--json", "--threads", "1", "--shapes", "576x576", "--rows", "1", "--rows", "9", "--bits", "6",
    ])
    #expect(outcome.status == 0, "\(outcome.errors)")
    let report = try JSONValue.parse(outcome.output)
    let products = try #require(report["products"]?.array)
    #expect(products.count { $0["type"]?.string == "int6" } == 2)
    #expect(products.count { $0["type"]?.string == "float32" } == 2)
    for product in products {
      let rows = try #require(product["rows"]?.integer)
      let seconds = try #require(product["seconds"]?["median"]?.double)
      let operations = try #require(product["operationsPerSecond"]?["median"]?.double)
      #expect(seconds > 0)
      #expect(abs(operations * seconds / Double(2 * 576 * 576 * rows) - 1) < 1e-3)
    }
    let bandwidth = try #require(report["peaks"]?["bytesReadPerSecond"]?["median"]?.double)
    #expect(bandwidth > 0)
  }

  @Test(arguments: [["--rows", "0"], ["--bits", "9"], ["--shapes", "GPT"], ["--threads", "0"], ["--runs", "0"]])
  func wrongUsageIs64(arguments: [String]) throws {
    #expect(try Self.run(arguments).status == 64)
  }
}
