import OTCheckpoint
import OTFoundation
import OTJSON
import OTModel
import OTTensor

/// The ranges that one of several parts of a calibration has seen, sample by sample: `formats/statistics.md`.
///
/// Sums of float64 depend on their order. Each sample's ranges are kept, so that all parts together give the sums that one
/// machine gives, bit for bit.
package struct StatisticsPart {
  private static let formatName = "otq-statistics-part"
  private static let formatVersion = "1"

  private enum Bound: String, CaseIterable { case minimum = "min", maximum = "max" }

  /// The samples' ranges, the runs of all parts, and the model.
  package let observations: ModelObservations
  private let share: WorkShare

  /// A part of a calibration.
  ///
  /// - Parameter observations: sample ranges of this part's samples; `runs` are those of all parts together.
  package init(_ observations: ModelObservations, _ share: WorkShare) {
    (self.observations, self.share) = (observations, share)
  }

  // MARK: The file

  /// Writes the part; the file appears whole or not at all.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  package func write(
    to path: String, producer: String, force: Bool, inputs: [FileIdentity],
    willName: ((FileIdentity) throws -> Void)? = nil
  ) throws {
    var entries: [SafetensorsWriter.Entry] = []
    for (site, seen) in observations.sites.sorted(by: { $0.key < $1.key }) {
      guard let samples = seen.sampleRanges, let first = samples.first,
        let shape = Shape([samples.count, first.minima.count])
      else { continue }
      entries += Bound.allCases.map { .init(name: "\(site).\($0.rawValue)", elementType: .f32, shape: shape) }
    }
    var writer = try SafetensorsWriter(
      path: path, entries: entries,
      metadata: [
        "format": Self.formatName, "version": Self.formatVersion, "producer": producer,
        "family": observations.family, "part": "\(share.number)", "parts": "\(share.count)",
        "sources": JSONValue.array(observations.sources.map(\.json)).text(),
        "runs": JSONValue.array(observations.runs.map(\.json)).text(),
      ], force: force, inputs: inputs)
    for (_, seen) in observations.sites.sorted(by: { $0.key < $1.key }) {
      guard let samples = seen.sampleRanges, !samples.isEmpty else { continue }
      for sample in samples { try sample.minima.withUnsafeBytes { try writer.append($0) } }
      for sample in samples { try sample.maxima.withUnsafeBytes { try writer.append($0) } }
    }
    try writer.commit(willName)
  }

  /// Reads and checks a part; nil for a file that is none.
  ///
  /// - Throws: `Refusal` with rule `statistics-version` or `statistics-damaged`, or as `SafetensorsFile` throws.
  package init?(path: String) throws {
    let mapping = try MappedFile(path: path)
    let content = FileContent(mapping.bytes)
    guard content != .zip, content != .pickle else { return nil }
    let file = try SafetensorsFile(mapping: mapping)
    guard file.metadata["format"] == Self.formatName else { return nil }
    try file.check(
      format: Self.formatName, version: Self.formatVersion, rules: "statistics", writtenBy: "otconvert calibrate",
      remedy: "calibrate again", file: path)
    func damaged(_ message: String, tensor: String? = nil) -> Refusal {
      Refusal("statistics-damaged", message, file: path, tensor: tensor, remedy: "make this part again")
    }
    func records<Record>(_ key: String, _ read: (JSONValue) -> Record?) throws -> [Record] {
      let list = try file.metadata[key].map { try JSONValue.parse($0, file: path) }?.array
      let records = list?.compactMap(read) ?? []
      guard !records.isEmpty, records.count == list?.count else {
        throw damaged("metadata member '\(key)' is missing or invalid")
      }
      return records
    }
    guard let family = file.metadata["family"], let number = file.metadata["part"].flatMap({ Int($0) }),
      let count = file.metadata["parts"].flatMap({ Int($0) }), let share = WorkShare(number, of: count)
    else { throw damaged("its metadata do not say which part of what it is") }
    var bounds: [String: [Bound: TensorView]] = [:]
    for tensor in file.tensors {
      guard let dot = tensor.name.lastIndex(of: "."), tensor.elementType == .f32, tensor.shape.rank == 2,
        let bound = Bound(rawValue: String(tensor.name[tensor.name.index(after: dot)...]))
      else { throw damaged("is not a part of a site's statistics", tensor: tensor.name) }
      bounds[String(tensor.name[..<dot]), default: [:]][bound] = tensor
    }
    let sites = try bounds.reduce(into: [String: SiteObservations]()) { sites, entry in
      guard let least = entry.value[.minimum], let greatest = entry.value[.maximum], least.shape == greatest.shape
      else { throw damaged("lacks a part, or its parts differ in length", tensor: entry.key) }
      let samples = (0..<least.shape.rowCount).map {
        ChannelRanges(minima: Self.row($0, of: least), maxima: Self.row($0, of: greatest))
      }
      let isSound = samples.allSatisfy { sample in
        sample.minima.indices.allSatisfy {
          sample.minima[$0].isFinite && sample.maxima[$0].isFinite && sample.minima[$0] <= sample.maxima[$0]
        }
      }
      guard isSound else {
        throw damaged("has a value that is not finite, or a minimum above its maximum", tensor: entry.key)
      }
      sites[entry.key, default: SiteObservations()].sampleRanges = samples
    }
    var observations = ModelObservations(
      family: family, sources: try records("sources", FileRecord.init(json:)),
      runs: try records("runs", CalibrationRun.init(json:)), sites: sites)
    observations.file = mapping
    self.init(observations, share)
  }

  private static func row(_ row: Int, of tensor: TensorView) -> [Float] {
    tensor.withRowBytes(row..<row + 1) { bytes in
      (0..<tensor.shape.rowElementCount).map {
        bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Float>.stride, as: Float.self)
      }
    }
  }

  // MARK: Merging

  /// What one machine would have observed.
  ///
  /// - Throws: `Refusal` with rule `merge-part-missing` where parts are missing, `merge-part` where one is there twice, or
  ///   `statistics-other-model` where they are not of one calibration.
  package static func merged(_ parts: [StatisticsPart]) throws -> ModelObservations {
    let parts = parts.sorted { $0.share.number < $1.share.number }
    guard let first = parts.first else {
      throw Refusal("merge-part-missing", "there are no parts of statistics to put together")
    }
    let whole = first.observations
    for part in parts {
      let other = part.observations
      guard part.share.count == first.share.count, other.family == whole.family, other.runs == whole.runs,
        other.sources.map(\.sha256) == whole.sources.map(\.sha256)
      else {
        throw Refusal(
          "statistics-other-model", "is a part of another calibration than \(whole.file?.path ?? "the first")",
          file: other.file?.path, remedy: "make all parts of one model, with one text and the same options")
      }
    }
    try WorkShare.checkAll(parts.map(\.share), file: whole.file?.path)
    var sites: [String: SiteRanges] = [:]
    for part in parts {
      for (site, seen) in part.observations.sites {
        for sample in seen.sampleRanges ?? [] {
          let one = SiteRanges(sample)
          if let all = sites[site], all.channelCount != one.channelCount {
            throw Refusal(
              "statistics-damaged", "its parts have different channels", file: part.observations.file?.path,
              tensor: site)
          }
          sites[site] = sites[site]?.merged(with: one) ?? one
        }
      }
    }
    return ModelObservations(
      family: whole.family, sources: whole.sources, runs: whole.runs,
      sites: sites.mapValues { SiteObservations(ranges: $0) })
  }
}
