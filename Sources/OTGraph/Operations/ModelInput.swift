/// IDs that a model reads: they have no channels.
enum ModelInput: String, OperationBody {
  case tokenIDs = "token_ids"
  case positionIDs = "position_ids"
  case tokenTypeIDs = "token_type_ids"

  var name: String { rawValue }
  var kind: Operation.Kind { .input }
  var inputCount: Int { 0 }

  func channelCount(inputs: [Int], isComplete: Bool) throws -> Int { 0 }
}
