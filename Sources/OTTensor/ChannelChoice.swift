/// Some of the channels of a value, or of the columns of a weight: those that are listed, or all others; in order.
package struct ChannelChoice: Sendable, Hashable {
  /// The channels that are listed, rising.
  package let listed: [Int]
  /// True when all others are meant.
  package let isRest: Bool

  /// The most channels among which some are chosen: the columns of a row tile that a file can hold.
  private static let maximumCount = 1 << 22

  /// - Parameter listed: rising.
  package init(_ listed: [Int], isRest: Bool = false) {
    self.listed = listed
    self.isRest = isRest
  }

  /// The channels that this one leaves.
  package var rest: ChannelChoice { ChannelChoice(listed, isRest: !isRest) }

  /// The fault of the choice among `count` channels; nil where there is none.
  package func fault(among count: Int) -> String? {
    guard !listed.isEmpty else { return "no channels are listed" }
    guard zip(listed, listed.dropFirst()).allSatisfy({ $0 < $1 }), listed[0] >= 0, listed[listed.count - 1] < count
    else {
      return "the channels do not rise within 0..<\(count)"
    }
    guard count <= ChannelChoice.maximumCount else { return "\(count) channels are too many to choose among" }
    return listed.count < count ? nil : "all \(count) channels are listed"
  }

  /// The number of channels of `count` that are chosen.
  package func count(among count: Int) -> Int { isRest ? count - listed.count : listed.count }

  /// The channels of `count` that are chosen.
  ///
  /// - Precondition: it has no fault among so many.
  package func channels(among count: Int) -> [Int] {
    guard isRest else { return listed }
    var left = listed[...]
    return (0..<count).filter { channel in
      guard channel == left.first else { return true }
      left.removeFirst()
      return false
    }
  }
}
