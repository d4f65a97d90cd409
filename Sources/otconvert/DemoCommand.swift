import ArgumentParser
import Foundation
import OTConversion
import OTExport
import OTFoundation
import OTJSON
import OTModel
import OTObservation
import OTQ
import OTVerify

struct DemoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Convert a small OPT model at 6 bits with OutlierTune, verify it and print the tables.",
    discussion: "The model, trained on a public-domain text, comes with the program.")

  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func run() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("otconvert-demo-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let model = Bundle.module.bundleURL.appendingPathComponent("opt-mini").path
    let output = folder.appendingPathComponent("opt-mini.otq").path
    let restored = folder.appendingPathComponent("opt-mini-restored.safetensors").path

    var options = ConversionOptions()
    options.bits = 6
    options.threadCount = threads.threads
    let statistics = ForeignStatistics(
      scales: model + "/act_scales_sym.pt", symmetrizations: model + "/symmetrizations.pt", sampleCount: 32)
    try messages.print(
      """
      $ otconvert opt-mini/ opt-mini.otq --bits 6 --act-scales act_scales_sym.pt \\
          --symmetrization symmetrizations.pt --symmetrization-samples 32
      """)
    let source = try SourceModel(path: model)
    let plan = try Conversion(source, options: options, foreign: statistics).plan()
    try Converter(plan).run(to: output)
    let file = try PackedModel(path: output)
    let summary = FileSummary(file)
    try messages.print("opt-mini.otq: \(summary.headline)\n\n$ otconvert inspect opt-mini.otq\n\(summary.text)\n")

    try messages.print("$ otconvert verify opt-mini.otq --reference opt-mini/")
    let result = try WeightVerification(of: file, reference: source, threadCount: threads.threads)
    try messages.print(VerificationText.table(result))
    guard result.hasPassed else {
      throw Refusal("verify-failed", "the demo's file differs from its source", file: output)
    }
    try messages.print("verified: \(result.findings.count) tensors match opt-mini/\n")

    try messages.print("$ otconvert unpack opt-mini.otq opt-mini-restored.safetensors")
    try PackedExport(file, isRestored: true).run(into: SafetensorsFileWriter(ExportOutput(path: restored)))
    try messages.result(
      "opt-mini-restored.safetensors: \(byteText(try MappedFile(path: restored).byteCount))",
      json: summary.totals(adding: ["passed": .bool(result.hasPassed)]))
  }
}
