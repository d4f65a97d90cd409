import OTFoundation
import OTGraph
import OTJSON
import OTQuantization

/// A file by which statistics remember a model or a text.
package struct FileRecord: Sendable, Hashable {
  /// Its name, without a folder.
  package let name: String
  /// Its size.
  package let byteCount: Int
  /// Its SHA-256 in lower-case hexadecimal.
  package let sha256: String

  /// A record of a file.
  package init(name: String, byteCount: Int, sha256: String) {
    self.name = name
    self.byteCount = byteCount
    self.sha256 = sha256
  }

  /// `{name, byteCount, sha256}`.
  package var json: JSONValue {
    .object(["name": .string(name), "byteCount": .integer(byteCount), "sha256": .string(sha256)])
  }

  /// The record that `json` holds; nil when it holds none.
  package init?(json: JSONValue) {
    guard let name = json["name"]?.string, let byteCount = json["byteCount"]?.integer,
      let sha256 = json["sha256"]?.string
    else { return nil }
    self.init(name: name, byteCount: byteCount, sha256: sha256)
  }
}

/// One run of calibration: which texts, and what was drawn from them.
package struct CalibrationRun: Sendable, Hashable {
  /// The files of text or of tokens.
  package let texts: [FileRecord]
  /// Samples that were run.
  package let sampleCount: Int
  /// Tokens of the longest sample.
  package let length: Int
  /// The seed of their places; nil where tokens were given.
  package let seed: UInt64?

  /// A record of a run.
  package init(texts: [FileRecord], sampleCount: Int, length: Int, seed: UInt64?) {
    self.texts = texts
    self.sampleCount = sampleCount
    self.length = length
    self.seed = seed
  }

  /// `{texts, samples, length, seed}`; the seed is a text, since JSON's numbers are doubles to many.
  package var json: JSONValue {
    var members: JSONObject = [
      "texts": .array(texts.map(\.json)), "samples": .integer(sampleCount), "length": .integer(length),
    ]
    if let seed { members["seed"] = .string("\(seed)") }
    return .object(members)
  }

  init?(json: JSONValue) {
    guard let texts = json["texts"]?.array?.map(FileRecord.init(json:)), !texts.contains(nil),
      let samples = json["samples"]?.integer, let length = json["length"]?.integer
    else { return nil }
    let seed = json["seed"]?.string.flatMap { UInt64($0) }
    guard json["seed"] == nil || seed != nil else { return nil }
    self.init(texts: texts.compactMap { $0 }, sampleCount: samples, length: length, seed: seed)
  }
}

/// What calibration measured on all sites of a model, and on which text.
package struct CalibrationStatistics: Sendable {
  /// The family of the model.
  package let family: String
  /// The files of the model's tensors.
  package let sources: [FileRecord]
  /// The runs that the ranges are of.
  package let runs: [CalibrationRun]
  /// What was measured, by the producer of the site.
  package let sites: [String: SiteRange]
  /// The file they were read from, if from one.
  package internal(set) var file: MappedFile?

  /// Statistics as measured.
  package init(family: String, sources: [FileRecord], runs: [CalibrationRun], sites: [String: SiteRange]) {
    self.family = family
    self.sources = sources
    self.runs = runs
    self.sites = sites
  }

  /// Samples of all runs.
  package var sampleCount: Int { runs.reduce(0) { $0 + $1.sampleCount } }

  /// The statistics of both, as one run over both texts would measure them.
  ///
  /// - Throws: `Refusal` with rule `statistics-other-model` where they are not
  ///   of the same model, `statistics-twice` where they have a run in common.
  package func merged(with other: CalibrationStatistics) throws -> CalibrationStatistics {
    func refusal(_ message: String) -> Refusal {
      Refusal(
        "statistics-other-model", message, file: other.file?.path,
        remedy: "merge statistics of one model only")
    }
    let name = file?.path ?? "the first"
    guard family == other.family, Set(sites.keys) == Set(other.sites.keys),
      sites.allSatisfy({ other.sites[$0]?.channelCount == $1.channelCount })
    else { throw refusal("has other sites than \(name): they are of different models") }
    guard Set(sources.map(\.sha256)) == Set(other.sources.map(\.sha256)) else {
      throw refusal("was measured on another model than \(name)")
    }
    if let run = other.runs.first(where: runs.contains) {
      let texts = run.texts.map(\.name).joined(separator: ", ")
      throw Refusal(
        "statistics-twice", "was measured on the same samples of \(texts) as \(name): they would count twice",
        file: other.file?.path, remedy: "give each file once; other samples have another --seed")
    }
    return CalibrationStatistics(
      family: family, sources: sources, runs: runs + other.runs,
      sites: sites.reduce(into: [:]) { result, entry in
        result[entry.key] = other.sites[entry.key].map { entry.value.merged(with: $0) }
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
      guard let range = sites[site.producer] else {
        throw otherModel("has nothing about the site '\(site.producer)' of this model")
      }
      guard range.channelCount == site.size else {
        throw otherModel("has \(range.channelCount) channels for the site '\(site.producer)', which has \(site.size)")
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

  /// What a method needs to know of each site.
  package func activationStatistics(isSymmetrized: Bool) -> ActivationStatistics {
    ActivationStatistics(sites: sites.mapValues { $0.statistics(isSymmetrized: isSymmetrized) })
  }
}
