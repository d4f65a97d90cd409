import OTFoundation
import OTGraph
import OTModel

/// The observations of a model's sites, with the text they were made on.
package struct ModelObservations: Sendable {
  /// The family of the model.
  package let family: String
  /// The files of the model's tensors; empty where another tool measured.
  package let sources: [FileRecord]
  /// The runs that were observed; empty where another tool measured.
  package let runs: [CalibrationRun]
  /// The observations, by the producer of the site.
  package let sites: [String: SiteObservations]
  /// The file they were read from, if from one.
  package internal(set) var file: MappedFile?

  /// Observations as made.
  package init(family: String, sources: [FileRecord], runs: [CalibrationRun], sites: [String: SiteObservations]) {
    self.family = family
    self.sources = sources
    self.runs = runs
    self.sites = sites
  }

  /// What was observed and where, without the observations themselves, which may be all values of some samples.
  package var withoutSites: ModelObservations {
    var rest = ModelObservations(family: family, sources: sources, runs: runs, sites: [:])
    rest.file = file
    return rest
  }

  /// The observations of a site; without parts where there are none.
  package subscript(site: Site) -> SiteObservations { sites[site.producer] ?? SiteObservations() }

  /// Samples of all runs.
  package var sampleCount: Int { runs.reduce(0) { $0 + $1.sampleCount } }

  /// The most tokens that all runs can have had.
  package var mostTokenCount: Int {
    runs.reduce(0) { sum, run in
      run.sampleCount.multipliedChecked(by: run.length).flatMap(sum.addingChecked) ?? .max
    }
  }

  /// The union of both, as one run over both texts would observe it.
  ///
  /// - Throws: `Refusal` with rule `statistics-other-model` where they are not
  ///   of the same model, `statistics-twice` where they have a run in common,
  ///   `statistics-parts` where one has observed what the other has not.
  package func merged(with other: ModelObservations) throws -> ModelObservations {
    func refusal(_ message: String) -> Refusal {
      Refusal(
        "statistics-other-model", message, file: other.file?.path,
        remedy: "merge statistics of one model only")
    }
    let name = file?.path ?? "the first"
    let isSame = Set(sources.map(\.sha256)) == Set(other.sources.map(\.sha256))
    // No token of one text may have come to an expert: then its site is not there.
    guard family == other.family, isSame || Set(sites.keys) == Set(other.sites.keys),
      sites.allSatisfy({
        $1.isEmpty || other.sites[$0].map { $0.isEmpty } ?? isSame
          || other.sites[$0]?.channelCount == $1.channelCount
      })
    else { throw refusal("has other sites than \(name): they are of different models") }
    guard isSame else {
      throw refusal("was measured on another model than \(name)")
    }
    if let run = other.runs.first(where: runs.contains) {
      let texts = run.texts.map(\.name).joined(separator: ", ")
      throw Refusal(
        "statistics-twice", "was measured on the same samples of \(texts) as \(name): they would count twice",
        file: other.file?.path, remedy: "give each file once; other samples have another --seed")
    }
    return ModelObservations(
      family: family, sources: sources, runs: runs + other.runs,
      sites: try sites.reduce(into: other.sites) { result, entry in
        guard let merged = entry.value.merged(with: other.sites[entry.key] ?? SiteObservations()) else {
          throw Refusal(
            "statistics-parts", "has observed something else of the site '\(entry.key)' than \(name)",
            file: other.file?.path, remedy: "observe the same on both texts")
        }
        result[entry.key] = merged
      })
  }

  // MARK: Fitting a model

  /// Checks that the statistics are of the model with this graph.
  ///
  /// - Parameter sources: names and sizes of the model's files; nil: not checked.
  /// - Throws: `Refusal` with rule `statistics-other-model`.
  package func check(against graph: Graph, sources: [(name: String, byteCount: Int)]?) throws {
    guard family == graph.family else {
      throw otherModel("was measured on a model of the family '\(family)', this is '\(graph.family)'")
    }
    for site in graph.sites {
      guard let observed = sites[site.producer], !observed.isEmpty, let channelCount = observed.channelCount else {
        // A text may have no token for an expert.
        if case .expert = graph.rows(of: site.producer) { continue }
        throw otherModel("has nothing about the site '\(site.producer)' of this model")
      }
      guard channelCount == site.size else {
        throw otherModel("has \(channelCount) channels for the site '\(site.producer)', which has \(site.size)")
      }
    }
    if let name = Set(sites.keys).subtracting(graph.sites.map(\.producer)).min() {
      throw otherModel("has a site '\(name)' that this model lacks")
    }
    if let sources, sources.map(\.byteCount).sorted() != self.sources.map(\.byteCount).sorted() {
      throw otherModel("was measured on files of other sizes than this model's")
    }
  }

  /// Checks that the statistics were measured on files of these digests,
  /// whatever their names.
  ///
  /// - Throws: `Refusal` with rule `statistics-other-model`.
  package func check(sourceDigests: [String]) throws {
    guard sources.map(\.sha256).sorted() == sourceDigests.sorted() else {
      throw otherModel("was measured on other files than this model's: their SHA-256 differ")
    }
  }

  private func otherModel(_ message: String) -> Refusal {
    Refusal(
      "statistics-other-model", message, file: file?.path, remedy: "run 'otconvert calibrate' on this model")
  }
}
