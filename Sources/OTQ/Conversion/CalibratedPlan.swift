import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTObservation
import OTRuntime
import OTTokenizer

/// A plan, and the samples that it goes by.
package struct CalibratedPlan {
  /// The plan.
  package let plan: ConversionPlan
  /// nil: none were needed, or could be had.
  package let samples: Calibration.Samples?
  /// What was observed on them; nil: nothing had to be, or it is not kept.
  private let observed: ModelObservations?

  /// The plan of a conversion, after running the model on text as far as its methods and its rounding need it.
  ///
  /// - Parameters:
  ///   - output: values that wait to be written are kept beside it.
  ///   - heldOutCount: samples to keep from calibration, to judge the result on.
  ///   - keepsObservations: whether another plan will use them again. They take memory while weights are rounded.
  ///   - work: keeps what was decided and rounded, and has what an earlier process has of it.
  ///   - given: another plan of the model with the same methods, whose samples and observations are used again.
  ///   - rounds: whether weights are rounded, where their rule goes by text; else the plan says by which.
  /// - Throws: as calibrating and planning throw, and what the observer throws.
  package init(
    of conversion: Conversion, _ options: ConvertOptions, beside output: String, holdingOut heldOutCount: Int = 0,
    keptBy work: ResumableWork? = nil, keepsObservations: Bool = false, given: CalibratedPlan? = nil,
    rounds: Bool = true, _ observer: WorkObserver
  ) throws {
    let text = options.text
    let settings = text.calibration(threadCount: options.threads, maximumByteCount: options.maximumByteCount)
    let budget = conversion.options.budget
    // What is needed does not depend on bits.
    let found =
      if let given { given.samples } else {
        try Self.samples(for: conversion, text, settings, heldOutCount, observer)
      }
    guard let samples = found else {
      plan = try Self.within(budget, conversion.plan(), nil, observer)
      (self.samples, observed) = (nil, nil)
      return
    }
    try settings.check(samples)
    try settings.checkRounding(of: conversion, samples: samples)
    if given == nil { Self.announce(samples, text, observer) }
    // Before weights are rounded, what was observed is gone unless it is kept.
    func decided() throws -> (plan: ConversionPlan, kept: ModelObservations?) {
      if let plan = try work.flatMap({ try conversion.plan(keptBy: $0) }) { return (plan, nil) }
      var observed = given?.observed
      if observed == nil, !conversion.needs.isEmpty {
        // Its sources need no record: they are the conversion's own.
        observed = try settings.run(
          on: conversion.model, samples: samples, kinds: conversion.needs, progress: observer.begin(.calibrating))
      }
      let settled = try settings.settling(
        conversion, observed, samples: samples, progress: observer.begin(.comparing))
      let plan = try Self.within(
        budget, conversion.plan(observed, options: settled), samples.tokens, observer)
      try work.map { try conversion.keep(plan, by: $0) }
      return (plan, keepsObservations ? observed : nil)
    }
    var (plan, kept) = try decided()
    if rounds {
      plan = try settings.rounding(
        plan, samples: samples, in: output.parentPath, keptBy: work, progress: observer.begin(.rounding))
    } else if plan.recipe.sampledRounding != nil {
      plan.roundingRun = samples.run
    }
    (self.plan, self.samples, observed) = (plan, samples, kept)
  }

  private static func announce(_ samples: Calibration.Samples, _ text: SampledText, _ observer: WorkObserver) {
    observer.note(
      "calibrating on \(samples.tokens.count) samples of \(samples.run.length) tokens of "
        + samples.run.texts.map(\.name).joined(separator: ", "))
    if text.isGiven, let note = samples.note { observer.warn(note) }
  }

  /// The plan, with bits for each site where there is a budget.
  private static func within(
    _ budget: BitBudget?, _ plan: ConversionPlan, _ samples: [TokenSequence]?, _ observer: WorkObserver
  ) throws -> ConversionPlan {
    guard let budget else { return plan }
    return try plan.within(budget, samples: samples, progress: observer.begin(.measuring))
  }

  /// Samples to run the model on; nil where nothing is to be observed, or where the model cannot be run on
  /// text and neither text nor a method was asked for.
  static func samples(
    for conversion: Conversion, _ text: SampledText, _ settings: Calibration, _ heldOutCount: Int,
    _ observer: WorkObserver
  ) throws -> Calibration.Samples? {
    guard text.isGiven || conversion.needsText else { return nil }
    if !conversion.needsText, conversion.graph != nil {
      observer.warn("the text is not read: there is nothing to measure for the method")
      return nil
    }
    if text.ids != nil, let samples = try text.tokens(conversion.runnableGraph()) { return samples }
    let isAsked = text.isGiven || !conversion.options.methods.isEmpty || conversion.options.rounding != nil
    guard let (graph, tokenizer) = try conversion.runnable(isAsked: isAsked, warn: observer.warn) else { return nil }
    return try settings.samples(tokenizer: tokenizer, graph: graph, holdingOut: heldOutCount)
  }
}

extension Conversion {
  /// The graph and tokenizer to calibrate with; nil, and a warning that names what is missing, where the
  /// model cannot be run on text and nobody asked for it.
  ///
  /// - Throws: as `runnable()` where somebody asked for it.
  package func runnable(isAsked: Bool, warn: (String) -> Void) throws -> (graph: Graph, tokenizer: Tokenizer)? {
    do {
      return try runnable()
    } catch let refusal as Refusal
      where !isAsked
      && ["calibration-impossible", "tokenizer-unsupported", "tokenizer-regex"].contains(refusal.rule)
    {
      warn("not calibrated, so weights are rounded to nearest and no channel is scaled: \(refusal)")
      return nil
    }
  }
}
