import ArgumentParser
import Foundation
import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTProof
import OTQ
import OTQuantization
import OTRuntime
import OTText
import OTTokenizer

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Convert a model in several ways and measure every file: a table, a page with plots.",
    discussion: """
      Every row is a real conversion, and a real run of its file with integer products.
      Finished rows are kept in the folder: a run that was killed goes on, and the same
      command again computes nothing. results.json, table.md and index.html are written
      after every row.

      A setting is wNaM, bits of weights and activations (16: float), or a budget such as
      5.0bpwa8, then any of
        /token /token:asymmetric /group:64 /group:64:asymmetric /tensor /channel   scales of activations
        /g64 /weights:tensor                                  weights that share a scale
        /weights:symmetric /weights:asymmetric
        @gptq,passes=10                                       rounding of weights
      Methods and settings are lists with commas; methods one after the other are joined
      by +: quarot+best.

      With --of, this run makes its share of the rows; the same command without it then
      puts the table together. In an array job of Slurm, of as many tasks, --part can be
      left out.

      EXAMPLES
        otconvert compare smollm2/ -o compared --text wiki.test.txt --windows 10 \\
          --calibration-text wiki.valid.txt --methods osplus,outliertune,best \\
          --settings w8a8,w6a8,w6a6
        otconvert compare opt/ -o compared --text wiki.test.txt --preset osplus-llm
        otconvert compare smollm2/ -o compared --text wiki.test.txt \\
          --methods best --settings w8a8,w6a8,w4a8/g64 --peer 'Q6_K=6.56bpw,0.029'
      """)

  @Argument(help: "The checkpoint.", completion: .file()) var model: String
  @Option(
    name: .shortAndLong, help: ArgumentHelp("The folder to write to.", valueName: "folder"), completion: .directory)
  var output: String
  @Option(
    help: ArgumentHelp(
      "Methods with their options, such as osplus,grid=paper,best: \(Methods.names). [default: best]",
      valueName: "list"))
  var methods: String?
  @Option(help: ArgumentHelp("Bits and scales, as above. [default: w8a8,w6a8]", valueName: "list"))
  var settings: String?
  @Option(
    help: ArgumentHelp(
      "The rows of a paper's tables: \(ComparisonPreset.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "name"))
  var preset: ComparisonPreset?
  @OptionGroup(title: "Measuring") var measuring: MeasuringArguments
  @OptionGroup(title: "Tasks") var tasks: TaskArguments
  @OptionGroup(title: "Calibration") var calibration: ComparedCalibrationArguments
  @OptionGroup(title: "Conversion") var conversion: CommonConversionArguments
  @Option(
    help: ArgumentHelp(
      "Another program's file of the model, to stand beside: bits per weight or bytes, and mean KL divergence (repeatable).",
      valueName: "name=size,kl"))
  var peer: [Peer] = []
  @Option(
    help: ArgumentHelp("A JSON list of {name, byteCount or bitsPerWeight, kl}.", valueName: "file"),
    completion: .file())
  var peers: String?
  @OptionGroup(title: "Parts") var share: ShareArguments
  @Flag(help: "Also measure every site alone: ranges, and errors of activation, weights and output.") var sites = false
  @Flag(help: "Keep the packed files, under files/ of the folder.") var keepFiles = false
  @OptionGroup var threads: ThreadArguments
  @OptionGroup var messages: OutputArguments

  func validate() throws {
    guard preset == nil || (methods == nil && settings == nil) else {
      throw ValidationError("--preset has its own rows: leave out --methods and --settings.")
    }
    guard measuring.input.isGiven || !tasks.task.isEmpty else {
      throw ValidationError("Give --text, --ids or --task to measure the models on.")
    }
    guard !sites || measuring.input.isGiven else { throw ValidationError("--sites needs --text or --ids.") }
    if measuring.input.isGiven { try validated { try measuring.options(threadCount: threads.threads).check() } }
    _ = try rows()
  }

  func run() throws {
    let source = try SourceModel(path: model, family: conversion.family)
    source.checkpoint.warnings.forEach(messages.warn)
    let graph = try source.graph()
    let others = try peer + (peers.map(Peer.list) ?? [])
    let windows = try windows(source, graph)
    let subject = Comparison.Subject(
      source: source, windows: windows, tasks: tasks.compared, comparesSites: sites, threadCount: threads.threads
    )
    let share = try self.share.share()
    let folder = try ComparisonFolder(path: output, part: share?.number)
    let comparison = try Comparison(
      subject, in: folder,
      conversion: .object([
        "calibration": try calibration.identity(field: measuring.input.field.textField),
        "options": .array(conversion.arguments.map { .string($0) }),
      ]),
      program: SHA256Digest.hex(of: MappedFile(path: Bundle.main.executablePath ?? CommandLine.arguments[0])))
    let all = try rows()
    let rows = share.map { share in all.indices.filter { $0 % share.count == share.number - 1 }.map { all[$0] } } ?? all
    func complete(_ result: ComparisonRecord) -> ComparisonRecord {
      var result = result
      result.peers = others
      result.facts = facts(graph, windows)
      result.sharedArguments =
        conversion.arguments + calibration.arguments(field: measuring.input.field.textField)
      return result
    }
    let result = complete(
      try comparison.run(
        rows, keepsFiles: keepFiles, convert: { try convert($0, of: source, to: $1) },
        progress: { row, number, count in
          messages.note(row.map { "row \(number) of \(count): \($0.title) \($0.setting)" } ?? "the source")
        }, publish: { if share == nil { try publish(complete($0), to: folder) } }))
    let table = ComparisonTable(result)
    for (index, reason) in table.refusals.sorted(by: { $0.key < $1.key }) {
      messages.warn("\(table.rowName(index)): \(reason)")
    }
    try messages.result(text(table, isPart: share != nil), json: result.json)
    guard result.hasFigures || rows.isEmpty else {
      throw Refusal("compare-no-rows", "no row could be had", file: model)
    }
  }

  private func rows() throws -> [ComparisonRow] {
    if let preset { return preset.rows }
    let methods = ConversionSetting.list(methods ?? "best")
    let settings = try ConversionSetting.list(settings ?? "w8a8,w6a8").map { text in
      guard let setting = ConversionSetting(text) else {
        throw ValidationError("--settings: '\(text)' is not a setting such as w6a8, w4a8/g64 or w6a6/group:64@gptq.")
      }
      return setting
    }
    var rows: [ComparisonRow] = []
    for method in methods {
      do {
        _ = try ComparisonRow.methods(method)
      } catch let refusal as Refusal {
        throw ValidationError("--methods: \(refusal.message)\(refusal.remedy.map { "; \($0)" } ?? "").")
      }
      for setting in settings {
        let row = ComparisonRow(method: method, setting: setting)
        guard !rows.contains(row) else { throw ValidationError("'\(method) \(setting)' is named twice.") }
        rows.append(row)
      }
    }
    return rows
  }

  /// The windows, without padding; none where tasks alone are done.
  private func windows(_ source: SourceModel, _ graph: Graph) throws -> [TokenSequence] {
    guard measuring.input.isGiven else { return [] }
    let tokens = try measuring.options(threadCount: threads.threads).windows([graph]) {
      guard let tokenizer = try Model.source(source).tokenizer() else {
        throw Refusal(
          "tokenizer-missing", "has no tokenizer, so it cannot read text", file: model,
          remedy: "put the model's tokenizer.json beside the checkpoint, or give --ids")
      }
      return tokenizer
    }
    return try tokens.unmasked
  }

  /// Makes the packed file of a row, as `convert` does.
  private func convert(
    _ row: ComparisonRow, of source: SourceModel, to path: String
  ) throws -> (calibration: Double, rest: Double) {
    let start = ContinuousClock.now
    var shared = calibration.adding(to: conversion.options, field: measuring.input.field.textField)
    shared.threadCount = threads.threads
    var options = try shared.conversionOptions()
    options.scratchFolder = output
    try row.setting.apply(to: &options)
    options.methods = try row.methods
    let conversion = try Conversion(source, options: options)
    conversion.warnings.forEach(messages.warn)
    let plan =
      try conversion.needsText
      ? CalibratedPlan(
        of: conversion, shared, beside: path, holdingOut: HeldOutText.sampleCount, messages.observer
      ).plan
      : conversion.plan()
    let planned = ContinuousClock.now
    let progress = messages.progress("converting")
    let outcome = try Converter(plan).run(to: path, force: true, progress: progress.update)
    outcome.warnings.forEach(messages.warn)
    plan.budgetWarning(of: try PackedModel(path: path)).map(messages.warn)
    return (start.duration(to: planned) / .seconds(1), planned.duration(to: .now) / .seconds(1))
  }

  private func facts(_ graph: Graph, _ windows: [TokenSequence]) -> [(name: String, value: String)] {
    let tokenCount = windows.reduce(0) { $0 + $1.tokenIDs.count }
    var facts = [("model", model), ("family", graph.family)]
    if !windows.isEmpty {
      facts.append(("text", "\(tokenCount) tokens in \(windows.count) windows of \(measuring.name)"))
    }
    facts.append(("calibration", calibration.name))
    facts.append(("program", Converter.producer))
    return facts
  }

  private func publish(_ result: ComparisonRecord, to folder: ComparisonFolder) throws {
    // Ranges of channels are many, and nobody reads them.
    try folder.write(result.json.text(pretty: !sites) + "\n", to: "results.json")
    try folder.write(ComparisonTable(result).markdown, to: "table.md")
    try folder.write(ComparisonPage(result).text, to: "index.html")
  }

  private func text(_ table: ComparisonTable, isPart: Bool) -> String {
    var result = TextTable(table.columns.map { ($0.title, $0.isNumber ? .right : .left) })
    for row in table.rows { result.append(row.map(Refusal.printable)) }
    if isPart { return result.text + "\n\nin \(Refusal.printable(output)): rows of this part" }
    return result.text + "\n\nin \(Refusal.printable(output)): index.html, table.md, results.json"
  }
}

extension ComparisonPreset: ExpressibleByArgument {}

extension Peer: ExpressibleByArgument {
  /// The peer that an argument names.
  public init?(argument: String) { self.init(argument) }
}
