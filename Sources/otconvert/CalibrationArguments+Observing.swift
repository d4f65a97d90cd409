import Foundation
import OTConversion
import OTFoundation
import OTModel
import OTObservation
import OTTokenizer

extension CalibrationArguments {
  /// The plan of a conversion, after running the model on text as far as its methods and its rounding need it.
  ///
  /// - Parameter output: values that wait to be written are kept beside it.
  func plan(
    for conversion: Conversion, beside output: String, _ threadCount: Int, _ messages: OutputArguments
  ) throws -> (plan: ConversionPlan, isCalibrated: Bool) {
    let settings = self.settings(threadCount: threadCount)
    guard let samples = try samples(for: conversion, settings, messages) else { return (try conversion.plan(), false) }
    messages.note(
      "calibrating on \(samples.tokens.count) samples of \(samples.run.length) tokens of "
        + samples.run.texts.map(\.name).joined(separator: ", "))
    if isGiven, let note = samples.note { messages.warn(note) }
    var observed: ModelObservations?
    if !conversion.needs.isEmpty {
      let progress = messages.progress("calibrating", unit: .tokens)
      // Its sources need no record: they are the conversion's own.
      observed = try settings.run(
        on: conversion.model, samples: samples, kinds: conversion.needs, progress: progress.update)
    }
    let folder = URL(fileURLWithPath: output).deletingLastPathComponent().path
    let progress = messages.progress("rounding weights", unit: .sites)
    return (
      try settings.rounding(conversion.plan(observed), samples: samples, in: folder, progress: progress.update), true
    )
  }

  /// Samples to run the model on; nil where nothing is to be observed, or where the model cannot be run on
  /// text and neither text nor a method was asked for.
  private func samples(
    for conversion: Conversion, _ settings: Calibration, _ messages: OutputArguments
  ) throws -> Calibration.Samples? {
    let isNeeded = !conversion.needs.isEmpty || conversion.roundsOnText
    guard isGiven || isNeeded else { return nil }
    if !isNeeded, conversion.graph != nil {
      messages.warn("the text is not read: there is nothing to measure for the method")
      return nil
    }
    let isAsked = isGiven || !conversion.options.methods.isEmpty || conversion.options.rounding != nil
    if conversion.canBeCalibrated(onTokens: ids != nil), let graph = conversion.graph {
      if let samples = try tokens(graph) { return samples }
      if let tokenizer = try tokenizer(conversion.model, isAsked: isAsked, messages) {
        return try settings.samples(tokenizer: tokenizer, graph: graph)
      }
    }
    guard isAsked else { return nil }
    throw Refusal(
      "calibration-impossible",
      "cannot be calibrated: a config.json \(ids == nil ? "and a tokenizer are" : "is") needed beside it",
      file: conversion.model.path,
      remedy: isGiven ? "leave out \(ids == nil ? "--text" : "--ids")" : "give --statistics, or --method per-token")
  }

  /// The model's tokenizer; nil, and a warning, for one of a kind that is not read.
  private func tokenizer(_ model: SourceModel, isAsked: Bool, _ messages: OutputArguments) throws -> Tokenizer? {
    do {
      return try Model.source(model).tokenizer()
    } catch let refusal as Refusal
      where !isAsked && ["tokenizer-unsupported", "tokenizer-regex"].contains(refusal.rule)
    {
      messages.warn("not calibrated, activations get one scale per token: \(refusal)")
      return nil
    }
  }
}
