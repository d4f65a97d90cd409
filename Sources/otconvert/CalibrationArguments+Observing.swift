import OTConversion
import OTFoundation
import OTModel
import OTObservation
import OTTokenizer

extension CalibrationArguments {
  /// The observations of the model's sites that the methods need; nil where they need nothing, or where the
  /// model cannot be run on text and neither text nor a method was asked for.
  func observations(
    for conversion: Conversion, _ threadCount: Int, _ messages: OutputArguments
  ) throws -> ModelObservations? {
    let hasText = !text.isEmpty
    guard hasText || !conversion.needs.isEmpty else { return nil }
    let isAsked = hasText || !conversion.options.methods.isEmpty
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
    let settings = self.settings(threadCount: threadCount)
    let samples = try settings.samples(tokenizer: tokenizer, graph: graph)
    messages.note(
      "calibrating on \(samples.tokens.count) samples of \(samples.run.length) tokens of "
        + samples.run.texts.map(\.name).joined(separator: ", "))
    if hasText, let note = samples.note { messages.warn(note) }
    let progress = messages.progress("calibrating", unit: .tokens)
    // Its sources need no record: they are the conversion's own.
    return try settings.run(
      on: conversion.model, samples: samples, kinds: conversion.needs, progress: progress.update)
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
