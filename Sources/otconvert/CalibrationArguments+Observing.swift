import OTConversion
import OTFoundation
import OTGraph
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
    guard let (graph, tokenizer) = try runnable(conversion, isAsked: isAsked, warn: messages.warn) else { return nil }
    let settings = self.settings(threadCount: threadCount)
    let samples = try settings.samples(tokenizer: tokenizer, graph: graph)
    try settings.check(samples)
    messages.note(
      "calibrating on \(samples.tokens.count) samples of \(samples.run.length) tokens of "
        + samples.run.texts.map(\.name).joined(separator: ", "))
    if hasText, let note = samples.note { messages.warn(note) }
    let progress = messages.progress("calibrating", unit: .tokens)
    // Its sources need no record: they are the conversion's own.
    return try settings.run(
      on: conversion.model, samples: samples, kinds: conversion.needs, progress: progress.update)
  }

  /// The graph and tokenizer to calibrate with; nil, and a warning that names what is missing, where the
  /// model cannot be run on text and nobody asked for it.
  func runnable(
    _ conversion: Conversion, isAsked: Bool, warn: (String) -> Void
  ) throws -> (graph: Graph, tokenizer: Tokenizer)? {
    do {
      return try conversion.runnable()
    } catch let refusal as Refusal
      where !isAsked
      && ["calibration-impossible", "tokenizer-unsupported", "tokenizer-regex"].contains(refusal.rule)
    {
      warn("not calibrated, activations get one scale per token: \(refusal)")
      return nil
    }
  }
}
