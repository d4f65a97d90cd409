import OTTensor

/// The transform of a site's value: shift, scale, then channels that are read apart, then rotation of the others.
package struct SiteTransform: Sendable, Hashable {
  /// Shift and scale: pushed up where a rule allows it.
  package var channels: ChannelTransform
  /// Channels that stay in floating point: linears of their own read them, and the site has the others. nil: none.
  package var floatChannels: ChannelChoice?
  /// Applied to what shift and scale give; stays on the edge. nil: none.
  package var rotation: Rotation?
  /// True when shift and scale stay on the edge, too, where no norm takes them: rows of weights that share
  /// one step with other rows would suffer.
  package var staysOnEdge: Bool

  /// A transform.
  package init(
    _ channels: ChannelTransform, floatChannels: ChannelChoice? = nil, rotation: Rotation? = nil,
    staysOnEdge: Bool = false
  ) {
    self.channels = channels
    self.floatChannels = floatChannels
    self.rotation = rotation
    self.staysOnEdge = staysOnEdge
  }

  /// A transform by its parts.
  package init(shift: [Float]? = nil, scale: [Float]? = nil, rotation: Rotation? = nil) {
    self.init(ChannelTransform(shift: shift, scale: scale), rotation: rotation)
  }

  /// The transform that changes nothing.
  package static let identity = SiteTransform(.identity)

  /// Subtracted from each channel; nil stands for zeros.
  package var shift: [Float]? { channels.shift }
  /// Divides each channel; nil stands for ones.
  package var scale: [Float]? { channels.scale }
  /// True when nothing is done.
  package var isIdentity: Bool { channels.isIdentity && floatChannels == nil && rotation == nil }

  /// The rotation where nothing else is done; nil where something else is, or nothing.
  package var soleRotation: Rotation? { channels.isIdentity && floatChannels == nil ? rotation : nil }

  /// This transform, then `second`; nil where that is no shift, scale and rotation in this order.
  package func followed(by second: SiteTransform) -> SiteTransform? {
    if second.isIdentity { return self }
    if isIdentity { return second }
    guard rotation == nil, floatChannels == nil, second.floatChannels == nil,
      second.channels.isIdentity || second.staysOnEdge == staysOnEdge
    else { return nil }
    return SiteTransform(
      channels.followed(by: second.channels), rotation: second.rotation, staysOnEdge: staysOnEdge)
  }
}

/// The places for the parts of a site's transform.
package struct SitePushability: Sendable, Hashable {
  /// True when a shift goes into the parameters of what gives the site; else it stays on the edge.
  package let shift: Bool
  /// True when a scale does.
  package let scale: Bool
  /// True when a rotation does: never, since it mixes channels.
  package var rotation: Bool { false }

  /// The places for a shift and a scale.
  package init(shift: Bool, scale: Bool) {
    self.shift = shift
    self.scale = scale
  }
}
