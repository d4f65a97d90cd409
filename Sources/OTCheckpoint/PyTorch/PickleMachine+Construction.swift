import OTFoundation
import OTTensor

extension PickleMachine {
  /// The value of REDUCE or NEWOBJ of `callee` with `arguments`.
  mutating func construct(
    _ callee: PickleValue, _ arguments: PickleValue, isNewObject: Bool
  ) throws -> PickleValue {
    guard case .global(let global) = callee else {
      throw refuse("pickle-reduce", "builds an object of \(callee.kindName)")
    }
    guard let values = heap.tuple(arguments), !isNewObject || global.meaning.isClass else {
      throw badArguments(global)
    }
    switch global.meaning {
    case .orderedDictionary: return try orderedDictionary(global, values)
    case .defaultDictionary:
      switch values.first {
      case nil, .some(.none): break
      case .global(let factory) where factory.meaning == .dictionary: break
      default: throw badArguments(global)
      }
      guard values.count <= 1 else { throw badArguments(global) }
      return heap.add(PickleContainer(.defaultDictionary))
    case .dictionary:
      guard values.isEmpty else { throw badArguments(global) }
      return heap.add(PickleContainer(.dictionary))
    case .set:
      guard values.count <= 1 else { throw badArguments(global) }
      guard let argument = values.first else { return heap.add(PickleContainer(.set)) }
      guard let items = heap.container(argument), items.kind == .list else { throw badArguments(global) }
      pairCount += items.values.count
      guard pairCount <= PickleLimits.pairCount else { throw tooLarge("items") }
      return heap.add(PickleContainer(.set, items.values))
    case .size:
      guard values.count == 1, let dimensions = heap.tuple(values[0]) else {
        throw badArguments(global)
      }
      return heap.add(PickleContainer(.tuple, dimensions))
    case .rebuildTensor:
      guard values.count == 4 else { throw badArguments(global) }
      return try tensor(global, values, elementType: nil)
    case .rebuildTensor2:
      guard values.count == 6 || values.count == 7 else { throw badArguments(global) }
      try checkFlags(global, values[4], hooks: values[5], metadata: values.dropFirst(6).first)
      return try tensor(global, values, elementType: nil)
    case .rebuildTensor3:
      guard values.count == 7 || values.count == 8, case .global(let type) = values[6],
        case .elementType(let elementType) = type.meaning
      else { throw badArguments(global) }
      try checkFlags(global, values[4], hooks: values[5], metadata: values.dropFirst(7).first)
      return try tensor(global, values, elementType: elementType)
    case .parameter:
      guard values.count == 1 || values.count == 2 else { throw badArguments(global) }
      if values.count == 2, case .bool = values[1] {
      } else if values.count == 2 {
        throw badArguments(global)
      }
      return try parameter(global, values[0])
    case .rebuildParameter:
      guard values.count == 3 else { throw badArguments(global) }
      try checkFlags(global, values[1], hooks: values[2], metadata: nil)
      return try parameter(global, values[0])
    case .storage, .elementType: throw badArguments(global)
    }
  }

  /// BUILD gives attributes to an object; ours have none, so the state is
  /// only looked at to see that it could not change what was built.
  func checkBuild(_ object: PickleValue, _ state: PickleValue) throws {
    guard heap.container(state)?.isDictionary == true else {
      throw refuse(
        "pickle-build", "gives an object a state that is \(state.kindName), not a dictionary")
    }
    switch object {
    case .container(let index) where heap.containers[index].kind == .orderedDictionary: return
    case .tensor(let index) where heap.tensors[index].isParameter: return
    default:
      throw refuse(
        "pickle-build", "gives attributes to something other than an OrderedDict or Parameter")
    }
  }

  private mutating func orderedDictionary(
    _ global: PickleGlobal, _ values: [PickleValue]
  ) throws -> PickleValue {
    guard values.count <= 1 else { throw badArguments(global) }
    let result = heap.add(PickleContainer(.orderedDictionary))
    // Python 2 passes the items as one list of pairs.
    guard let argument = values.first else { return result }
    guard case .container(let index) = result, let items = heap.container(argument),
      items.kind == .list
    else {
      throw badArguments(global)
    }
    pairCount += items.values.count
    guard pairCount <= PickleLimits.pairCount else { throw tooLarge("pairs") }
    for item in items.values {
      guard let pair = heap.container(item), !pair.isDictionary, pair.values.count == 2 else {
        throw badArguments(global)
      }
      try insert(pair.values[0], pair.values[1], into: index)
    }
    return result
  }

  // MARK: Tensors

  private mutating func parameter(_ global: PickleGlobal, _ value: PickleValue) throws
    -> PickleValue
  {
    guard case .tensor(let index) = value else { throw badArguments(global) }
    let tensor = heap.tensors[index]
    heap.tensors.append(
      PickleTensor(
        storage: tensor.storage, elementType: tensor.elementType, shape: tensor.shape,
        strides: tensor.strides, storageByteOffset: tensor.storageByteOffset, isParameter: true))
    return .tensor(heap.tensors.count - 1)
  }

  private func checkFlags(
    _ global: PickleGlobal, _ requiresGradient: PickleValue, hooks: PickleValue,
    metadata: PickleValue?
  ) throws {
    guard case .bool = requiresGradient else { throw badArguments(global) }
    switch hooks {
    case .none: break
    case .container(let index)
    where heap.containers[index].isDictionary && heap.containers[index].values.isEmpty: break
    default: throw badArguments(global)
    }
    switch metadata {
    case nil, .some(.none): break
    case .container(let index) where heap.containers[index].isDictionary:
      guard heap.containers[index].values.count <= 16 else { throw badArguments(global) }
      for (key, value) in zip(heap.containers[index].keys, heap.containers[index].values) {
        if case .bool(false) = value { continue }
        throw refuse(
          "pytorch-metadata-bit",
          "has a tensor marked '\(key)', whose values are not the stored ones")
      }
    default: throw badArguments(global)
    }
  }

  /// A tensor from (storage, offset, size, strides, …).
  private mutating func tensor(
    _ global: PickleGlobal, _ values: [PickleValue], elementType: ElementType?
  ) throws -> PickleValue {
    guard case .storage(let viewIndex) = values[0] else { throw badArguments(global) }
    let view = heap.storageViews[viewIndex]
    let storage = heap.storages[view.storage]
    let type: ElementType
    switch (storage.elementType, elementType) {
    case (let stored?, nil): type = stored
    case (nil, let stated?): type = stated
    case (let stored?, let stated?):
      guard stored == stated else {
        throw refuse(
          "pytorch-storage-dtype", "reads a storage of \(stored.rawValue) as \(stated.rawValue)")
      }
      type = stated
    case (nil, nil):
      throw refuse(
        "pytorch-storage-dtype", "has a tensor over an untyped storage without an element type")
    }
    let offset = try count(values[1], global)
    let dimensions = try counts(values[2], global)
    let strides = try counts(values[3], global)
    guard dimensions.count == strides.count, let shape = Shape(dimensions), offset >= 0,
      strides.allSatisfy({ $0 >= 0 })
    else {
      throw refuse(
        "pytorch-bad-view",
        "has a tensor of size \(dimensions), strides \(strides), offset \(offset): negative, "
          + "too large, of more than \(Shape.maximumRank) dimensions, or of two ranks")
    }
    let byteWidth = type.bitWidth / 8
    let available = storage.elementType == nil ? view.range.count / byteWidth : view.range.count
    guard let end = PickleMachine.end(of: shape, strides, offset), end <= available else {
      throw refuse(
        "pytorch-view-outside",
        "has a tensor of size \(dimensions), strides \(strides), offset \(offset) over a "
          + "storage of only \(available) elements")
    }
    // Repeated elements take no room in the file, but do once they are read.
    let permitted = max((available.multipliedChecked(by: 16) ?? .max), 1 << 20)
    guard shape.elementCount <= permitted, type.byteCount(elementCount: shape.elementCount) != nil
    else {
      throw refuse(
        "pytorch-expansion", "expands \(available) elements to a tensor of size \(dimensions)")
    }
    let unit = (storage.elementType?.bitWidth ?? 8) / 8
    heap.tensors.append(
      PickleTensor(
        storage: view.storage, elementType: type, shape: shape, strides: strides,
        // Both products are at most the storage's bytes.
        storageByteOffset: view.range.lowerBound * unit + offset * byteWidth, isParameter: false))
    return .tensor(heap.tensors.count - 1)
  }

  /// One past the last element that the view reaches; nil on overflow.
  private static func end(of shape: Shape, _ strides: [Int], _ offset: Int) -> Int? {
    guard shape.elementCount > 0 else { return offset }
    var end = offset.addingChecked(1)
    for (dimension, stride) in zip(shape.dimensions, strides) {
      guard let reach = (dimension - 1).multipliedChecked(by: stride) else { return nil }
      end = end?.addingChecked(reach)
    }
    return end
  }

  private func count(_ value: PickleValue, _ global: PickleGlobal) throws -> Int {
    if case .integer(let count) = value { return count }
    if case .bigInteger = value {
      throw refuse("pickle-big-integer", "has a size, stride or offset of more than 8 bytes")
    }
    throw badArguments(global)
  }

  private func counts(_ value: PickleValue, _ global: PickleGlobal) throws -> [Int] {
    guard let values = heap.tuple(value) else { throw badArguments(global) }
    // Long tuples are refused by rank; no need to carry them into a message.
    return try values.prefix(Shape.maximumRank + 1).map { try count($0, global) }
  }

  private func badArguments(_ global: PickleGlobal) -> Refusal {
    refuse("pickle-reduce", "gives '\(global.name)' arguments of the wrong number or type")
  }

  // MARK: Storages

  /// The storage that `('storage', class, key, location, count[, view])` names.
  mutating func persistentStorage(_ identifier: PickleValue) throws -> PickleValue {
    let expected = container == .archive ? 5 : 6
    guard let values = heap.tuple(identifier), values.count == expected,
      case .string("storage") = values[0], case .global(let global) = values[1],
      case .storage(let elementType) = global.meaning, case .string(let key) = values[2],
      case .string(let location) = values[3], key.utf8.count <= PickleLimits.nameByteCount
    else {
      throw refuse(
        "pickle-persistent-id",
        "has a persistent id other than ('storage', class, key, location, count)")
    }
    guard location != "meta" else {
      throw refuse(
        "pytorch-unsupported-tensor", "holds a tensor on the 'meta' device, which has no data")
    }
    if case .bigInteger = values[4] {
      throw refuse("pickle-big-integer", "has a storage size of more than 8 bytes")
    }
    guard case .integer(let count) = values[4], count >= 0,
      (elementType ?? .u8).byteCount(elementCount: count) != nil
    else {
      throw refuse("pytorch-storage-size", "has a storage whose size is negative or too large")
    }
    let storage = PickleStorage(
      key: key, elementType: elementType, count: count, byteOffset: opcodeOffset)
    let index = try register(storage)
    let range = container == .archive ? 0..<count : try viewRange(values[5], within: count)
    heap.storageViews.append(PickleStorageView(storage: index, range: range))
    return .storage(heap.storageViews.count - 1)
  }

  private mutating func register(_ storage: PickleStorage) throws -> Int {
    guard let index = storageIndices[storage.key] else {
      heap.storages.append(storage)
      storageIndices[storage.key] = heap.storages.count - 1
      return heap.storages.count - 1
    }
    let earlier = heap.storages[index]
    guard earlier.key.hasSameBytes(as: storage.key) else {
      throw refuse("pytorch-storage-key", "names two storages '\(storage.key)' that only look alike")
    }
    guard earlier.elementType == storage.elementType else {
      throw refuse("pytorch-storage-dtype", "uses storage '\(storage.key)' with two element types")
    }
    guard earlier.count == storage.count else {
      throw refuse("pytorch-storage-size", "uses storage '\(storage.key)' with two sizes")
    }
    return index
  }

  /// A legacy view `(key, offset, count)`, or None for the whole storage.
  private func viewRange(_ value: PickleValue, within count: Int) throws -> Range<Int> {
    if case .none = value { return 0..<count }
    guard let values = heap.tuple(value), values.count == 3, case .string = values[0],
      case .integer(let offset) = values[1], case .integer(let length) = values[2]
    else {
      throw refuse("pickle-persistent-id", "has a storage view other than (key, offset, count)")
    }
    guard offset >= 0, length >= 0, let end = offset.addingChecked(length), end <= count else {
      throw refuse("legacy-view-outside", "has a storage view that reaches outside its storage")
    }
    return offset..<end
  }
}
