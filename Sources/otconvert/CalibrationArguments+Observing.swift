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
    guard isGiven || !conversion.needs.isEmpty else { return nil }
    if conversion.needs.isEmpty, conversion.graph != nil {
      messages.warn("the text is not read: there is nothing to measure for the method")
      return nil
    }
    let settings = self.settings(threadCount: threadCount)
    guard let samples = try samples(for: conversion, settings, messages) else { return nil }
    messages.note(
      "calibrating on \(samples.tokens.count) samples of \(samples.run.length) tokens of "
        + samples.run.texts.map(\.name).joined(separator: ", "))
    if isGiven, let note = samples.note { messages.warn(note) }
    let progress = messages.progress("calibrating", unit: .tokens)
    // Its sources need no record: they are the conversion's own.
    return try settings.run(
      on: conversion.model, samples: samples, kinds: conversion.needs, progress: progress.update)
  }

  /// The samples to calibrate on; nil where the model cannot be run on text and nothing was asked for.
  private func samples(
    for conversion: Conversion, _ settings: Calibration, _ messages: OutputArguments
  ) throws -> Calibration.Samples? {
    let isAsked = isGiven || !conversion.options.methods.isEmpty
    if conversion.canBeCalibrated(onTokens: ids != nil), let graph = conversion.graph {
      if let samples = try tokens(graph) { return samples }
      if let tokenizer = try tokenizer(conversion.model, isAsked: isAsked, messages) {
        return try settings.samples(tokenizer: tokenizer, graph: graph)
      }
    }
    guard isAsked else { return nil }
    throw Refusal(
      "calibration-impossible",
      "cannot be calibrated: a config.json \(ids == nil ? "and a tokenizer.json are" : "is") needed beside it",
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
