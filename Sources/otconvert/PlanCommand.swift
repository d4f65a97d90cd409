import ArgumentParser
import Foundation
import OTContainer
import OTConversion
import OTExport
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTObservation
import OTQ
import OTQuantization
import OTVerify

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Print sizes, memory and what becomes of every tensor; reads no weights.",
    discussion: """
      EXAMPLES
        otconvert plan llama-7b/ --bits 6
        otconvert plan opt/ --bits 6 --act-scales act_scales.pt --json

      With --parts, a conversion is shared among so many machines or tasks: the plan
      goes to -o, and beside it what was decided, for which a method may have to
      calibrate. Each part is made by 'convert --plan PLAN --part N', and 'merge
      --plan PLAN' puts them together. In an array job of Slurm, of as many tasks,
      --part can be left out. Where weights are rounded by text (gptq, clip), each
      part goes on from the values that the one before leaves: they are made one
      after the other.

        otconvert plan llama/ llama.otq --bits 6 --rounding nearest --parts 8 -o plan.json
      """)

  @Argument(help: "The checkpoint.", completion: .file()) var input: String
  @Argument(help: "The file that parts make up.", completion: .file()) var output: String?
  @Option(help: ArgumentHelp("Share the conversion among so many.", valueName: "N")) var parts: Int?
  @Option(
    name: [.customShort("o"), .customLong("plan")], help: ArgumentHelp("The plan to write.", valueName: "file"),
    completion: .file())
  var plan: String?
  @Flag(help: "Replace the plan if it exists.") var force = false
  @OptionGroup(title: "Conversion") var conversion: ConversionArguments
  @OptionGroup(title: "Calibration") var calibration: CalibrationArguments
  @OptionGroup var messages: OutputArguments

  /// Memory of a conversion beside the mapped source: blocks in flight, the
  /// index and the program itself, as measured.
  static let conversionByteCount = 100_000_000

  func validate() throws {
    guard [output == nil, parts == nil, plan == nil].allSatisfy({ $0 == (parts == nil) }), parts != nil || !force else {
      throw ValidationError("--parts needs the file to make and -o with that of the plan, and these need --parts.")
    }
    guard parts != nil || conversion.budget == nil else {
      throw ValidationError("--budget is for convert: plan reads no weights, and shows the sizes of all bits.")
    }
    if let parts, let output { try validated { _ = try partsWork(parts, output) } }
  }

  private func partsWork(_ parts: Int, _ output: String) throws(Refusal) -> PartsWork {
    let options = calibration.adding(to: conversion.options(threadCount: Machine.processorCount))
    return try PartsWork(input, to: output, options, partCount: parts)
  }

  func run() throws {
    if let parts, let output, let plan {
      let outcome = try partsWork(parts, output).run(to: plan, force: force, messages.observer)
      let report = PartsReport(outcome: outcome, path: plan)
      return try messages.result(report.text, json: report.json)
    }
    let options = self.conversion.options(threadCount: 1)
    let conversion = try options.conversion(of: SourceModel(path: input, family: options.family))
    var notes: [String] = []
    let calibrates =
      try !conversion.needs.isEmpty
      && (calibration.input.ids != nil
        || conversion.runnable(isAsked: !conversion.options.methods.isEmpty) { notes.append($0) } != nil)
    let plan = try conversion.plan(assumingPerToken: calibrates)
    let alternatives = try PlanCommand.alternatives(conversion, assumingPerToken: calibrates)
    let settings = calibration.settings(threadCount: 1)
    let samples = calibrates ? try samples(conversion, settings) : nil
    let calibrationByteCount =
      try samples.map {
        try settings.byteCount(on: conversion.model, kinds: conversion.needs, lengths: $0.tokens.map(\.tokenIDs.count))
      }
    var efforts: [EffortEstimate] = []
    do {
      efforts = try PlanCommand.efforts(conversion, samples, settings)
    } catch let refusal as Refusal where refusal.rule.hasPrefix("blas-") {
      notes.append("what efforts that run text take is not known here: \(refusal)")
      efforts = try PlanCommand.efforts(conversion, nil, settings)
    }
    let exports = try PlanCommand.exports(conversion, calibrates: calibrates)
    // They are in the JSON.
    if !messages.json { (plan.warnings + notes).forEach(messages.warn) }
    try messages.result(
      textReport(plan, conversion.calibratedMethodName, calibrationByteCount, alternatives, efforts, exports),
      json: jsonReport(plan, notes, calibrationByteCount, alternatives, efforts, exports))
  }

  /// What `export` would say to a format.
  struct Export {
    let format: String
    let refusal: Refusal?
    let notes: [String]

    var text: String {
      guard let refusal else { return (["can"] + notes).joined(separator: "; ") }
      let place = refusal.tensor.map { "tensor '\($0)' " } ?? ""
      return "cannot: \(place)\(refusal.message)" + (refusal.remedy.map { "; \($0)" } ?? "")
    }
  }

  /// The formats of other tools, for the model as `export` would make it.
  private static func exports(_ conversion: Conversion, calibrates: Bool) throws -> [Export] {
    // Which name no file: what is there says nothing of the format.
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("otq-\(UUID().uuidString)").path
    return try Writers.exports.map { format in
      let options = conversion.options.exporting(to: format)
      let model = try conversion.plan(options: options, assumingPerToken: calibrates).exported()
      let writer = format.init(ExportOutput(path: path))
      do {
        _ = try writer.accept(model)
        var notes = writer.notes
        // Which channels are shifted is known only once it is calibrated.
        let isShifted = calibrates && options.methods.isEmpty && options.isSymmetrized && !options.isWeightsOnly
        if isShifted, model.graph?.nodes.contains(where: { $0.operation.isRMSNorm }) ?? false {
          notes.insert("with --no-symmetrization, as its norms have no bias", at: 0)
        }
        return Export(format: format.format, refusal: nil, notes: notes)
      } catch let refusal as Refusal {
        return Export(format: format.format, refusal: refusal, notes: [])
      }
    }
  }

  private static func efforts(
    _ conversion: Conversion, _ samples: Calibration.Samples?, _ settings: Calibration
  ) throws -> [EffortEstimate] {
    try conversion.estimates(
      lengths: samples?.tokens.map(\.tokenIDs.count), heldOutLengths: samples?.heldOut.map(\.tokenIDs.count) ?? [],
      calibration: settings,
      speed: ConversionSpeed(
        bits: conversion.options.bits, rule: samples.map { _ in Best().weightDefaults.rounding }))
  }

  /// The samples that convert would take.
  private func samples(_ conversion: Conversion, _ settings: Calibration) throws -> Calibration.Samples? {
    if let graph = conversion.graph, let samples = try calibration.sampled.tokens(graph) { return samples }
    let (graph, tokenizer) = try conversion.runnable()
    return try settings.samples(tokenizer: tokenizer, graph: graph, holdingOut: HeldOutText.sampleCount)
  }

  private func textReport(
    _ plan: ConversionPlan, _ method: String, _ calibrationByteCount: Int?, _ alternatives: [Alternative],
    _ efforts: [EffortEstimate], _ exports: [Export]
  ) -> String {
    var table = TextTable([
      ("tensor", .left), ("shape", .left), ("type", .left), ("becomes", .left), ("bytes", .right),
    ])
    for tensor in plan.tensors {
      table.append([
        Refusal.printable(tensor.outputName), tensor.shape.description, tensor.view?.elementType.rawValue ?? "–",
        Refusal.printable(tensor.treatmentText), "\(tensor.storedByteCount(plan.options.compression))",
      ])
    }
    let estimate = plan.estimate
    var lines = [table.text, ""]
    if let graph = plan.graph { lines.append("family \(graph.family), method \(plan.methodName)") }
    lines += plan.graph?.siteLines ?? []
    if let calibrationByteCount {
      lines.append(
        "'convert' calibrates the model first, which takes up to \(byteText(calibrationByteCount)) of memory, "
          + "and applies \(method); the file is of about the size above, which is that of a scale per token")
    }
    lines.append(
      "source \(byteText(estimate.sourceByteCount)), file about \(byteText(estimate.storedByteCount)), "
        + "loaded \(byteText(estimate.loadedByteCount)), converting takes about "
        + "\(byteText(PlanCommand.conversionByteCount)) of memory beside the mapped source\n")
    var choices = TextTable([
      ("options", .left), ("file", .right), ("of source", .right), ("bits/weight of linears", .right),
    ])
    for choice in alternatives {
      choices.append([
        choice.options, byteText(choice.byteCount),
        "\(fixed(Double(choice.byteCount) / Double(max(estimate.sourceByteCount, 1)) * 100, 1)) %",
        fixed(choice.bitsPerWeight, 2),
      ])
    }
    var work = TextTable([("effort", .left), ("processor time", .right), ("memory", .right)])
    for estimate in efforts {
      work.append([
        "--effort \(estimate.effort.rawValue)", PlanCommand.text(seconds: estimate.processorSeconds),
        PlanCommand.memory(estimate).map(byteText) ?? "more than --max-memory: \(estimate.refusal?.message ?? "")",
      ])
    }
    var formats = TextTable([("export --to", .left), ("", .left)])
    for export in exports { formats.append([export.format, Refusal.printable(export.text)]) }
    return (lines + [choices.text, "", work.text, "", formats.text]).joined(separator: "\n")
  }

  /// Memory in bytes of a process; nil where there may not be as much.
  private static func memory(_ estimate: EffortEstimate) -> Int? {
    estimate.byteCount.map { $0 + PlanCommand.conversionByteCount }
  }

  /// Two figures are all that an estimate has.
  static func text(seconds: Double) -> String {
    seconds < 100
      ? "about \(fixed(seconds, seconds < 10 ? 1 : 0)) s" : "about \(fixed(seconds / 60, seconds < 600 ? 1 : 0)) min"
  }

  struct Alternative {
    let options: String
    let byteCount: Int
    let bitsPerWeight: Double
  }

  private static func alternatives(
    _ conversion: Conversion, assumingPerToken isPerToken: Bool
  ) throws -> [Alternative] {
    var result: [Alternative] = []
    for bits in [8, 6, 4] {
      for isSymmetric in [false, true] {
        var options = conversion.options
        (options.bits, options.isSymmetric) = (bits, isSymmetric)
        // How the file is compressed decides nothing about tensors.
        let plan = try conversion.plan(options: options, assumingPerToken: isPerToken)
        let linears = plan.tensors.filter { $0.isBlockWeight || plan.graph == nil }
        let elements = linears.reduce(0) { $0 + $1.shape.elementCount }
        for compression in [Compression.standard, .none] {
          let bytes = linears.reduce(0) { $0 + $1.storedByteCount(compression) }
          result.append(
            Alternative(
              options: "--bits \(bits) --weight-scheme \(isSymmetric ? "symmetric" : "asymmetric")"
                + (compression == .none ? " --compression none" : ""),
              byteCount: plan.tensors.reduce(0) { $0 + $1.storedByteCount(compression) },
              bitsPerWeight: Double(bytes * 8) / Double(max(elements, 1))))
        }
      }
    }
    return result
  }

  private func jsonReport(
    _ plan: ConversionPlan, _ notes: [String], _ calibrationByteCount: Int?, _ alternatives: [Alternative],
    _ efforts: [EffortEstimate], _ exports: [Export]
  ) -> JSONValue {
    let estimate = plan.estimate
    return .object([
      "family": plan.graph.map { .string($0.family) } ?? .null, "method": .string(plan.methodName),
      "sourceByteCount": .integer(estimate.sourceByteCount),
      "estimatedByteCount": .integer(estimate.storedByteCount),
      "loadedByteCount": .integer(estimate.loadedByteCount),
      "conversionMemoryByteCount": .integer(PlanCommand.conversionByteCount),
      "calibrationMemoryByteCount": calibrationByteCount.map { .integer($0) } ?? .null,
      "warnings": .array((plan.warnings + notes).map { .string($0) }),
      "tensors": .array(
        plan.tensors.map { tensor in
          .object([
            "name": .string(tensor.outputName), "shape": .array(tensor.shape.dimensions.map { .integer($0) }),
            "becomes": .string(tensor.treatmentText),
            "estimatedByteCount": .integer(tensor.storedByteCount(plan.options.compression)),
          ])
        }),
      "efforts": .array(
        efforts.map {
          .object([
            "effort": .string($0.effort.rawValue), "processorSeconds": .number($0.processorSeconds),
            "memoryByteCount": PlanCommand.memory($0).map { .integer($0) } ?? .null,
          ])
        }),
      "exports": .array(
        exports.map { export in
          var members: JSONObject = [
            "format": .string(export.format), "can": .bool(export.refusal == nil),
            "notes": .array(export.notes.map { .string($0) }),
          ]
          if let refusal = export.refusal {
            members["rule"] = .string(refusal.rule)
            members["reason"] = .string(refusal.message)
            members["tensor"] = refusal.tensor.map { .string($0) }
            members["remedy"] = refusal.remedy.map { .string($0) }
          }
          return .object(members)
        }),
      "alternatives": .array(
        alternatives.map {
          .object([
            "options": .string($0.options), "estimatedByteCount": .integer($0.byteCount),
            "linearBitsPerWeight": .number($0.bitsPerWeight),
          ])
        }),
    ])
  }
}

extension OTGraph.Operation {
  fileprivate var isRMSNorm: Bool { if case .rmsNorm = self { true } else { false } }
}

extension PlannedTensor {
  /// The fate of the tensor, in words.
  var treatmentText: String {
    switch treatment {
    case .quantized(let scheme):
      let transform = use.map { !$0.input.isIdentity || $0.inputRotation != nil || !$0.output.isIdentity } ?? false
      return scheme.text + (transform ? ", transformed" : "")
    case .evaluated: return "F32"
    case .converted(let type): return type.rawValue
    case .unchanged: return "unchanged"
    case .alias(let target): return "alias of \(target)"
    case .vector: return "F32 (a site's shift or scale)"
    }
  }
}
