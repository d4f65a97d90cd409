/// The transform that migration put on a value: it is `(x − shift) ⊘ scale`, channel by channel.
package struct ChannelTransform: Sendable, Hashable {
  /// Subtracted from each channel; nil stands for zeros.
  package let shift: [Float]?
  /// Divides each channel, positive; nil stands for ones.
  package let scale: [Float]?

  /// A transform; `Graph` validates lengths and values.
  package init(shift: [Float]? = nil, scale: [Float]? = nil) {
    self.shift = shift
    self.scale = scale
  }

  /// The transform that changes nothing.
  package static let identity = ChannelTransform()

  /// True when neither vector is there.
  package var isIdentity: Bool { shift == nil && scale == nil }

  /// True when any channel is shifted.
  var shifts: Bool { shift?.contains { $0 != 0 } ?? false }

  /// True when both do the same to every channel.
  func isSame(as other: ChannelTransform) -> Bool {
    func isSame(_ a: [Float]?, _ b: [Float]?, default plain: Float) -> Bool {
      guard let a = a ?? b.map({ [Float](repeating: plain, count: $0.count) }) else { return true }
      return a == b ?? [Float](repeating: plain, count: a.count)
    }
    return isSame(shift, other.shift, default: 0) && isSame(scale, other.scale, default: 1)
  }

  /// This transform, then `second`: `(z₁ + s₁·z₂, s₁·s₂)`, each product and
  /// sum rounded once.
  package func followed(by second: ChannelTransform) -> ChannelTransform {
    var shift = self.shift
    if let later = second.shift {
      let scaled = scale.map { zip($0, later).map { $0 * $1 } } ?? later
      shift = shift.map { zip($0, scaled).map { $0 + $1 } } ?? scaled
    }
    guard let first = scale, let later = second.scale else {
      return ChannelTransform(shift: shift, scale: scale ?? second.scale)
    }
    return ChannelTransform(shift: shift, scale: zip(first, later).map { $0 * $1 })
  }

  /// The transform whose channel `i` is this one's channel `channels[i]`; nil
  /// entries are left unchanged by it.
  func gathered(_ channels: [Int?]) -> ChannelTransform {
    ChannelTransform(
      shift: shift.map { shift in channels.map { $0.map { shift[$0] } ?? 0 } },
      scale: scale.map { scale in channels.map { $0.map { scale[$0] } ?? 1 } })
  }

  /// The fault of the vectors for a value of `channelCount` channels;
  /// nil when nothing is.
  func fault(channelCount: Int) -> String? {
    for (vector, name) in [(shift, "shift"), (scale, "scale")] {
      guard let vector else { continue }
      guard vector.count == channelCount else {
        return "\(name) has \(vector.count) entries for \(channelCount) channels"
      }
      if let index = vector.firstIndex(where: { !$0.isFinite }) {
        return "\(name)[\(index)] is \(vector[index])"
      }
    }
    if let index = scale?.firstIndex(where: { $0 <= 0 }) {
      return "scale[\(index)] is not positive"
    }
    return nil
  }
}
