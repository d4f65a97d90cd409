import OTJSON
import OTTensor

/// Some channels of a value, in their order.
///
/// Migration puts two before linears whose channels it splits: those that stay in floating point, and the rest.
package struct Gather: Sendable, Hashable {
  /// The channels that are taken.
  package let channels: ChannelChoice
  /// Channels of the input.
  package let size: Int

  /// Takes some channels of a value of `size`.
  package init(_ channels: ChannelChoice, size: Int) {
    self.channels = channels
    self.size = size
  }
}

extension Gather: OperationBody {
  var name: String { "gather" }
  var kind: Operation.Kind { .slice }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int {
    try OperationFault.requireValue(inputs[0])
    try OperationFault.require(inputs[0] == size, "reads \(inputs[0]) channels, not \(size)")
    if let fault = channels.fault(among: size) { throw OperationFault(fault) }
    return channels.count(among: size)
  }

  var canCarryTransform: Bool { true }
  var canReadTransform: Bool { true }

  func passedOn(_ inputs: [ChannelTransform], channelCount: Int) throws -> ChannelTransform? {
    inputs[0].gathered(channels.channels(among: size))
  }

  func write(to object: inout JSONObject) {
    object["size"] = .integer(size)
    object = channels.added(to: object)
  }

  init(reader: GraphReader) throws {
    self.init(
      try ChannelChoice(json: reader.json("channels"), rest: reader.json("without")) { reader.refusal($0) },
      size: try reader.integer("size"))
  }
}

extension ChannelChoice {
  /// An object with `channels` more, or with `without` where all others are meant.
  func added(to object: JSONObject) -> JSONObject {
    var object = object
    object[isRest ? "without" : "channels"] = .array(listed.map { .integer($0) })
    return object
  }

  init(json: JSONValue?, rest: JSONValue?, refusal: (String) -> any Error) throws {
    guard let list = json ?? rest, json == nil || rest == nil, let elements = list.array else {
      throw refusal("it has a list of 'channels', or one 'without' which it takes all")
    }
    let channels = elements.compactMap(\.integer)
    guard channels.count == elements.count else { throw refusal("a channel is not an integer") }
    self.init(channels, isRest: rest != nil)
  }
}
