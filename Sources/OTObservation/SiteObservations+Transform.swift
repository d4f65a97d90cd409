import OTGraph

extension SiteObservations {
  /// The observations as they would be of (x − z) ⊘ s. Another tool's scales, measured on values already
  /// shifted, cannot be shifted again: a transform with a shift leaves them out.
  ///
  /// - Precondition: the transform has an entry for each channel.
  package func transformed(by transform: ChannelTransform) -> SiteObservations {
    guard !transform.isIdentity else { return self }
    var result = SiteObservations(
      ranges: ranges?.transformed(by: transform), foreignScales: foreignScales?.transformed(by: transform))
    result.channelMoments = channelMoments?.transformed(by: transform)
    result.sampleRanges = sampleRanges?.map { $0.transformed(by: transform) }
    result.moments = moments?.transformed(by: transform)
    result.rows = rows?.transformed(by: transform)
    result.wholeSamples = wholeSamples?.transformed(by: transform)
    return result
  }
}

extension SiteRanges {
  /// The ranges of (x − z) ⊘ s.
  func transformed(by transform: ChannelTransform) -> SiteRanges {
    let count = Double(sampleCount)
    return SiteRanges(
      extremes: extremes.transformed(by: transform),
      midpointSum: midpointSum.enumerated().map { channel, sum in
        (sum - count * Double(transform.shift?[channel] ?? 0)) / Double(transform.scale?[channel] ?? 1)
      }, sampleCount: sampleCount)
  }
}

extension ChannelRanges {
  /// The ranges of (x − z) ⊘ s.
  func transformed(by transform: ChannelTransform) -> ChannelRanges {
    ChannelRanges(minima: transform.applied(to: minima), maxima: transform.applied(to: maxima))
  }
}

extension ForeignScales {
  /// The scales of x ⊘ s; nil where x is shifted.
  func transformed(by transform: ChannelTransform) -> ForeignScales? {
    guard transform.shift == nil, let scale = transform.scale else { return nil }
    return ForeignScales(
      midpoint: midpoint.map { zip($0, scale).map { $0 / $1 } },
      absoluteMaximum: zip(absoluteMaximum, scale).map { $0 / $1 })
  }
}

extension KeptRows {
  /// The rows of (x − z) ⊘ s.
  func transformed(by transform: ChannelTransform) -> KeptRows {
    var result = self
    result.values = transform.applied(to: values)
    return result
  }
}

extension ChannelTransform {
  /// Rows of (x − z) ⊘ s, of values `[rows, channels]`, each operation rounded once.
  package func applied(to values: [Float]) -> [Float] {
    guard let channelCount = (shift ?? scale)?.count, channelCount > 0 else { return values }
    var values = values
    values.withUnsafeMutableBufferPointer { values in
      for start in stride(from: 0, to: values.count, by: channelCount) {
        if let shift { for channel in 0..<channelCount { values[start + channel] -= shift[channel] } }
        if let scale { for channel in 0..<channelCount { values[start + channel] /= scale[channel] } }
      }
    }
    return values
  }
}
