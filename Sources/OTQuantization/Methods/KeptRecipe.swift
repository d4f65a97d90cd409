import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTTensor

/// The decisions of an earlier conversion, from the file that `--save-recipe` wrote: `formats/recipe.md`.
///
/// Transforms, activations, bits and roundings of all sites are those of the file. Nothing is observed or tried again.
package struct KeptRecipe: QuantizationMethod {
  /// Its name.
  package static let name = "recipe"

  private static let formatName = "otq-recipe"
  private static let formatVersion = "1"

  /// Family of the model.
  package let family: String
  /// The files of the model's tensors.
  package let sources: [FileRecord]
  /// The record of the methods that decided.
  package let methodRecord: JSONObject
  /// The decision about each site, by its producer in the source's graph; none for sites that stay float.
  package let sites: [String: SitePlan]
  /// The file that it was read from.
  package private(set) var file: MappedFile?

  /// Takes `file`, which `--save-recipe` wrote.
  ///
  /// - Throws: as `init(path:)`.
  package init(_ options: inout MethodOptions) throws {
    guard let path = options.text("file") else { throw options.refusal("it needs 'file', as --recipe gives it") }
    try self.init(path: path)
  }

  /// Decisions to be written.
  package init(family: String, sources: [FileRecord], methodRecord: JSONObject, sites: [String: SitePlan]) {
    self.family = family
    self.sources = sources
    self.methodRecord = methodRecord
    self.sites = sites
  }

  /// `{recipe, of}`: the file's name, and the record of the methods that decided; `rotation` where they had one.
  package var record: JSONObject {
    var record: JSONObject = [
      "recipe": file.map { .string($0.path.lastPathComponent) } ?? .null, "of": .object(methodRecord),
    ]
    record["rotation"] = rotation?.json
    return record
  }

  /// The rotations that went before all decisions.
  package var rotation: OfflineRotation? { methodRecord["rotation"].flatMap(OfflineRotation.init(json:)) }

  /// Symmetric, for what the file has no decision about.
  package var weightDefaults: WeightDefaults { WeightDefaults(isSymmetric: true, rounding: rounding) }

  /// The rule by which weights were rounded.
  private var rounding: any RoundingRule {
    sites.values.lazy.map(\.weight.rounding).first { !$0.needs.isEmpty } ?? NearestRounding()
  }

  /// The file's decision; a site that it has none about stays float.
  package func plan(_ site: SiteContext) -> SitePlan {
    sites[site.site.producer] ?? SitePlan(activation: .float, weight: WeightPlan(scheme: nil))
  }

  // MARK: Fitting a model

  /// Checks that the decisions are about the model with this graph.
  ///
  /// - Parameter byteCounts: sizes of the model's files.
  /// - Throws: `Refusal` with rule `recipe-other-model`.
  package func check(against graph: Graph, byteCounts: [Int]) throws {
    guard family == graph.family else {
      throw otherModel("is of a model of the family '\(family)', this is '\(graph.family)'")
    }
    let sizes = Dictionary(graph.sites.map { ($0.producer, $0.size) }, uniquingKeysWith: { first, _ in first })
    for (site, plan) in sites.sorted(by: { $0.key < $1.key }) {
      guard let size = sizes[site] else { throw otherModel("has a site '\(site)' that this model lacks") }
      for vector in [plan.transform.channels.shift, plan.transform.channels.scale] {
        guard let count = vector?.count, count != size else { continue }
        throw otherModel("has \(count) channels for the site '\(site)', which has \(size)")
      }
      if let fault = plan.transform.floatChannels?.fault(among: size) {
        throw otherModel("lists channels of the site '\(site)' that stay float: \(fault)")
      }
    }
    guard sources.map(\.byteCount).sorted() == byteCounts.sorted() else {
      throw otherModel("was made from files of other sizes than this model's")
    }
  }

  /// Checks that the decisions were made from files of these digests, whatever their names.
  ///
  /// - Throws: `Refusal` with rule `recipe-other-model`.
  package func check(sourceDigests: [String]) throws {
    guard sources.map(\.sha256).sorted() == sourceDigests.sorted() else {
      throw otherModel("was made from other files than this model's: their SHA-256 differ")
    }
  }

  private func otherModel(_ message: String) -> Refusal {
    Refusal("recipe-other-model", message, file: file?.path, remedy: "convert this model without --recipe")
  }
}

// MARK: - The file

extension KeptRecipe {
  private enum Part: String, CaseIterable { case shift, scale }

  /// Writes the decisions; the file appears whole or not at all.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  package func write(to path: String, producer: String, force: Bool, inputs: [FileIdentity]) throws {
    var entries: [SafetensorsWriter.Entry] = []
    var vectors: [String: [Float]] = [:]
    for (site, plan) in sites {
      for part in Part.allCases {
        let vector = part == .shift ? plan.transform.channels.shift : plan.transform.channels.scale
        guard let vector, let shape = Shape([vector.count]) else { continue }
        entries.append(.init(name: "\(site).\(part.rawValue)", elementType: .f32, shape: shape))
        vectors["\(site).\(part.rawValue)"] = vector
      }
    }
    entries = SafetensorsWriter.Entry.aligned(entries)
    let decisions = sites.sorted { $0.key < $1.key }.reduce(into: JSONObject()) { $0[$1.key] = $1.value.json }
    var writer = try SafetensorsWriter(
      path: path, entries: entries,
      metadata: [
        "format": Self.formatName, "version": Self.formatVersion, "producer": producer, "family": family,
        "sources": JSONValue.array(sources.map(\.json)).text(), "method": JSONValue.object(methodRecord).text(),
        "sites": JSONValue.object(decisions).text(),
      ], force: force, inputs: inputs)
    // The machines that this runs on are little-endian, as the format is.
    for entry in entries { try (vectors[entry.name] ?? []).withUnsafeBytes { try writer.append($0) } }
    try writer.commit()
  }

  /// Reads and checks a file.
  ///
  /// - Throws: `Refusal` with rule `recipe-format`, `recipe-version`, `recipe-damaged`, or as `SafetensorsFile` throws.
  package init(path: String) throws { try self.init(MappedFile(path: path)) }

  /// Reads and checks a file that is mapped.
  ///
  /// - Throws: as `init(path:)`.
  package init(_ mapping: MappedFile) throws {
    let path = mapping.path
    let contents = try SafetensorsFile(mapping: mapping)
    try contents.check(
      format: Self.formatName, version: Self.formatVersion, rules: "recipe",
      writtenBy: "otconvert convert --save-recipe", remedy: "--statistics reads the files of 'otconvert calibrate'",
      file: path)
    func damaged(_ message: String) -> Refusal { Refusal("recipe-damaged", message, file: path) }
    func member(_ key: String) throws -> JSONValue {
      guard let text = contents.metadata[key] else { throw damaged("metadata member '\(key)' is missing") }
      return try JSONValue.parse(text, file: path)
    }
    let records = try member("sources").array?.map(FileRecord.init(json:)) ?? []
    guard let family = contents.metadata["family"], !records.isEmpty, !records.contains(nil),
      let method = try member("method").object, let decisions = try member("sites").object
    else { throw damaged("metadata member 'family', 'sources', 'method' or 'sites' is invalid") }
    var vectors: [String: [Float]] = [:]
    for tensor in contents.tensors {
      guard tensor.elementType == .f32, tensor.shape.rank == 1 else {
        throw Refusal("recipe-damaged", "is no vector of float32", file: path, tensor: tensor.name)
      }
      vectors[tensor.name] = tensor.withRowBytes(0..<tensor.shape.rowCount) { bytes in
        (0..<tensor.shape.elementCount).map { bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) }
      }
    }
    var sites: [String: SitePlan] = [:]
    for (site, value) in decisions.members {
      let (shift, scale) = (
        vectors.removeValue(forKey: "\(site).shift"), vectors.removeValue(forKey: "\(site).scale")
      )
      guard shift?.allSatisfy(\.isFinite) ?? true, scale?.allSatisfy({ $0.isFinite && $0 > 0 }) ?? true else {
        throw damaged("the site '\(site)' has a shift that is not finite, or a scale that is not positive")
      }
      sites[site] = try SitePlan(json: value, shift: shift, scale: scale, site: site, file: path)
    }
    if let name = vectors.keys.min() { throw damaged("'\(name)' belongs to no site") }
    self.init(family: family, sources: records.compactMap { $0 }, methodRecord: method, sites: sites)
    file = mapping
  }
}

extension SitePlan {
  /// `{activation, rotation, floatChannels, staysOnEdge, weight, rounding}`; shift and scale are tensors.
  fileprivate var json: JSONValue {
    var members: JSONObject = ["activation": activation.json]
    if let rotation = transform.rotation { members["rotation"] = .integer(rotation.blockSize) }
    if transform.staysOnEdge { members["staysOnEdge"] = .bool(true) }
    if let channels = transform.floatChannels {
      members["floatChannels"] = .array(channels.listed.map { .integer($0) })
    }
    if let scheme = weight.scheme {
      var weight: JSONObject = ["bits": .integer(scheme.bits), "symmetric": .bool(scheme.isSymmetric)]
      switch scheme.granularity {
      case .perTensor: weight["granularity"] = .string("tensor")
      case .perChannel: weight["granularity"] = .string("channel")
      case .perGroup(let size): weight["groupSize"] = .integer(size)
      }
      members["weight"] = .object(weight)
      members["rounding"] = .string(self.weight.roundingText)
    }
    return .object(members)
  }

  fileprivate init(json: JSONValue, shift: [Float]?, scale: [Float]?, site: String, file: String) throws {
    func damaged(_ message: String) -> Refusal {
      Refusal("recipe-damaged", "the site '\(site)': \(message)", file: file)
    }
    guard let activation = json["activation"] else { throw damaged("it has no activation") }
    var rotation: Rotation?
    if let value = json["rotation"] {
      guard let size = value.integer, Rotation.blockSizes.contains(size) else {
        throw damaged("its rotation has no block of a power of 2 from 16 to 512")
      }
      rotation = Rotation(blockSize: size)
    }
    var floatChannels: ChannelChoice?
    if let value = json["floatChannels"] {
      guard let listed = value.array?.map(\.integer), !listed.isEmpty, !listed.contains(nil) else {
        throw damaged("its channels that stay float are not listed")
      }
      floatChannels = ChannelChoice(listed.compactMap { $0 })
    }
    var plan = WeightPlan(scheme: nil)
    if let weight = json["weight"] {
      let granularity: QuantizationScheme.Granularity? =
        if let size = weight["groupSize"]?.integer { .perGroup(size: size) } else {
          switch weight["granularity"]?.string {
          case "tensor": .perTensor
          case "channel": .perChannel
          default: nil
          }
        }
      guard let bits = weight["bits"]?.integer, let isSymmetric = weight["symmetric"]?.bool, let granularity,
        let scheme = QuantizationScheme(bits: bits, isSymmetric: isSymmetric, granularity: granularity),
        let rounding = json["rounding"]?.string
      else { throw damaged("its weights have no valid scheme") }
      plan = WeightPlan(scheme: scheme, rounding: try Refusal.naming(file) { try Roundings.rule(rounding) })
    }
    self.init(
      transform: SiteTransform(
        ChannelTransform(shift: shift, scale: scale), floatChannels: floatChannels, rotation: rotation,
        staysOnEdge: json["staysOnEdge"]?.bool ?? false),
      activation: try ActivationQuantization(json: activation, node: site, file: file), weight: plan)
  }
}

extension WeightPlan {
  /// The rule as `--rounding` takes it.
  fileprivate var roundingText: String {
    rounding.record.members.reduce(rounding.kind.name) { text, option in
      let value =
        switch option.value {
        case .bool(let value): "\(value)"
        case .number(let value): "\(value)"
        case .integer(let value): "\(value)"
        default: option.value.string ?? ""
        }
      return "\(text),\(option.key)=\(value)"
    }
  }
}
