import OTGraph
import OTJSON
import OTObservation

/// Chooses for each site among the plans of other methods, by the error of its linears' outputs.
///
/// Each plan is tried on kept rows with the real quantizer and kernels, weights rounded to nearest:
/// e = Σ(y − ŷ)² / Σy². The first plan with the least e is taken, and all errors are recorded with the site.
/// Activations whose scales are found when the model runs are asymmetric.
package struct SiteChoice: QuantizationMethod {
  /// Its name.
  package static let name = "choice"

  /// A method that may decide about a site.
  package struct Candidate: Sendable {
    /// The method as `--method` takes it.
    package let text: String
    /// The method.
    package let method: any QuantizationMethod

    /// A candidate.
    package init(_ text: String, _ method: any QuantizationMethod) { (self.text, self.method) = (text, method) }
  }

  /// What is tried unless the user says: nothing but a scale per token; the two papers' methods and SmoothQuant;
  /// the package's own recipe, with and without its parts.
  package static let standardCandidates = [
    Candidate("per-token", PerToken()), Candidate("outliertune", OutlierTune()),
    Candidate("smoothquant", SmoothQuant()),
    // Few thresholds: those of the authors' program are thousands where a token has giant values.
    Candidate(
      "osplus,activations=token,grid=refined,samples=1",
      OutlierSuppressionPlus(form: .token, grid: .refined, sampleCount: 1)),
    Candidate("best,rotate=false", Best(isRotated: false)), Candidate("hadamard", Hadamard()),
    Candidate("best", Best()),
  ]

  /// The methods that are asked, in this order.
  package let candidates: [Candidate]
  /// The most rows of a site that plans are tried on.
  package let rowCount: Int

  /// Takes `of`, names of methods joined by `+`, and `rows`, 512 unless given.
  package init(_ options: inout MethodOptions) throws {
    let rowCount = try options.integer("rows", in: 1...1_000_000, default: 512)
    guard let names = options.text("of")?.split(separator: "+").map(String.init) else {
      self.init(rowCount: rowCount)
      return
    }
    guard !names.isEmpty, !names.contains(SiteChoice.name) else {
      throw options.refusal("'of' is not names of other methods, joined by +")
    }
    self.init(of: try names.map { Candidate($0, try Methods.method($0)) }, rowCount: rowCount)
  }

  /// The method.
  ///
  /// - Precondition: there are candidates.
  package init(of candidates: [Candidate] = SiteChoice.standardCandidates, rowCount: Int = 512) {
    precondition(!candidates.isEmpty)
    (self.candidates, self.rowCount) = (candidates, rowCount)
  }

  /// What the methods need, and rows.
  package var needs: Set<ObservationKind> {
    candidates.reduce(into: [.rows(count: rowCount)]) { $0.formUnion($1.method.needs) }
  }

  /// Those of the package's own recipe, and the drift of inputs is made up for.
  package var weightDefaults: WeightDefaults {
    WeightDefaults(isSymmetric: true, rounding: GPTQ(damping: 0.1, passCount: 10, drift: 0.5))
  }

  /// Those of a token from its least to its greatest, which costs a little when the model runs.
  package var activationDefault: ActivationScales { .asymmetricToken }

  /// `{of, rows}`.
  package var record: JSONObject {
    ["of": .string(candidates.map(\.text).joined(separator: "+")), "rows": .integer(rowCount)]
  }

  /// - Throws: as the methods, and trials.
  package func plan(_ site: SiteContext) throws -> SitePlan {
    var trials: [SitePlan.Trial] = []
    var chosen: (plan: SitePlan, error: Double)?
    for candidate in candidates {
      let plan = try candidate.method.plan(site)
      let error = try site.trial.error(of: plan).relative
      trials.append(SitePlan.Trial(name: candidate.text, error: error))
      // The first stands where no error is a number.
      if chosen.map({ error < $0.error || $0.error.isNaN }) ?? true { chosen = (plan, error) }
    }
    guard var plan = chosen?.plan else { throw site.missingStatistics }
    plan.trials = trials
    return plan
  }
}
