/// Something that can be observed of a site; a method names what it needs, and only that is gathered.
package enum ObservationKind: Sendable, Hashable {
  /// Least and greatest value and midpoints of each channel: `SiteObservations.ranges`.
  case ranges
  /// Sums and sums of squares of each channel: `SiteObservations.channelMoments`.
  case channelMoments
  /// Least and greatest value of each channel in each sample: `SiteObservations.sampleRanges`.
  case sampleRanges
  /// Sums of the products of channels: `SiteObservations.moments`.
  case moments
  /// Rows at even distances over all samples, at most so many: `SiteObservations.rows`.
  case rows(count: Int)
  /// All rows of samples at even distances, at most so many samples, for what
  /// attention makes of them: `SiteObservations.wholeSamples`.
  case wholeSamples(count: Int)
}

/// The observations of a site: the parts that were asked for.
package struct SiteObservations: Sendable, Equatable {
  /// Ranges of the channels.
  package var ranges: SiteRanges?
  /// Sums and sums of squares of each channel.
  package var channelMoments: ChannelMoments?
  /// Ranges of the channels in each sample.
  package var sampleRanges: [ChannelRanges]?
  /// Second moments of the channels.
  package var moments: SecondMoments?
  /// Σ (x − x̂) x̂ᵀ, `[channel of x − x̂, channel of x̂]`, x in the float network and x̂ in the quantized one.
  package var drift: [Double]?
  /// Rows from all samples.
  package var rows: KeptRows?
  /// All rows of some samples.
  package var wholeSamples: KeptRows?
  /// Another tool's measurement, as its file gives it.
  package var foreignScales: ForeignScales?

  /// Observations with some parts.
  package init(ranges: SiteRanges? = nil, foreignScales: ForeignScales? = nil) {
    self.ranges = ranges
    self.foreignScales = foreignScales
  }

  /// Channels of the site; nil where nothing is known.
  package var channelCount: Int? {
    ranges?.channelCount ?? sampleRanges?.first?.minima.count ?? channelMoments?.channelCount ?? moments?.channelCount
      ?? rows?.channelCount ?? wholeSamples?.channelCount ?? foreignScales?.absoluteMaximum.count
  }

  /// True when no token reached the site, or nothing was observed of it.
  package var isEmpty: Bool {
    ranges == nil && foreignScales == nil && (sampleRanges ?? []).isEmpty && channelMoments?.rowCount ?? 0 == 0
      && moments?.rowCount ?? 0 == 0 && (rows?.places ?? []).isEmpty && (wholeSamples?.places ?? []).isEmpty
  }

  /// max|x| of each channel, measured here or by another tool; nil where it is not known.
  package var absoluteMaximum: [Float]? {
    if let ranges { return ranges.absoluteMaximum }
    return foreignScales?.midpoint == nil ? foreignScales?.absoluteMaximum : nil
  }

  /// The union of both; nil where one has a part that the other lacks.
  ///
  /// - Precondition: they have the same number of channels.
  func merged(with other: SiteObservations) -> SiteObservations? {
    if isEmpty || other.isEmpty { return isEmpty ? other : self }
    func merge<Part>(_ a: Part?, _ b: Part?, _ join: (Part, Part) -> Part?) -> (isSound: Bool, part: Part?) {
      guard let a, let b else { return (a == nil && b == nil, nil) }
      let joined = join(a, b)
      return (joined != nil, joined)
    }
    let ranges = merge(ranges, other.ranges) { $0.merged(with: $1) }
    let channelMoments = merge(channelMoments, other.channelMoments) { $0.merged(with: $1) }
    let sampleRanges = merge(sampleRanges, other.sampleRanges) { $0 + $1 }
    let moments = merge(moments, other.moments) { $0.merged(with: $1) }
    let rows = merge(rows, other.rows) { $0.merged(with: $1) }
    let samples = merge(wholeSamples, other.wholeSamples) { $0.merged(with: $1) }
    // What another tool measured says too little of its samples to be joined.
    let scales = merge(foreignScales, other.foreignScales) { $0 == $1 ? $0 : nil }
    guard ranges.isSound, sampleRanges.isSound, channelMoments.isSound, moments.isSound, rows.isSound, samples.isSound,
      scales.isSound
    else { return nil }
    var result = SiteObservations(ranges: ranges.part, foreignScales: scales.part)
    (result.sampleRanges, result.channelMoments) = (sampleRanges.part, channelMoments.part)
    (result.moments, result.rows, result.wholeSamples) = (moments.part, rows.part, samples.part)
    return result
  }
}
