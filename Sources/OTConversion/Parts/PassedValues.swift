import OTCheckpoint
import OTFoundation
import OTGraph
import OTJSON
import OTObservation
import OTQuantization
import OTTensor

/// What a part leaves for the next where weights are rounded by what the network gives on text: the state of the rounding
/// at the boundary, in a file of safetensors beside the part, `formats/plan.md`.
package struct PassedValues {
  private static let formatName = "otq-values"
  private static let formatVersion = "1"

  private typealias Entry = SafetensorsWriter.Entry

  /// The state of the rounding.
  let state: RoundingState
  /// The digest of the file's description, in which there are those of its tensors.
  let sha256: String

  // MARK: Writing

  /// Where the bytes of an entry come from, a part at a time.
  private enum Content {
    case values(KeptValues, node: String)
    case rowCounts([Int])
    case floats([Float])
    case bytes([UInt8])

    func forEach(_ body: (UnsafeRawBufferPointer) throws -> Void) throws {
      switch self {
      case .values(let kept, let node):
        for sample in 0..<kept.sampleCount(of: node) {
          try kept.matrix(of: node, sample: sample).values.withUnsafeBytes(body)
        }
      case .rowCounts(let counts): try counts.map { Int64($0) }.withUnsafeBytes(body)
      case .floats(let floats): try floats.withUnsafeBytes(body)
      case .bytes(let bytes): try bytes.withUnsafeBytes(body)
      }
    }
  }

  /// Writes the state after a part; the file appears whole or not at all, and replaces one that is there.
  ///
  /// - Parameter part: the part, from 0.
  /// - Returns: the digest that reading it gives.
  /// - Throws: `Refusal` with a rule `output-…`, or `scratch-unwritable`.
  static func write(_ state: RoundingState, after part: Int, of plan: PartedPlan) throws -> String {
    var contents: [(entry: Entry, content: Content)] = []
    func add(_ name: String, _ type: ElementType, _ dimensions: [Int], _ content: Content) throws {
      guard let shape = Shape(dimensions) else {
        throw plan.refusal("part-values", "values of '\(name)' are too many for a file", remedy: "take fewer --samples")
      }
      contents.append((Entry(name: name, elementType: type, shape: shape), content))
    }
    for (kind, kept) in [(Kind.values, state.values), (Kind.float, state.floatValues)] {
      for node in kept.nodes {
        var (counts, channelCount) = ([Int](), 0)
        for sample in 0..<kept.sampleCount(of: node) {
          let matrix = try kept.matrix(of: node, sample: sample)
          counts.append(matrix.rowCount)
          channelCount = matrix.channelCount
        }
        try add("\(kind.rawValue)/\(node)", .f32, [counts.reduce(0, +), channelCount], .values(kept, node: node))
        try add("\(kind.rawValue)-rows/\(node)", .i64, [counts.count], .rowCounts(counts))
      }
    }
    for (linear, rows) in state.weights {
      try add(
        "codes/\(linear)", .u8, [rows.rows.count, rows.values.count / max(rows.rows.count, 1)], .bytes(rows.values))
      try add("scales/\(linear)", .f32, [rows.scales.count], .floats(rows.scales))
      if !rows.zeroPoints.isEmpty {
        try add("zeros/\(linear)", .u8, [rows.zeroPoints.count], .bytes(rows.zeroPoints))
      }
      if let product = rows.shiftProduct { try add("shift/\(linear)", .f32, [product.count], .floats(product)) }
    }
    let byName = Dictionary(uniqueKeysWithValues: contents.map { ($0.entry.name, $0.content) })
    let entries = Entry.aligned(contents.map(\.entry))
    let digests = try entries.reduce(into: JSONObject()) { digests, entry in
      digests[entry.name] = .string(try SHA256Digest.hex { try byName[entry.name]?.forEach($0) })
    }
    let metadata = [
      "format": formatName, "version": formatVersion, "producer": plan.producer, "plan": plan.file?.sha256 ?? "",
      "part": "\(part + 1)", "digests": JSONValue.object(digests).text(),
    ]
    var writer = try SafetensorsWriter(
      path: plan.valuesPath(ofPart: part), entries: entries, metadata: metadata, force: true)
    for entry in entries { try byName[entry.name]?.forEach { try writer.append($0) } }
    try writer.commit()
    return try digest(of: metadata)
  }

  private static func digest(of metadata: [String: String]) throws -> String {
    let lines = metadata.sorted { $0.key < $1.key }.map { "\($0.key)\t\($0.value)\n" }
    return try SHA256Digest.hex(of: Array(lines.joined().utf8))
  }

  // MARK: Reading

  private enum Kind: String { case values, float }

  /// Reads what a part has left, and checks all of it.
  ///
  /// - Returns: nil where nothing is there yet, or what is there was left by a part of another plan.
  /// - Throws: `Refusal` with rule `part-values` where it is damaged, or as reading safetensors throws.
  init?(after part: Int, of plan: PartedPlan, weights: [String: (shape: Shape, scheme: QuantizationScheme)]) throws {
    let path = plan.valuesPath(ofPart: part)
    guard let mapping = try? MappedFile(path: path) else { return nil }
    let file = try SafetensorsFile(mapping: mapping)
    func damaged(_ message: String, tensor: String? = nil) -> Refusal {
      Refusal(
        "part-values", message, file: path, tensor: tensor,
        remedy: "make part \(part + 1) again: \(plan.command(forPart: part)) --force")
    }
    let metadata = file.metadata
    guard metadata["format"] == Self.formatName, metadata["version"] == Self.formatVersion,
      let digests = try metadata["digests"].map({ try JSONValue.parse($0, file: path) })?.object
    else { throw damaged("does not hold the values that a part leaves") }
    guard metadata["plan"] == plan.file?.sha256, metadata["producer"] == plan.producer,
      metadata["part"] == "\(part + 1)"
    else { return nil }
    var views: [String: TensorView] = [:]
    for view in file.tensors {
      let digest = try SHA256Digest.hex { update in
        for start in stride(from: 0, to: view.byteCount, by: 1 << 22) {
          let range = view.byteOffset + start..<view.byteOffset + min(start + 1 << 22, view.byteCount)
          update(mapping.bytes(in: range))
          mapping.release(range)
        }
      }
      guard digests[view.name]?.string == digest else { throw damaged("its bytes have changed", tensor: view.name) }
      views[view.name] = view
    }
    guard views.count == digests.members.count else { throw damaged("lacks a tensor") }
    var state = RoundingState()
    for (name, view) in views.sorted(by: { $0.key < $1.key }) {
      guard let slash = name.firstIndex(of: "/") else { throw damaged("is none of its parts", tensor: name) }
      let (kind, node) = (String(name[..<slash]), String(name[name.index(after: slash)...]))
      switch kind {
      case "values", "float":
        guard let counts = views["\(kind)-rows/\(node)"].map({ Self.elements($0, as: Int64.self).map(Int.init) }),
          view.elementType == .f32, view.shape.rank == 2, counts.allSatisfy({ $0 >= 0 }),
          counts.reduce(0, +) == view.shape.rowCount
        else { throw damaged("does not say which rows are whose", tensor: name) }
        if kind == "values" {
          state.values.append(view, rowCounts: counts, of: node)
        } else {
          state.floatValues.append(view, rowCounts: counts, of: node)
        }
      case "codes":
        guard let (shape, scheme) = weights[node], view.elementType == .u8, view.shape == shape,
          let scales = views["scales/\(node)"], scales.elementType == .f32
        else { throw damaged("is not a weight of this model", tensor: name) }
        var rows = QuantizedRows(rows: 0..<shape.rowCount)
        rows.values = Self.elements(view)
        rows.scales = Self.elements(scales)
        rows.zeroPoints = views["zeros/\(node)"].map { Self.elements($0) } ?? []
        rows.shiftProduct = views["shift/\(node)"].map { Self.elements($0) }
        let stepCount =
          scheme.granularity == .perTensor
          ? 1 : shape.rowCount * scheme.groupCount(columnCount: shape.rowElementCount)
        guard rows.scales.count == stepCount, rows.zeroPoints.count == (scheme.isSymmetric ? 0 : stepCount),
          rows.shiftProduct.map({ $0.count == shape.rowCount }) ?? true
        else { throw damaged("has steps that do not fit it", tensor: name) }
        state.weights[node] = rows
      case "values-rows", "float-rows", "scales", "zeros", "shift": break
      default: throw damaged("is none of its parts", tensor: name)
      }
    }
    self.state = state
    sha256 = try Self.digest(of: metadata)
  }

  private static func elements<Element: BitwiseCopyable>(
    _ view: TensorView, as type: Element.Type = Element.self
  ) -> [Element] {
    view.withRowBytes(0..<view.shape.rowCount) { bytes in
      (0..<bytes.count / MemoryLayout<Element>.stride).map {
        bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.stride, as: Element.self)
      }
    }
  }
}
