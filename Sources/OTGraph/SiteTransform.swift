/// What migration does to the value of a site: shift, scale, then rotation.
package struct SiteTransform: Sendable, Hashable {
  /// Shift and scale: pushed up where a rule allows it.
  package var channels: ChannelTransform
  /// Applied to what shift and scale give; stays on the edge. nil: none.
  package var rotation: Rotation?

  /// A transform.
  package init(_ channels: ChannelTransform, rotation: Rotation? = nil) {
    self.channels = channels
    self.rotation = rotation
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
  /// Whether there is neither shift, scale nor rotation.
  package var isIdentity: Bool { channels.isIdentity && rotation == nil }
}

/// Where the parts of a site's transform go.
package struct SitePushability: Sendable, Hashable {
  /// Whether a shift goes into the parameters of what gives the site; else it stays on the edge.
  package let shift: Bool
  /// Whether a scale does.
  package let scale: Bool
  /// Whether a rotation does: never, since it mixes channels.
  package var rotation: Bool { false }

  /// Where a shift and a scale go.
  package init(shift: Bool, scale: Bool) {
    self.shift = shift
    self.scale = scale
  }
}
