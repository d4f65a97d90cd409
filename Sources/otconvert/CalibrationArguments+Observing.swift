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
    let hasText = !text.isEmpty
    guard hasText || !conversion.needs.isEmpty || conversion.roundsOnText else { return nil }
    let isAsked = hasText || !conversion.options.methods.isEmpty || conversion.options.rounding != nil
    guard conversion.canBeCalibrated, let graph = conversion.graph,
      let tokenizer = try tokenizer(conversion.model, isAsked: isAsked, messages)
    else {
      guard !isAsked else {
        throw Refusal(
          "calibration-impossible", "cannot be calibrated: a config.json and a tokenizer are needed beside it",
          file: conversion.model.path, remedy: hasText ? "leave out --text" : "give --statistics, or --method per-token"
        )
      }
      return nil
    }
    let samples = try settings.samples(tokenizer: tokenizer, graph: graph)
    messages.note(
      "calibrating on \(samples.tokens.count) samples of \(samples.run.length) tokens of "
        + samples.run.texts.map(\.name).joined(separator: ", "))
    if hasText, let note = samples.note { messages.warn(note) }
    return samples
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
