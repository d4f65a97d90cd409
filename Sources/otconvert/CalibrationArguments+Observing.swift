import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTObservation
import OTRuntime
import OTTokenizer

/// A plan, and the samples that it goes by.
struct CalibratedPlan {
  let plan: ConversionPlan
  /// nil: none were needed, or could be had.
  let samples: Calibration.Samples?
  /// What was observed on them; nil: nothing had to be.
  var observed: ModelObservations?
}

extension CalibrationArguments {
  /// The plan of a conversion, after running the model on text as far as its methods and its rounding need it.
  ///
  /// - Parameters:
  ///   - output: values that wait to be written are kept beside it.
  ///   - heldOutCount: samples to keep from calibration, to judge the result on.
  ///   - given: another plan of the model with the same methods, whose samples and observations are used again.
  func plan(
    for conversion: Conversion, beside output: String, holdingOut heldOutCount: Int = 0, given: CalibratedPlan? = nil,
    _ threadCount: Int, _ messages: OutputArguments
  ) throws -> CalibratedPlan {
    let settings = self.settings(threadCount: threadCount)
    let budget = conversion.options.budget
    guard let samples = try given?.samples ?? samples(for: conversion, settings, heldOutCount, messages) else {
      return CalibratedPlan(plan: try within(budget, conversion.plan(), nil, messages), samples: nil, observed: nil)
    }
    try settings.check(samples)
    if given == nil { announce(samples, messages) }
    var observed = given?.observed
    if observed == nil, !conversion.needs.isEmpty {
      let progress = messages.progress("calibrating", unit: .tokens)
      // Its sources need no record: they are the conversion's own.
      observed = try settings.run(
        on: conversion.model, samples: samples, kinds: conversion.needs, progress: progress.update)
    }
    let folder = URL(fileURLWithPath: output).deletingLastPathComponent().path
    let trials = messages.progress("comparing", unit: .models)
    let options = try settings.settling(conversion, observed, samples: samples, progress: trials.update)
    let plan = try within(budget, conversion.plan(observed, options: options), samples.tokens, messages)
    let progress = messages.progress("rounding weights", unit: .sites)
    return CalibratedPlan(
      plan: try settings.rounding(plan, samples: samples, in: folder, progress: progress.update),
      samples: samples, observed: observed)
  }

  private func announce(_ samples: Calibration.Samples, _ messages: OutputArguments) {
    messages.note(
      "calibrating on \(samples.tokens.count) samples of \(samples.run.length) tokens of "
        + samples.run.texts.map(\.name).joined(separator: ", "))
    if isGiven, let note = samples.note { messages.warn(note) }
  }

  /// The plan, with bits for each site where there is a budget.
  private func within(
    _ budget: BitBudget?, _ plan: ConversionPlan, _ samples: [TokenSequence]?, _ messages: OutputArguments
  ) throws -> ConversionPlan {
    guard let budget else { return plan }
    return try plan.within(budget, samples: samples, progress: messages.progress("measuring", unit: .sites).update)
  }

  /// Samples to run the model on; nil where nothing is to be observed, or where the model cannot be run on
  /// text and neither text nor a method was asked for.
  private func samples(
    for conversion: Conversion, _ settings: Calibration, _ heldOutCount: Int, _ messages: OutputArguments
  ) throws -> Calibration.Samples? {
    let isNeeded = !conversion.needs.isEmpty || conversion.roundsOnText || conversion.comparesOnText
    guard isGiven || isNeeded else { return nil }
    if !isNeeded, conversion.graph != nil {
      messages.warn("the text is not read: there is nothing to measure for the method")
      return nil
    }
    if ids != nil, let samples = try tokens(conversion.runnableGraph()) { return samples }
    let isAsked = isGiven || !conversion.options.methods.isEmpty || conversion.options.rounding != nil
    guard let (graph, tokenizer) = try runnable(conversion, isAsked: isAsked, warn: messages.warn) else { return nil }
    return try settings.samples(tokenizer: tokenizer, graph: graph, holdingOut: heldOutCount)
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
      warn("not calibrated, so weights are rounded to nearest and no channel is scaled: \(refusal)")
      return nil
    }
  }
}
