import OTJSON

/// All that the graph knows of an operation.
///
/// An operation is a file beside this one, a case of `Operation`, a file of
/// OTRuntime/Operations and a row of formats/otq.md.
protocol OperationBody: Sendable {
  /// Its name in a container.
  var name: String { get }
  /// The kind of the operation.
  var kind: Operation.Kind { get }
  /// The number of values that a node reads.
  var inputCount: Int { get }

  /// Channels of the value: 0 for IDs.
  ///
  /// - Parameters:
  ///   - inputs: channels of the inputs, as many as `inputCount`.
  ///   - isComplete: whether nothing is missing that the model needs.
  /// - Throws: `OperationFault` where the operation does not fit its inputs.
  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int

  /// The rows of the value of `node`, whose inputs have these; where nothing else is said, the same.
  ///
  /// - Throws: `OperationFault` where the inputs' rows do not fit.
  func rows(_ inputs: [ValueRows], of node: String) throws -> ValueRows

  /// Adds its members to the object of a node.
  func write(to object: inout JSONObject)

  /// The parameters of a node whose input and value are transformed so.
  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter]

  /// True when migration can leave a transform on the value.
  var canCarryTransform: Bool { get }
  /// True when a node knows what to do with an input that is transformed.
  var canReadTransform: Bool { get }
  /// True when a node knows what to do with an input that is rotated.
  var canReadRotation: Bool { get }
  /// The transform that those of the inputs give the value; nil where parameters
  /// make up for any.
  ///
  /// - Throws: `OperationFault` where an input cannot be transformed so.
  func passedOn(_ inputs: [ChannelTransform], channelCount: Int) throws -> ChannelTransform?
  /// The place for a transform of the value of `node`; nil where it cannot go into the node.
  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep?
  /// For each channel of the value, the first of those whose transform must equal
  /// its own; nil where every channel is free.
  var sharedChannels: [Int]? { get }
}

extension OperationBody {
  var inputCount: Int { 1 }
  func rows(_ inputs: [ValueRows], of node: String) throws -> ValueRows { try common(inputs) }
  func write(to object: inout JSONObject) {}
  func parameters(input: ChannelTransform, output: ChannelTransform) -> [OperationParameter] { [] }
  var canCarryTransform: Bool { false }
  var canReadTransform: Bool { false }
  var canReadRotation: Bool { false }
  func passedOn(_ inputs: [ChannelTransform], channelCount: Int) throws -> ChannelTransform? { nil }
  func push(_ transform: PushedTransform, into node: Node, of graph: Graph) -> PushStep? { nil }
  var sharedChannels: [Int]? { nil }
}

/// A parameter of a node.
struct OperationParameter {
  /// The tensor's part in the node.
  let role: ParameterUse.Role
  /// Its source; nil where migration creates it.
  let tensor: SourceTensor?
  let dimensions: [Int]
  /// The linear whose weight or bias it is: it makes up for a transform of the input.
  var linear: Linear?
}

/// The fault of an operation's inputs.
struct OperationFault: Error {
  let message: String

  init(_ message: String) { self.message = message }

  static func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw OperationFault(message()) }
  }

  /// Requires dimensions that a graph may have.
  static func requireSizes(_ sizes: Int...) throws {
    try require(
      sizes.allSatisfy { (1...GraphValidation.maximumSize).contains($0) }, "a dimension is not in 1...2^31")
  }

  /// Requires a value, which IDs are not.
  static func requireValue(_ channelCount: Int) throws {
    try require(channelCount > 0, "needs values, not IDs")
  }
}

/// A transform on its way up.
struct PushedTransform {
  /// True when it shifts channels; it may scale them in any case.
  let shifts: Bool
  /// The channel of the site from which each channel of the value takes its entry
  /// (nil: none); the list nil: one to one.
  let channels: [Int?]?
}

/// The place for a transform of a node's value.
enum PushStep {
  /// Into the node's own parameters, which are these.
  case parameters([SourceTensor?])
  /// To the value of the input `name`, which `readers` alone may read.
  case input(String, readers: [String], channels: [Int?]?)
}
