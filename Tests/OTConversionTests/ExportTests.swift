import Foundation
import OTCheckpoint
import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import OTTensor
import Testing
import _OTModelSupport
import _OTTestSupport

@Suite struct ExportTests {
  private func output(_ path: String, force: Bool = false) -> ExportOutput {
    var output = ExportOutput(path: path, force: force)
    output.elementType = .f32
    return output
  }

  private func logits(_ source: SourceModel) throws -> [Float] {
    let executor = try FloatExecutor(graph: source.graph(), parameters: source.parameters, threadCount: 2)
    return try executor.run(tokenIDs: (0..<48).map { 5 + $0 * 37 % 2000 }).output("logits").values
  }

  private func plan(_ fixture: Fixture, _ method: FixtureMethod) throws -> ConversionPlan {
    try ConversionPlan(
      checkpoint: fixture.checkpoint(), options: ConversionOptions(), statistics: fixture.statistics(method))
  }

  /// The float function is the source's, though the norms and weights are not.
  @Test(arguments: [
    (Fixture.opt, FixtureMethod.outlierTune), (.bloom, .outlierTune), (.llama, .outlierTuneWithoutSymmetrization),
  ])
  func transformedModelsComputeTheSame(fixture: Fixture, method: FixtureMethod) throws {
    try withTemporaryFolder { folder in
      var target = output(folder + "/out")
      target.shardByteCount = 500_000
      try Converter(plan(fixture, method)).run(into: SafetensorsExport(target))
      let exported = try SourceModel(path: folder + "/out")
      let source = try fixture.source()
      let isChanged = source.checkpoint.tensors.contains { view in
        exported.checkpoint[view.name].map { other in
          view.elementType == .f32
            && view.withRowBytes(0..<1) { a in other.withRowBytes(0..<1) { !a.elementsEqual($0) } }
        } ?? false
      }
      let error = relativeError(try logits(exported), try logits(source))
      #expect(error < 1e-5, "\(error)")
      #expect(isChanged || source.checkpoint.tensors.allSatisfy { $0.elementType != .f32 })
      #expect(exported.checkpoint.files.count > 1)
      #expect(Set(exported.checkpoint.tensors.map(\.name)) == Set(source.checkpoint.tensors.map(\.name)))
    }
  }

  /// Restored, an export is what `unpack` writes.
  @Test func restoredFilesAreUnpacked() throws {
    try withTemporaryFolder { folder in
      let file = try Fixture.llama.packed(.outlierTune)
      let export = PackedExport(file, isRestored: true, threadCount: 2)
      try export.run(into: SafetensorsExport(ExportOutput(path: folder + "/out")))
      try export.run(into: SafetensorsFileWriter(ExportOutput(path: folder + "/u.safetensors")))
      #expect(
        try Data(contentsOf: URL(fileURLWithPath: folder + "/out/model.safetensors"))
          == Data(contentsOf: URL(fileURLWithPath: folder + "/u.safetensors")))
      #expect(
        FileManager.default.contentsEqual(
          atPath: folder + "/out/config.json", andPath: Fixture.llama.path("config.json")))
    }
  }

  /// What the format cannot hold is refused, and nothing is written.
  @Test func whatHasNoPlaceIsRefused() throws {
    try withTemporaryFolder { folder in
      let writer = SafetensorsExport(output(folder + "/out"))
      let bias = #expect(throws: Refusal.self) { try Converter(plan(.llama, .outlierTune)).run(into: writer) }
      #expect(bias?.rule == "export-bias" && bias?.remedy?.contains("--no-symmetrization") == true)
      func rule(of transform: SiteTransform, at index: Int) throws -> String? {
        let graph = try Fixture.bert.graph()
        let migrated = try graph.migrating(graph.sites[index], by: transform)
        let model = ExportedModel(path: "model", graph: migrated, tensors: [], files: [])
        let refusal = #expect(throws: Refusal.self) { try writer.accept(model) }
        #expect(refusal?.remedy?.contains("--") == true)
        return refusal?.rule
      }
      // A residual's value cannot take a transform: BERT's norms feed the sums behind them.
      let size = try Fixture.bert.graph().sites[0].size
      #expect(try rule(of: SiteTransform(scale: [Float](repeating: 2, count: size)), at: 0) == "export-affine")
      let written = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(written.isEmpty)
    }
  }

  @Test func foldersOfOthersAreKept() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/out"
      func export(force: Bool) throws {
        try PackedExport(Fixture.opt.packed(.perToken), isRestored: true).run(
          into: SafetensorsExport(output(path, force: force)))
      }
      try export(force: false)
      let files = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
      let existing = #expect(throws: Refusal.self) { try export(force: false) }
      #expect(existing?.rule == "output-exists")
      try export(force: true)
      #expect(try FileManager.default.contentsOfDirectory(atPath: path).sorted() == files)
      // Whatever its record says, nothing outside a folder goes with it.
      let record = path + "/otq-export.json"
      try Data("mine".utf8).write(to: URL(fileURLWithPath: folder + "/beside.txt"))
      let text = try String(contentsOfFile: record, encoding: .utf8)
      let hostile = text.replacing("\"files\": [", with: "\"files\": [\"../beside.txt\", \"\(folder)/beside.txt\",")
      #expect(hostile != text)
      try Data(hostile.utf8).write(to: URL(fileURLWithPath: record))
      try export(force: true)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["beside.txt", "out"])
      try FileManager.default.removeItem(atPath: folder + "/beside.txt")
      try Data("mine".utf8).write(to: URL(fileURLWithPath: path + "/notes.txt"))
      let mixed = #expect(throws: Refusal.self) { try export(force: true) }
      #expect(mixed?.rule == "output-not-ours")
      #expect(try FileManager.default.contentsOfDirectory(atPath: path).sorted() == (files + ["notes.txt"]).sorted())
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["out"])
      let foreign = output(folder + "/opt", force: true)
      try FileManager.default.copyItem(atPath: Fixture.opt.folder, toPath: folder + "/opt")
      let refusal = #expect(throws: Refusal.self) {
        try PackedExport(Fixture.opt.packed(.perToken), isRestored: true).run(into: SafetensorsExport(foreign))
      }
      #expect(refusal?.rule == "output-not-ours")
    }
  }
}
