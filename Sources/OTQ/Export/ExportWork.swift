import OTConversion
import OTExport
import OTFoundation
import OTJSON
import OTModel
import OTTensor

/// The writing of a model in a format of other tools, from its options to the output.
package struct ExportWork: Sendable {
  private let input: String
  private let output: String
  private let format: any ModelWriter.Type
  private let options: ExportOptions

  /// - Throws: ``Refusal`` for options that are wrong: `option-…`, `method-…`, `rounding-…`.
  package init(_ input: String, to output: String, format: String, _ options: ExportOptions) throws(Refusal) {
    self.format = try options.check(for: format)
    (self.input, self.output, self.options) = (input, output, options)
  }

  /// Writes.
  ///
  /// - Throws: `Refusal` as conversion and writers throw, with rule `export-options` or `export-restored` where
  ///   options do not fit the model, and what the observer throws.
  package func run(_ observer: WorkObserver) throws {
    switch try Model(path: input, family: options.conversion.family) {
    case .packed(let file):
      guard !options.conversion.decides, !options.conversion.text.isGiven else {
        throw Refusal(
          "export-options", "is packed: what a conversion does to it has been decided", file: input,
          remedy: "leave out the options of a conversion, or export the checkpoint")
      }
      let writer = format.init(target([file.container.file.identity]))
      let export = PackedExport(file, isRestored: options.isRestored, threadCount: options.conversion.threads)
      try export.run(into: writer, progress: observer.begin(.exporting))
      writer.notes.forEach(observer.warn)
    case .source(let source):
      guard !options.isRestored else {
        throw Refusal(
          "export-restored", "is a checkpoint: nothing has been done to it that could be undone", file: input,
          remedy: "leave out --restored")
      }
      let conversion = try options.conversion.conversion(of: source, to: format)
      conversion.warnings.forEach(observer.warn)
      let plan = try CalibratedPlan(of: conversion, options.conversion, beside: output, observer).plan
      if format.traits.isOfFloats, plan.graph?.transforms.isEmpty ?? true {
        observer.warn("no method transforms the model: it is only copied")
      }
      let writer = format.init(target(plan.inputs))
      try Converter(plan).run(into: writer, progress: observer.begin(.exporting)).warnings.forEach(observer.warn)
      writer.notes.forEach(observer.warn)
    }
  }

  private func target(_ inputs: [FileIdentity]) -> ExportOutput {
    var target = ExportOutput(path: output, force: options.conversion.replacesOutput, inputs: inputs)
    target.elementType = options.elementType.flatMap { ElementType(rawValue: $0.uppercased()) }
    target.shardByteCount = options.shardMegabytes.map { $0 * 1_000_000 }
    return target
  }

  /// What was written, and as what.
  package var json: JSONObject {
    let kind = format.traits.output == .file ? "file" : "folder"
    return [kind: .string(output), "format": .string(format.format)]
  }

  /// Writes, and gathers warnings.
  ///
  /// - Throws: as `run`.
  package func result(_ observer: WorkObserver) throws -> ExportResult {
    let gathering = GatheringObserver(observer)
    try run(gathering.observer)
    var members = json
    members["warnings"] = .array(gathering.warnings.map { .string($0) })
    return ExportResult(
      path: output, format: format.format, warnings: gathering.warnings,
      json: JSONValue.object(members).text(pretty: true))
  }
}

/// The result of an export.
public struct ExportResult: Sendable, Hashable {
  /// The folder or file that was written.
  public let path: String
  /// The format's name.
  public let format: String
  /// What the user should know, a line each: what the format leaves out, or changes.
  public let warnings: [String]
  /// What `otconvert export --json` prints, `warnings` beside it.
  public let json: String
}

extension ModelFile {
  /// Writes a model in a format of other tools; the output appears whole or not at all.
  ///
  /// Of a checkpoint it is what a conversion makes of it, of an `.otq` file what that holds. What a format cannot
  /// hold is refused.
  ///
  /// - Parameters:
  ///   - model: path of a checkpoint or of an `.otq` file.
  ///   - path: of the folder or file to write.
  ///   - format: one of ``ExportOptions/formats``.
  ///   - options: how to write it.
  /// - Returns: the work, which begins when it is iterated; it throws ``Refusal`` with a rule `export-…`, or as
  ///   ``convert(_:to:options:)``.
  /// - Throws: ``Refusal`` with a rule `option-…`, `method-…` or `rounding-…` for options that are wrong.
  public static func export(
    _ model: String, to path: String, format: String, options: ExportOptions = ExportOptions()
  ) throws(Refusal) -> FileWork<ExportResult> {
    let work = try ExportWork(model, to: path, format: format, options)
    return FileWork { try work.result($0) }
  }
}
