import OTFoundation
import OTJSON
import OTObservation

// What one of several parts of a verification observed of the models.
extension RunObservations {
  /// What the part's file holds.
  package var json: JSONValue {
    var members: JSONObject = [
      "batches": .array(
        batches.map { batch in
          .object(batch.sorted { $0.key < $1.key }.reduce(into: JSONObject()) { $0[$1.key] = $1.value.json })
        }),
      "sites": .object(activities.sorted { $0.key < $1.key }.reduce(into: JSONObject()) { $0[$1.key] = $1.value.json }),
    ]
    members["outputs"] = comparison?.json
    return .object(members)
  }

  /// Reads what a part observed; nil where it is damaged.
  package init?(_ json: JSONValue) {
    func named<Value>(_ json: JSONValue, _ read: (JSONValue) -> Value?) -> [String: Value]? {
      guard let members = json.object?.members else { return nil }
      let values = members.compactMap { key, value in read(value).map { (key, $0) } }
      guard values.count == members.count else { return nil }
      return Dictionary(values, uniquingKeysWith: { first, _ in first })
    }
    guard let batches = json["batches"]?.list({ named($0, OutputError.init) }),
      let sites = json["sites"].flatMap({ named($0, SiteActivity.init) })
    else { return nil }
    let comparison = json["outputs"].map(ModelComparison.init)
    if case .some(.none) = comparison { return nil }
    self.init(batches: batches, activities: sites, comparison: comparison ?? nil)
  }

  /// What one machine would have observed; nil where parts are not of the same nodes, sites and outputs.
  ///
  /// - Parameter parts: all, in order.
  package static func merged(_ parts: [RunObservations]) -> RunObservations? {
    guard let first = parts.first else { return nil }
    var activities = first.activities
    var comparison = first.comparison
    for part in parts.dropFirst() {
      guard Set(part.activities.keys) == Set(activities.keys), (part.comparison == nil) == (comparison == nil)
      else { return nil }
      for (site, next) in part.activities {
        guard activities[site]?.sourceRanges.minima.count == next.sourceRanges.minima.count else { return nil }
        activities[site]?.add(next)
      }
      if let next = part.comparison {
        guard comparison?.isCausal == next.isCausal else { return nil }
        comparison?.add(next)
      }
    }
    let batches = parts.flatMap(\.batches)
    var counts: [String: Int] = [:]
    for (node, error) in batches.lazy.flatMap({ $0 }) {
      guard counts[node] ?? error.squares.count == error.squares.count else { return nil }
      counts[node] = error.squares.count
    }
    return RunObservations(batches: batches, activities: activities, comparison: comparison)
  }
}

extension SiteActivity {
  fileprivate var json: JSONValue {
    .object([
      "sourceRanges": sourceRanges.json, "sourceHistogram": sourceHistogram.json, "packedRanges": packedRanges.json,
      "packedHistogram": packedHistogram.json, "clippedCount": .integer(clippedCount),
      "valueCount": .integer(valueCount),
    ])
  }

  fileprivate init?(_ json: JSONValue) {
    guard let source = json["sourceRanges"].flatMap(ChannelRanges.init),
      let packed = json["packedRanges"].flatMap(ChannelRanges.init), source.minima.count == packed.minima.count,
      let sourceHistogram = json["sourceHistogram"].flatMap(ValueHistogram.init),
      let packedHistogram = json["packedHistogram"].flatMap(ValueHistogram.init),
      let clippedCount = json["clippedCount"]?.count, let valueCount = json["valueCount"]?.count
    else { return nil }
    self.init(channelCount: 0)
    (sourceRanges, packedRanges) = (source, packed)
    (self.sourceHistogram, self.packedHistogram) = (sourceHistogram, packedHistogram)
    (self.clippedCount, self.valueCount) = (clippedCount, valueCount)
  }
}

extension ChannelRanges {
  fileprivate var json: JSONValue { .object(["minima": .bits(of: minima), "maxima": .bits(of: maxima)]) }

  fileprivate init?(_ json: JSONValue) {
    guard let minima = json["minima"]?.bits(as: Float.self), let maxima = json["maxima"]?.bits(as: Float.self),
      minima.count == maxima.count
    else { return nil }
    self.init(minima: minima, maxima: maxima)
  }
}

extension JSONValue {
  /// An integer that can count something in a file; sums of such do not overflow.
  var count: Int? { integer.flatMap { (0...1 << 40).contains($0) ? $0 : nil } }
}
