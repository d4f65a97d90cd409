import OTCheckpoint
import OTFoundation
import OTJSON
import OTModel
import OTTensor

/// The file of statistics, which holds the ranges of sites: `formats/statistics.md`.
extension ModelObservations {
  private static let formatName = "otq-statistics"
  private static let formatVersion = "1"

  private enum Part: String, CaseIterable {
    case minimum = "min"
    case maximum = "max"
    case midpointSum = "midpoint_sum"
    case count

    var elementType: ElementType {
      switch self {
      case .minimum, .maximum: .f32
      case .midpointSum: .f64
      case .count: .i64
      }
    }
  }

  // MARK: Writing

  /// Writes the ranges; the file appears whole or not at all.
  ///
  /// - Parameters:
  ///   - producer: name and version of the program.
  ///   - inputs: files that must not be overwritten.
  /// - Throws: `Refusal` with a rule `output-…`, or with rule `statistics-no-ranges` for a site
  ///   whose ranges were not observed.
  package func write(
    to path: String, producer: String, force: Bool, inputs: [FileIdentity],
    willName: ((FileIdentity) throws -> Void)? = nil
  ) throws {
    var entries: [SafetensorsWriter.Entry] = []
    // A site that no token reached has none.
    for site in sites.keys.sorted() where sites[site]?.isEmpty != true || sites.allSatisfy(\.value.isEmpty) {
      guard let ranges = sites[site]?.ranges else {
        throw Refusal("statistics-no-ranges", "the ranges of the site '\(site)' were not observed", file: path)
      }
      for part in Part.allCases {
        let dimensions = part == .count ? [] : [ranges.channelCount]
        guard let shape = Shape(dimensions) else { continue }
        entries.append(.init(name: "\(site).\(part.rawValue)", elementType: part.elementType, shape: shape))
      }
    }
    entries = SafetensorsWriter.Entry.aligned(entries)
    var writer = try SafetensorsWriter(
      path: path, entries: entries,
      metadata: [
        "format": Self.formatName, "version": Self.formatVersion, "producer": producer, "family": family,
        "sources": JSONValue.array(sources.map(\.json)).text(), "runs": JSONValue.array(runs.map(\.json)).text(),
      ], force: force, inputs: inputs)
    for entry in entries {
      guard let (site, part) = Self.split(entry.name), let ranges = sites[site]?.ranges else { continue }
      // The machines that this runs on are little-endian, as the format is.
      switch part {
      case .minimum: try ranges.minima.withUnsafeBytes { try writer.append($0) }
      case .maximum: try ranges.maxima.withUnsafeBytes { try writer.append($0) }
      case .midpointSum: try ranges.midpointSum.withUnsafeBytes { try writer.append($0) }
      case .count: try withUnsafeBytes(of: Int64(ranges.sampleCount)) { try writer.append($0) }
      }
    }
    try writer.commit(willName)
  }

  private static func split(_ name: String) -> (site: String, part: Part)? {
    guard let dot = name.lastIndex(of: "."), let part = Part(rawValue: String(name[name.index(after: dot)...]))
    else { return nil }
    return (String(name[..<dot]), part)
  }

  // MARK: Reading

  /// Reads and checks a file.
  ///
  /// - Throws: `Refusal` with rule `statistics-format`, `statistics-version`,
  ///   `statistics-damaged`, or as `SafetensorsFile` throws.
  package init(path: String) throws { try self.init(MappedFile(path: path)) }

  /// Reads and checks a file that is mapped.
  ///
  /// - Throws: as `init(path:)`.
  package init(_ mapping: MappedFile) throws {
    let path = mapping.path
    let content = FileContent(mapping.bytes)
    guard content != .zip, content != .pickle else {
      throw Refusal(
        "statistics-format", "is a file of PyTorch, not of 'otconvert calibrate'", file: path,
        remedy: "--act-scales reads the files of other tools")
    }
    let file = try SafetensorsFile(mapping: mapping)
    try file.check(
      format: Self.formatName, version: Self.formatVersion, rules: "statistics", writtenBy: "otconvert calibrate",
      remedy: "--act-scales reads the files of other tools", file: path)
    func records<Record>(_ key: String, _ read: (JSONValue) -> Record?) throws -> [Record] {
      let list = try file.metadata[key].map { try JSONValue.parse($0, file: path) }?.array
      let records = list?.map(read) ?? []
      guard !records.isEmpty, records.allSatisfy({ $0 != nil }) else {
        throw Refusal("statistics-damaged", "metadata member '\(key)' is missing or invalid", file: path)
      }
      return records.compactMap { $0 }
    }
    var parts: [String: [Part: TensorView]] = [:]
    for tensor in file.tensors {
      guard let (site, part) = Self.split(tensor.name), tensor.elementType == part.elementType,
        tensor.shape.rank == (part == .count ? 0 : 1)
      else {
        throw Refusal("statistics-damaged", "is not a part of a site's statistics", file: path, tensor: tensor.name)
      }
      parts[site, default: [:]][part] = tensor
    }
    guard let family = file.metadata["family"] else {
      throw Refusal("statistics-damaged", "its metadata name no family", file: path)
    }
    self.init(
      family: family, sources: try records("sources", FileRecord.init(json:)),
      runs: try records("runs", CalibrationRun.init(json:)),
      sites: try parts.reduce(into: [:]) {
        $0[$1.key] = SiteObservations(ranges: try Self.ranges($1.value, site: $1.key, path))
      })
    self.file = mapping
  }

  private static func ranges(_ parts: [Part: TensorView], site: String, _ path: String) throws -> SiteRanges {
    func damaged(_ message: String) -> Refusal {
      Refusal("statistics-damaged", message, file: path, tensor: site)
    }
    guard let least = parts[.minimum], let greatest = parts[.maximum], let sum = parts[.midpointSum],
      let count = parts[.count], least.shape == greatest.shape, least.shape == sum.shape
    else { throw damaged("lacks a part, or its parts differ in length") }
    let ranges = SiteRanges(
      extremes: ChannelRanges(minima: values(least), maxima: values(greatest)), midpointSum: values(sum),
      sampleCount: Int(values(count, as: Int64.self).first ?? 0))
    guard ranges.sampleCount > 0 else { throw damaged("counts \(ranges.sampleCount) samples") }
    let isSound = ranges.minima.indices.allSatisfy {
      ranges.minima[$0].isFinite && ranges.maxima[$0].isFinite && ranges.midpointSum[$0].isFinite
        && ranges.minima[$0] <= ranges.maxima[$0]
    }
    guard isSound else { throw damaged("has a value that is not finite, or a minimum above its maximum") }
    return ranges
  }

  private static func values<Element: BitwiseCopyable>(
    _ tensor: TensorView, as type: Element.Type = Element.self
  ) -> [Element] {
    tensor.withRowBytes(0..<tensor.shape.rowCount) { bytes in
      (0..<tensor.shape.elementCount).map {
        bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.stride, as: Element.self)
      }
    }
  }
}
