import Foundation
import OTJSON
import Testing
import _OTTestSupport

/// `export` as a user gives it, for each format.
@Suite struct ExportCommandTests {
  private func model(_ name: String) -> String { Fixtures.path("models/\(name)-mini") }

  /// Scales that are folded into norms and rows leave the function as it is, also where parts of one linear have
  /// different ones.
  @Test(arguments: [("llama", "gguf"), ("bloom", "gguf"), ("llama", "safetensors"), ("bloom", "safetensors")])
  func foldedScalesComputeTheSame(_ name: String, _ format: String) throws {
    try withTemporaryFolder { folder in
      let output = folder + (format == "gguf" ? "/m.gguf" : "/m")
      let exported = try Tool.run(
        "export", model(name), output, "--to", format, "--dtype", "f32", "--method", "smoothquant", "--samples", "4",
        "--length", "64", "--json")
      #expect(exported.status == 0, "\(exported.errors)")
      let result = try JSONValue.parse(exported.output)
      #expect(result["format"]?.string == format)
      #expect(result[format == "gguf" ? "file" : "folder"]?.string == output)
      let again = try Tool.run("export", model(name), output, "--to", format, "--weights-only")
      #expect(again.status == 1 && again.errors.contains("[output-exists]"), "\(again.errors)")
      let compared = try Tool.run(
        "eval", output, "--ids", model(name) + "/goldens.safetensors", "--against", model(name), "--json")
      #expect(compared.status == 0, "\(compared.errors)")
      let divergence = try #require(try JSONValue.parse(compared.output)["against"]?["klMean"]?.double)
      #expect(abs(divergence) < 1e-8, "\(divergence)")
    }
  }

  @Test func planTellsWhatFormatsHold() throws {
    func exports(_ name: String, _ options: String...) throws -> [String: JSONValue] {
      let outcome = try Tool.finish(Tool.process(["plan", model(name), "--json"] + options))
      #expect(outcome.status == 0, "\(outcome.errors)")
      let list = try #require(try JSONValue.parse(outcome.output)["exports"]?.array)
      return Dictionary(list.map { ($0["format"]?.string ?? "", $0) }, uniquingKeysWith: { first, _ in first })
    }
    let llama = try exports("llama")
    #expect(llama.count == 5 && llama.values.allSatisfy { $0["can"]?.bool == true })
    // Biases that shifts add have no place at LLaMA's norms.
    #expect(llama["gguf"]?["notes"]?.array?.first?.string?.contains("--no-symmetrization") == true)
    let opt = try exports("opt", "--weights-only")
    #expect(opt["compressed-tensors"]?["can"]?.bool == true)
    #expect(opt["mlx"]?["can"]?.bool == false && opt["mlx"]?["rule"]?.string == "export-model-type")
    #expect(opt["gguf"]?["remedy"]?.string != nil)
    #expect(try Tool.run("plan", model("opt"), "--weights-only").output.contains("cannot: models of the type 'opt'"))
  }

  /// With the decisions of an earlier conversion, values that these do not name are as `export` has them, not symmetric.
  @Test func planWithARecipeTellsWhatExportDoes() throws {
    try withTemporaryFolder { folder in
      let recipe = folder + "/recipe.json"
      let kept = try Tool.run(
        "convert", model("llama"), folder + "/m.otq", "--method", "per-token", "--weight-scheme", "symmetric",
        "--save-recipe", recipe)
      #expect(kept.status == 0, "\(kept.errors)")
      let plan = try Tool.run("plan", model("llama"), "--recipe", recipe, "--json")
      let list = try #require(try JSONValue.parse(plan.output)["exports"]?.array)
      let told = try #require(list.first { $0["format"]?.string == "ctranslate2" })
      let done = try Tool.run("export", model("llama"), folder + "/m", "--to", "ctranslate2", "--recipe", recipe)
      #expect(done.status == 0, "\(done.errors)")
      // The tables and the head have zero points.
      let note = try #require(told["notes"]?.array?.compactMap(\.string).first { $0.contains("do not fit") })
      #expect(done.errors.contains(note), "\(done.errors)")
    }
  }

  /// The help has a line for each format of the list of writers.
  @Test func helpListsTheFormats() throws {
    let help = try Tool.run("export", "--help").output
    for format in ["safetensors", "compressed-tensors", "gguf", "mlx", "ctranslate2"] {
      #expect(help.contains("\n  \(format) "), "\(format)")
    }
    #expect(help.split(separator: "\n").allSatisfy { $0.count < 80 })
  }

  @Test func wrongUsage() throws {
    for options in [
      ["--to", "gguf", "--shard-size", "1"], ["--to", "mlx", "--restored"], ["--to", "gguf", "--effort", "fast"],
      ["--to", "onnx"],
    ] {
      #expect(try Tool.finish(Tool.process(["export", model("llama"), "x"] + options)).status == 64, "\(options)")
    }
  }
}
