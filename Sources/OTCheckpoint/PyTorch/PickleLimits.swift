/// The most that a pickle may ask for before it is refused.
///
/// Every opcode adds a bounded number of bytes, so these also bound memory.
/// A checkpoint of 30 000 tensors takes about a million opcodes.
enum PickleLimits {
  static let byteCount = 64 << 20
  static let opcodeCount = 4_000_000
  static let stackDepth = 100_000
  static let memoCount = 1_000_000
  /// Dictionaries and lists inside one another, counted from the root.
  static let nestingDepth = 100
  /// Values met on the way to all tensors; shared ones count each time.
  static let visitCount = 4_000_000
  /// Bytes of one dotted path.
  static let nameByteCount = 4096
  /// Bytes of all dotted paths together.
  static let totalNameByteCount = 64 << 20
  static let tensorCount = 500_000
  /// Dictionaries, lists and tuples; a tensor takes about five.
  static let containerCount = 1_000_000
  /// Pairs that Python 2 passes to OrderedDict in one list.
  static let pairCount = 500_000
}
