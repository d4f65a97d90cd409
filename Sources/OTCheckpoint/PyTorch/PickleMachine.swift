import OTFoundation

/// Reads one pickle into inert values.
///
/// A stack machine without a way to call anything: names outside
/// `PickleGlobal` are refused, and the ones inside label constructions done
/// here. Work and memory are linear in the pickle's length and capped by
/// `PickleLimits`; no part of it recurses.
struct PickleMachine {
  /// The container of the pickle: their persistent ids differ.
  enum Container: Sendable { case archive, legacy }

  /// A pickle that was read to its STOP.
  struct Result: Sendable {
    let root: PickleValue
    let heap: PickleHeap
    /// The byte behind STOP.
    let end: Int
  }

  let container: Container
  var cursor: FileCursor
  var heap = PickleHeap()
  /// Heap index of each storage key.
  var storageIndices: [String: Int] = [:]
  /// Offset of the opcode being read.
  private(set) var opcodeOffset: Int
  private var stack: [PickleValue] = []
  /// Heights of the stack at each open MARK.
  private var marks: [Int] = []
  private var memo: [Int: PickleValue] = [:]
  /// Pairs copied out of lists, which may be shared and so repeat.
  var pairCount = 0

  private init(_ cursor: FileCursor, _ container: Container) {
    self.cursor = cursor
    self.container = container
    opcodeOffset = cursor.position
  }

  /// Reads the pickle that starts with `range`.
  ///
  /// - Throws: `Refusal` with a rule `pickle-…` or `pytorch-…`.
  static func read(_ file: MappedFile, _ range: Range<Int>, _ container: Container) throws -> Result {
    let capped = range.lowerBound..<min(range.upperBound, range.lowerBound + PickleLimits.byteCount)
    var machine = PickleMachine(FileCursor(file, capped), container)
    return try machine.run()
  }

  private mutating func run() throws -> Result {
    var opcodeCount = 0
    while let byte = cursor.byte() {
      opcodeOffset = cursor.position - 1
      opcodeCount += 1
      guard opcodeCount <= PickleLimits.opcodeCount else { throw tooLarge("opcodes") }
      guard let opcode = PickleOpcode(rawValue: byte) else {
        throw refuse("pickle-opcode", "has an unknown opcode \(byte)")
      }
      if opcode == .stop {
        let root = try pop()
        guard stack.isEmpty, marks.isEmpty else {
          throw refuse("pickle-stack", "stops with values left on the stack")
        }
        return Result(root: root, heap: heap, end: cursor.position)
      }
      try execute(opcode)
      guard heap.containers.count <= PickleLimits.containerCount,
        heap.tensors.count <= PickleLimits.tensorCount
      else { throw tooLarge("containers or tensors") }
    }
    opcodeOffset = cursor.position
    throw refuse(
      "pickle-no-stop",
      "has a pickle that ends without STOP, or is over \(PickleLimits.byteCount) bytes")
  }

  private mutating func execute(_ opcode: PickleOpcode) throws {
    switch opcode {
    case .stop: break
    case .proto: try checkProtocol()
    case .frame:
      guard cursor.remaining >= 8, let length = cursor.long(), length <= cursor.remaining else {
        throw truncated()
      }
    case .mark:
      marks.append(stack.count)
      guard marks.count <= PickleLimits.stackDepth else { throw tooLarge("marks") }
    case .none: try push(.none)
    case .newTrue: try push(.bool(true))
    case .newFalse: try push(.bool(false))
    case .binInt: try push(.integer(Int(Int32(truncatingIfNeeded: try number(4)))))
    case .binInt1: try push(.integer(try number(1)))
    case .binInt2: try push(.integer(try number(2)))
    case .long1: try push(integer(try bytes(try number(1))))
    case .binFloat:
      _ = try bytes(8)
      try push(.float)
    case .binUnicode: try push(.string(try string(try number(4))))
    case .shortBinUnicode, .shortBinString: try push(.string(try string(try number(1))))
    case .binUnicode8: try push(.string(try string(try longLength())))
    case .shortBinBytes: try pushBytes(try number(1))
    case .binBytes: try pushBytes(try number(4))
    case .emptyDictionary: try push(heap.add(PickleContainer(.dictionary)))
    case .emptyList: try push(heap.add(PickleContainer(.list)))
    case .emptySet: try push(heap.add(PickleContainer(.set)))
    case .emptyTuple: try push(heap.add(PickleContainer(.tuple)))
    case .tuple: try pushTuple(try popToMark())
    case .tuple1: try pushTuple([try pop()])
    case .tuple2:
      let second = try pop()
      try pushTuple([try pop(), second])
    case .tuple3:
      let third = try pop()
      let second = try pop()
      try pushTuple([try pop(), second, third])
    case .append: try append([try pop()], to: .list)
    case .appends: try append(try popToMark(), to: .list)
    case .addItems: try append(try popToMark(), to: .set)
    case .setItem:
      let value = try pop()
      try setItems([try pop(), value])
    case .setItems: try setItems(try popToMark())
    case .binGet: try get(try number(1))
    case .longBinGet: try get(try number(4))
    case .binPut: try put(try number(1))
    case .longBinPut: try put(try number(4))
    case .memoize: try put(memo.count)
    case .global: try pushGlobal(module: try line(), name: try line())
    case .stackGlobal:
      guard case .string(let name) = try pop(), case .string(let module) = try pop() else {
        throw refuse("pickle-global", "names a global with something other than strings")
      }
      try pushGlobal(module: module, name: name)
    case .reduce, .newObject:
      let arguments = try pop()
      try push(try construct(try pop(), arguments, isNewObject: opcode == .newObject))
    case .build:
      let state = try pop()
      try checkBuild(try top(), state)
    case .binPersistentID: try push(try persistentStorage(try pop()))
    case .instance, .object, .extension1, .extension2, .extension4, .persistentID,
      .newObjectExtended:
      throw refuse(
        "pickle-forbidden-opcode",
        "uses the opcode \(opcode), which runs code or names objects elsewhere")
    }
  }

  // MARK: Stack and memo

  private mutating func push(_ value: PickleValue) throws {
    stack.append(value)
    guard stack.count <= PickleLimits.stackDepth else { throw tooLarge("values on the stack") }
  }

  private mutating func pop() throws -> PickleValue {
    guard stack.count > marks.last ?? 0, let value = stack.popLast() else {
      throw refuse("pickle-stack-underflow", "takes a value from an empty stack")
    }
    return value
  }

  private func top() throws -> PickleValue {
    guard stack.count > marks.last ?? 0, let value = stack.last else {
      throw refuse("pickle-stack-underflow", "needs a value on an empty stack")
    }
    return value
  }

  private mutating func popToMark() throws -> [PickleValue] {
    guard let height = marks.popLast() else {
      throw refuse("pickle-missing-mark", "takes values back to a MARK that is not there")
    }
    defer { stack.removeLast(stack.count - height) }
    return Array(stack[height...])
  }

  private mutating func get(_ index: Int) throws {
    guard let value = memo[index] else {
      throw refuse("pickle-unset-memo", "recalls memo \(index), which was never set")
    }
    try push(value)
  }

  private mutating func put(_ index: Int) throws {
    memo[index] = try top()
    guard memo.count <= PickleLimits.memoCount else { throw tooLarge("memos") }
  }

  // MARK: Containers

  private mutating func pushBytes(_ count: Int) throws {
    _ = try bytes(count)
    try push(.bytes)
  }

  private mutating func pushTuple(_ values: [PickleValue]) throws {
    try push(heap.add(PickleContainer(.tuple, values)))
  }

  private mutating func append(_ values: [PickleValue], to kind: PickleContainer.Kind) throws {
    guard case .container(let index) = try top(), heap.containers[index].kind == kind else {
      throw refuse("pickle-append", "appends to something other than a \(kind)")
    }
    for value in values { heap.containers[index].append(value) }
  }

  private mutating func setItems(_ items: [PickleValue]) throws {
    guard case .container(let index) = try top(), heap.containers[index].isDictionary else {
      throw refuse("pickle-setitem", "sets an item of something other than a dictionary")
    }
    guard items.count % 2 == 0 else {
      throw refuse("pickle-setitem", "sets an odd number of keys and values")
    }
    for item in stride(from: 0, to: items.count, by: 2) {
      try insert(items[item], items[item + 1], into: index)
    }
  }

  mutating func insert(_ key: PickleValue, _ value: PickleValue, into index: Int) throws {
    let name: String
    switch key {
    case .string(let text): name = text
    // Optimizers number their parameters.
    case .integer(let number): name = String(number)
    default:
      throw refuse("pickle-key", "has a dictionary key that is \(key.kindName), not a string or an integer")
    }
    // A long key recalled from the memo would be hashed again and again.
    guard name.utf8.count <= PickleLimits.nameByteCount else {
      throw refuse(
        "pickle-key", "has a dictionary key longer than \(PickleLimits.nameByteCount) bytes")
    }
    guard heap.containers[index].insert(value, forKey: name) else {
      throw refuse("pickle-key", "has the dictionary key '\(name)' twice")
    }
  }

  private mutating func pushGlobal(module: String, name: String) throws {
    switch PickleGlobal.lookUp(module: module, name: name) {
    case .permitted(let global): try push(.global(global))
    case .unsupported:
      throw refuse(
        "pytorch-unsupported-tensor",
        "holds a quantized, sparse, nested, meta or complex tensor ('\(module).\(name)')")
    case .forbidden:
      let path = String("\(module).\(name)".prefix(200))
      throw Refusal(
        "pickle-global", "mentions '\(path)', which is not needed for tensors and not allowed",
        file: cursor.file.path, byteOffset: opcodeOffset,
        remedy: "save only a state dict (torch.save(model.state_dict(), …))")
    }
  }

  // MARK: Refusals

  func refuse(_ rule: String, _ message: String) -> Refusal {
    Refusal(rule, message, file: cursor.file.path, byteOffset: opcodeOffset)
  }

  func truncated() -> Refusal {
    refuse("pickle-truncated", "has a pickle that ends inside an opcode")
  }

  func tooLarge(_ what: String) -> Refusal {
    refuse("pickle-too-large", "has a pickle with too many \(what)")
  }
}
