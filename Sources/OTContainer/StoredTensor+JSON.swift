import OTFoundation
import OTJSON
import OTTensor

extension StoredTensor {
  /// The entry of the tensor index: `formats/otq.md`, section "Tensor index".
  var json: JSONValue {
    var entry: JSONObject = ["name": .string(name), "shape": .array(shape.dimensions.map { .integer($0) })]
    if let source {
      var object: JSONObject = ["name": .string(source.name), "dtype": .string(source.elementType.rawValue)]
      if let shape = source.shape { object["shape"] = .array(shape.dimensions.map { .integer($0) }) }
      entry["source"] = .object(object)
    }
    switch content {
    case .alias(let target): entry["alias"] = .string(target)
    case .plain(let type): entry["dtype"] = .string(type.rawValue)
    case .quantized(let scheme, let form, let rowTilesPerChunk):
      entry["bits"] = .integer(scheme.bits)
      entry["symmetric"] = .bool(scheme.isSymmetric)
      switch scheme.granularity {
      case .perTensor: entry["granularity"] = .string("tensor")
      case .perChannel: entry["granularity"] = .string("channel")
      case .perGroup(let size):
        entry["granularity"] = .string("group")
        entry["groupSize"] = .integer(size)
      }
      entry["form"] = .string(form.rawValue)
      entry["rowTilesPerChunk"] = .integer(rowTilesPerChunk)
      if rounding != .nearest { entry["rounding"] = .string(rounding.name) }
    }
    if !planes.isEmpty {
      var runs = JSONObject()
      for name in planes.keys.sorted() {
        guard let plane = planes[name] else { continue }
        runs[name] = .array([.integer(plane.extents.lowerBound), .integer(plane.extents.count)])
      }
      entry["planes"] = .object(runs)
    }
    if let error {
      entry["error"] = .object([
        "sqnrDecibels": error.sqnrDecibels.map { .number($0) } ?? .null,
        "maximumInSteps": .number(error.maximumInSteps),
      ])
    }
    return .object(entry)
  }

  /// Reads an entry and checks it against the extents.
  ///
  /// - Throws: `Refusal` with rule `otq-tensor` or `otq-plane`.
  init(json: JSONValue, extents: [Extent], file: String) throws {
    let name = json["name"]?.string ?? ""
    func refuse(_ message: String, _ rule: String = "otq-tensor") -> Refusal {
      Refusal(rule, message, file: file, tensor: name)
    }
    if let fault = PrintableName.fault(of: name) { throw refuse("a tensor's name \(fault)") }
    let kinds = ["alias", "dtype", "bits"].filter { json[$0] != nil }
    guard kinds.count == 1 else { throw refuse("is not one of alias, plain and quantized") }
    guard let shape = StoredTensor.shape(json["shape"]) else { throw refuse("has no valid shape") }
    self.name = name
    self.shape = shape
    source = try json["source"].map {
      guard let source = $0["name"]?.string, let type = $0["dtype"]?.string.flatMap(ElementType.init) else {
        throw refuse("has no valid source")
      }
      let shape = try $0["shape"].map { json in
        guard let shape = StoredTensor.shape(json) else { throw refuse("has a source without a valid shape") }
        return shape
      }
      return Source(name: source, elementType: type, shape: shape)
    }
    rounding =
      try json["rounding"].map {
        guard let kind = $0.string.flatMap({ RoundingKind($0) }) else { throw refuse("has no valid rounding") }
        return kind
      } ?? .nearest
    error = try json["error"].map {
      guard let maximum = $0["maximumInSteps"]?.double else { throw refuse("has no valid error") }
      return QuantizationError(sqnrDecibels: $0["sqnrDecibels"]?.double, maximumInSteps: maximum)
    }
    var planes: [String: Plane] = [:]
    guard let members = (json["planes"] ?? .object([:])).object?.members else {
      throw refuse("has planes that are no object", "otq-plane")
    }
    for (plane, run) in members {
      guard let run = StoredTensor.run(run, of: extents) else {
        throw refuse("plane '\(plane)' names extents that do not exist", "otq-plane")
      }
      planes[plane] = Plane(extents: run)
    }
    self.planes = planes
    if let alias = json["alias"] {
      guard let target = alias.string else { throw refuse("is an alias of no name") }
      content = .alias(of: target)
      guard planes.isEmpty else { throw refuse("an alias has planes") }
    } else if let name = json["dtype"] {
      guard let type = name.string.flatMap(ElementType.init) else { throw refuse("has no known element type") }
      content = .plain(type)
      guard let byteCount = type.byteCount(elementCount: shape.elementCount) else {
        throw refuse("has elements that are not whole bytes")
      }
      try StoredTensor.check(planes, ["values": byteCount], extents, refuse)
    } else {
      content = try StoredTensor.quantizedContent(json, shape: shape, planes: planes, extents: extents, refuse)
    }
  }

  private static func shape(_ json: JSONValue?) -> Shape? {
    let dimensions = (json?.array ?? [.null]).map(\.integer)
    return dimensions.contains(nil) ? nil : Shape(dimensions.compactMap { $0 })
  }

  /// The extents that `[first, count]` means; nil when they do not exist.
  static func run(_ json: JSONValue?, of extents: [Extent]) -> Range<Int>? {
    guard let bounds = json?.array, bounds.count == 2, let first = bounds[0].integer,
      let count = bounds[1].integer, first >= 0, count >= 0, let end = first.addingChecked(count),
      end <= extents.count
    else { return nil }
    return first..<end
  }

  private static func quantizedContent(
    _ json: JSONValue, shape: Shape, planes: [String: Plane], extents: [Extent],
    _ refuse: (String, String) -> Refusal
  ) throws -> Content {
    let granularity: QuantizationScheme.Granularity
    switch (json["granularity"]?.string, json["groupSize"]) {
    case ("tensor", nil): granularity = .perTensor
    case ("channel", nil): granularity = .perChannel
    case ("group", .integer(let size)?): granularity = .perGroup(size: size)
    default: throw refuse("has no valid granularity", "otq-scheme")
    }
    // Chunks are counted in Int; 2^31 row tiles are more than any tensor has.
    guard let bits = json["bits"]?.integer, let isSymmetric = json["symmetric"]?.bool,
      let scheme = QuantizationScheme(bits: bits, isSymmetric: isSymmetric, granularity: granularity),
      let form = json["form"]?.string.flatMap(CodeForm.init),
      let rowTilesPerChunk = json["rowTilesPerChunk"]?.integer, (1...1 << 31).contains(rowTilesPerChunk)
    else { throw refuse("has no valid scheme: bits 2 to 8, symmetric, form, rowTilesPerChunk", "otq-scheme") }
    guard shape.rank == 2, (shape.dimensions.max() ?? 0) < 1 << 31 else {
      throw refuse("is quantized but no matrix", "otq-scheme")
    }
    // Both dimensions are below 2^31: padded products fit.
    let layout = TileLayout(rowCount: shape.rowCount, columnCount: shape.rowElementCount)
    let byteCount = form == .bytes ? layout.byteCount : layout.packedByteCount(bits: bits)
    let scaleCount = scheme.scaleCount(rowCount: layout.rowCount, columnCount: layout.columnCount)
    var expected = ["codes": byteCount, "scales": scaleCount * 4]
    if !isSymmetric { expected["zeroPoints"] = scaleCount }
    try check(planes, expected, extents, refuse)
    let codes = planes["codes"]?.extents ?? 0..<0
    let tileByteCount = form == .bytes ? layout.rowTileByteCount : layout.packedRowTileByteCount(bits: bits)
    for (index, extent) in extents[codes].enumerated() {
      let firstTile = index.multipliedChecked(by: rowTilesPerChunk) ?? .max
      let tileCount = min(rowTilesPerChunk, layout.rowTileCount - min(firstTile, layout.rowTileCount))
      guard extent.decodedByteCount == tileCount.multipliedChecked(by: tileByteCount),
        form == .bytes || extent.codec == .raw
      else { throw refuse("chunk \(index) of the codes has a wrong length", "otq-plane") }
    }
    return .quantized(scheme, form: form, rowTilesPerChunk: rowTilesPerChunk)
  }

  /// Checks that exactly the expected planes are there, each of its length.
  private static func check(
    _ planes: [String: Plane], _ byteCounts: [String: Int], _ extents: [Extent],
    _ refuse: (String, String) -> Refusal
  ) throws {
    guard Set(planes.keys) == Set(byteCounts.keys) else {
      throw refuse("has planes \(planes.keys.sorted()), not \(byteCounts.keys.sorted())", "otq-plane")
    }
    for (name, plane) in planes {
      let total = extents.decodedByteCount(plane.extents)
      guard total == byteCounts[name] else {
        throw refuse(
          "plane '\(name)' holds \(total ?? -1) bytes, its shape needs \(byteCounts[name] ?? -1)", "otq-plane")
      }
    }
  }
}
