import Foundation
import OTCheckpoint
import OTKernels
import OTModel
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

/// `--save-recipe` and `--recipe`.
@Suite struct RecipeTests {
  private static let llama = Fixtures.path("models/llama-mini")

  private func run(_ arguments: String...) throws -> Tool.Outcome {
    try Tool.finish(Tool.process(arguments + ["--quiet", "--samples", "4", "--length", "64"]))
  }

  private func tensors(_ path: String) throws -> [String: [UInt8]] {
    let file = try PackedModel(path: path).container
    return try file.tensors.reduce(into: [:]) { result, tensor in
      guard tensor.scheme != nil else {
        result[tensor.name] = try file.values(of: tensor)
        return
      }
      let layout = TileLayout(rowCount: tensor.shape.rowCount, columnCount: tensor.shape.rowElementCount)
      result[tensor.name] = try file.codes(of: tensor, rowTiles: 0..<layout.rowTileCount)
      result[tensor.name + ".scales"] = try file.scales(of: tensor).withUnsafeBytes { Array($0) }
    }
  }

  /// The same decisions give the same file, but for the record of the method.
  @Test(arguments: [
    ["--effort", "thorough"], ["--budget", "5bpw"], ["--method", "smoothquant", "--method", "hadamard"],
    ["--method", "llmint8,threshold=2"], ["--method", "quarot", "--method", "best", "--activations", "group:32"],
  ])
  func theSameDecisionsGiveTheSameTensors(_ options: [String]) throws {
    try withTemporaryFolder { folder in
      let (first, second, recipe) = (folder + "/a.otq", folder + "/b.otq", folder + "/r.safetensors")
      let bits = options.contains("--budget") ? [] : ["--bits", "6"]
      let saved = try Tool.finish(
        Tool.process(
          [Self.llama, first, "--save-recipe", recipe, "--quiet", "--samples", "4", "--length", "64"] + bits + options))
      #expect(saved.status == 0, "\(saved.errors)")
      let used = try run(Self.llama, second, "--recipe", recipe)
      #expect(used.status == 0 && used.errors.isEmpty, "\(used.errors)")
      let (a, b) = (try PackedModel(path: first), try PackedModel(path: second))
      #expect(a.container.metadata["graph"] == b.container.metadata["graph"])
      let all = (try tensors(first), try tensors(second))
      #expect(all.0 == all.1)
      #expect(b.container.metadata["method"]?["name"]?.string == "recipe")
      #expect(b.container.metadata["method"]?["of"] == a.container.metadata["method"])
      #expect(try Tool.run("verify", second, "--reference", Self.llama, "--level", "weights").status == 0)
    }
  }

  @Test func excludedLayersStayFloat() throws {
    try withTemporaryFolder { folder in
      let (first, second, recipe) = (folder + "/a.otq", folder + "/b.otq", folder + "/r.safetensors")
      #expect(
        try run(Self.llama, first, "--save-recipe", recipe, "--effort", "fast", "--exclude", "layers.1.mlp").status == 0
      )
      #expect(try run(Self.llama, second, "--recipe", recipe).status == 0)
      let all = (try tensors(first), try tensors(second))
      #expect(all.0 == all.1)
    }
  }

  @Test func otherModelsAreRefused() throws {
    try withTemporaryFolder { folder in
      let recipe = folder + "/r.safetensors"
      #expect(try run(Self.llama, folder + "/a.otq", "--save-recipe", recipe, "--effort", "fast").status == 0)
      let family = try run(Fixtures.path("models/opt-mini"), folder + "/b.otq", "--recipe", recipe)
      #expect(family.status == 1 && family.errors.contains("[recipe-other-model]"), "\(family.errors)")
      // The same shapes, one weight another.
      let other = folder + "/other"
      try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
      for name in ["config.json", "tokenizer.json"] {
        try FileManager.default.copyItem(atPath: "\(Self.llama)/\(name)", toPath: "\(other)/\(name)")
      }
      var bytes = try Data(contentsOf: URL(fileURLWithPath: "\(Self.llama)/model.safetensors"))
      bytes[bytes.count - 3] ^= 1
      try bytes.write(to: URL(fileURLWithPath: "\(other)/model.safetensors"))
      let changed = try run(other, folder + "/b.otq", "--recipe", recipe)
      #expect(
        changed.status == 1 && changed.errors.contains("SHA-256 differ [recipe-other-model]"), "\(changed.errors)")
      #expect(!FileManager.default.fileExists(atPath: folder + "/b.otq"))
    }
  }

  /// Every value of the metadata is damaged in turn.
  @Test func damagedFilesAreRefused() throws {
    try withTemporaryFolder { folder in
      let recipe = folder + "/r.safetensors"
      #expect(
        try run(Self.llama, folder + "/a.otq", "--save-recipe", recipe, "--bits", "6", "--method", "smoothquant").status
          == 0)
      let text = try Data(contentsOf: URL(fileURLWithPath: recipe))
      for (old, new, rule) in [
        ("otq-recipe", "otq-Recipe", "recipe-format"), ("\"version\":\"1\"", "\"version\":\"2\"", "recipe-version"),
        ("\\\"bits\\\":6,", "\\\"bits\\\":9,", "recipe-damaged"), ("granularity", "granularitY", "recipe-damaged"),
        ("dynamic", "dynamiC", "graph"), ("nearest", "nearesT", "rounding-unknown"),
        (".scale", ".scalE", "recipe-damaged"),
      ] {
        var bytes = text
        let range = try #require(bytes.range(of: Data(old.utf8)), "\(old)")
        bytes.replaceSubrange(range, with: Data(new.utf8))
        try bytes.write(to: URL(fileURLWithPath: folder + "/d.safetensors"))
        let outcome = try run(Self.llama, folder + "/b.otq", "--recipe", folder + "/d.safetensors")
        #expect(outcome.status == 1 && outcome.errors.contains("[\(rule)"), "\(old): \(outcome.errors)")
      }
      let statistics = try run(Self.llama, folder + "/b.otq", "--recipe", Self.llama + "/model.safetensors")
      #expect(statistics.errors.contains("[recipe-format]"))
    }
  }

  @Test func wrongUsage() throws {
    for options in [
      ["--bits", "6"], ["--method", "best"], ["--effort", "fast"], ["--statistics", "s"], ["--exclude", "a"],
    ] {
      #expect(try Tool.finish(Tool.process([Self.llama, "x", "--recipe", "r"] + options)).status == 64, "\(options)")
    }
    #expect(try Tool.run(Self.llama, "x.otq", "--recipe", "none").status == 1)
  }
}
