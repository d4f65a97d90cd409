import OTJSON
import OTObservation
import OTVerify

/// What quantization does at one site alone, on the source's own values: the columns of table 6 of Outlier
/// Suppression+. u = (x − z) ⊘ s, rotated where the site is, is what is quantized; y = u·Wᵀ what the linears give.
package struct SiteFigures: Sendable {
  /// Σ(v − v̂)² and Σv² over all elements of a value, and how many there are, in float64.
  package struct Error: Sendable, Hashable {
    /// Σ(v − v̂)².
    package var squaredError = 0.0
    /// Σv².
    package var squares = 0.0
    /// Elements.
    package var count = 0

    /// Nothing compared yet.
    package init() {}

    /// Σ(v − v̂)² / Σv²: 0 where nothing differs.
    package var relative: Double { squaredError == 0 ? 0 : squaredError / squares }
    /// The mean of (v − v̂)².
    package var meanSquare: Double { count == 0 ? 0 : squaredError / Double(count) }

    /// Adds values v and v̂.
    mutating func add(_ values: some Sequence<Float>, _ approximations: some Sequence<Float>) {
      for (value, approximation) in zip(values, approximations) {
        let difference = Double(value) - Double(approximation)
        squaredError += difference * difference
        squares += Double(value) * Double(value)
        count += 1
      }
    }
  }

  /// The node that gives the site's value, in the packed file's graph.
  package let producer: String
  /// The linears that read it.
  package let consumers: [String]
  /// The quantization of its values, in words.
  package let activationScheme: String
  /// The quantization of its weights, in words.
  package let weightScheme: String
  /// x, channel by channel.
  package let ranges: ChannelRanges
  /// x − z.
  package let shiftedRanges: ChannelRanges
  /// (x − z) ⊘ s: where one static scale serves all channels in its steps, since the step is part of s.
  package let scaledRanges: ChannelRanges
  /// True where there is a shift.
  package let isShifted: Bool
  /// True where there is a scale.
  package let isScaled: Bool
  /// Of the activations, u against û.
  package var activation = Error()
  /// Of the weights W, all linears of the site, as they are with s and the rotation in them.
  package var weight = Error()
  /// Of the linears' outputs y, with û and Ŵ.
  package var output = Error()
  /// Of the outputs where the channels stay as they are: a scale per token, each weight of the same scheme to the nearest
  /// value; nil where it was not looked at.
  package var untransformed: Error?

  /// A site before anything is run.
  package init(
    producer: String, consumers: [String], activationScheme: String, weightScheme: String, ranges: ChannelRanges,
    shiftedRanges: ChannelRanges, scaledRanges: ChannelRanges, isShifted: Bool, isScaled: Bool
  ) {
    (self.producer, self.consumers) = (producer, consumers)
    (self.activationScheme, self.weightScheme) = (activationScheme, weightScheme)
    (self.ranges, self.shiftedRanges, self.scaledRanges) = (ranges, shiftedRanges, scaledRanges)
    (self.isShifted, self.isScaled) = (isShifted, isScaled)
  }

  /// The errors alone, relative.
  package var errors: SiteErrors {
    SiteErrors(
      activation: activation.relative, weight: weight.relative, output: output.relative,
      untransformedOutput: untransformed?.relative)
  }

  /// Least and greatest value of any channel.
  package static func reach(_ ranges: ChannelRanges) -> ClosedRange<Double> {
    let least = Double(ranges.minima.min() ?? 0), most = Double(ranges.maxima.max() ?? 0)
    return least <= most ? least...most : 0...0
  }
}

extension SiteFigures.Error {
  /// `[Σ(v − v̂)², Σv², elements]`.
  var json: JSONValue { .array([.finite(squaredError), .finite(squares), .integer(count)]) }

  init?(json: JSONValue?) {
    guard let list = json?.array, list.count == 3, let error = list[0].measured, let squares = list[1].measured,
      let count = list[2].integer
    else { return nil }
    (squaredError, self.squares, self.count) = (error, squares, count)
  }
}

extension ChannelRanges {
  /// `[[minima], [maxima]]` of at most as many columns as a chart shows.
  fileprivate var json: JSONValue {
    let columns = RangeChart.columns(self)
    return .array([
      .array(columns.map { .finite(Double($0.minimum)) }), .array(columns.map { .finite(Double($0.maximum)) }),
    ])
  }

  fileprivate init?(json: JSONValue?) {
    guard let lists = json?.array?.map({ $0.array?.compactMap { $0.measured.map(Float.init) } ?? [] }),
      lists.count == 2,
      lists[0].count == lists[1].count
    else { return nil }
    self.init(minima: lists[0], maxima: lists[1])
  }
}

extension SiteFigures {
  /// All figures; ranges of more channels than a chart shows are those of its columns.
  package var json: JSONValue {
    var members: JSONObject = [
      "producer": .string(producer), "consumers": .array(consumers.map { .string($0) }),
      "activationScheme": .string(activationScheme), "weightScheme": .string(weightScheme), "ranges": ranges.json,
    ]
    if isShifted { members["shiftedRanges"] = shiftedRanges.json }
    if isScaled { members["scaledRanges"] = scaledRanges.json }
    members["activation"] = activation.json
    members["weight"] = weight.json
    members["output"] = output.json
    members["untransformed"] = untransformed?.json
    return .object(members)
  }

  /// The figures that `json` holds; nil when it holds none.
  package init?(json: JSONValue) {
    guard let producer = json["producer"]?.string, let consumers = json["consumers"]?.array?.compactMap(\.string),
      let activationScheme = json["activationScheme"]?.string, let weightScheme = json["weightScheme"]?.string,
      let ranges = ChannelRanges(json: json["ranges"]), let activation = Error(json: json["activation"]),
      let weight = Error(json: json["weight"]), let output = Error(json: json["output"])
    else { return nil }
    let shifted = ChannelRanges(json: json["shiftedRanges"])
    let scaled = ChannelRanges(json: json["scaledRanges"])
    self.init(
      producer: producer, consumers: consumers, activationScheme: activationScheme, weightScheme: weightScheme,
      ranges: ranges, shiftedRanges: shifted ?? ranges, scaledRanges: scaled ?? shifted ?? ranges,
      isShifted: shifted != nil, isScaled: scaled != nil)
    (self.activation, self.weight, self.output) = (activation, weight, output)
    untransformed = Error(json: json["untransformed"])
  }
}
