import OTFoundation

/// The container before PyTorch 1.6: five pickles (magic number, protocol,
/// system, object, storage keys), then each storage's element count and bytes.
enum PyTorchLegacy {
  /// 0x1950a86a20f9469cfc6c, least significant byte first.
  private static let magic: [UInt8] = [0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]
  private static let protocolVersion = 1001

  static func contents(_ file: MappedFile) throws -> PyTorchContents {
    var position = 0
    func next() throws -> PickleMachine.Result {
      let result = try PickleMachine.read(file, position..<file.byteCount, .legacy)
      position = result.end
      return result
    }
    func refuse(_ rule: String, _ message: String, _ offset: Int) -> Refusal {
      Refusal(rule, message, file: file.path, byteOffset: offset)
    }

    guard case .bigInteger(magic) = try next().root else {
      throw Refusal(
        "legacy-magic", "is a pickle without the magic number of torch.save", file: file.path,
        byteOffset: 0,
        remedy: "load it in Python and save a state dict with torch.save")
    }
    var start = position
    guard case .integer(protocolVersion) = try next().root else {
      throw refuse("legacy-protocol", "is not of serialisation protocol \(protocolVersion)", start)
    }
    start = position
    try checkSystem(try next(), file, start)
    let object = try next()
    start = position
    let keys = try storageKeys(try next(), file, start)
    guard keys.count == object.heap.storages.count else {
      throw refuse(
        "legacy-keys",
        "lists \(keys.count) storages where its tensors use \(object.heap.storages.count)", start)
    }
    let offsets = try storageOffsets(
      object.heap.storages, keys, file, from: position, listedAt: start)
    return PyTorchContents(
      pickle: object, storageOffsets: offsets, isBigEndian: false, warnings: [])
  }

  private static func checkSystem(_ system: PickleMachine.Result, _ file: MappedFile, _ offset: Int)
    throws
  {
    guard let facts = system.heap.container(system.root), facts.isDictionary else {
      throw Refusal(
        "legacy-system", "lacks its description of the system", file: file.path, byteOffset: offset)
    }
    switch facts["protocol_version"] {
    case nil, .integer(protocolVersion): break
    default:
      throw Refusal(
        "legacy-protocol", "is not of serialisation protocol \(protocolVersion)", file: file.path,
        byteOffset: offset)
    }
    switch facts["little_endian"] {
    case nil, .bool(true): break
    default:
      throw Refusal(
        "legacy-byte-order", "was written on a big-endian machine", file: file.path,
        byteOffset: offset,
        remedy: "load it in PyTorch and save it again")
    }
  }

  private static func storageKeys(
    _ list: PickleMachine.Result, _ file: MappedFile, _ offset: Int
  ) throws -> [String] {
    let values = list.heap.container(list.root).flatMap { $0.kind == .list ? $0.values : nil }
    let keys = values?.compactMap { value in
      if case .string(let key) = value { key } else { nil }
    }
    guard let values, let keys, keys.count == values.count, Set(keys).count == keys.count else {
      throw Refusal(
        "legacy-keys", "does not end in a list of distinct storage keys", file: file.path,
        byteOffset: offset)
    }
    return keys
  }

  /// Offset of each storage; the payload is read in the order of `keys`.
  private static func storageOffsets(
    _ storages: [PickleStorage], _ keys: [String], _ file: MappedFile, from start: Int,
    listedAt listOffset: Int
  ) throws -> [Int] {
    let indices = Dictionary(uniqueKeysWithValues: storages.enumerated().map { ($1.key, $0) })
    var offsets = [Int](repeating: 0, count: storages.count)
    var cursor = FileCursor(file, start..<file.byteCount)
    for key in keys {
      guard let index = indices[key], storages[index].key.hasSameBytes(as: key) else {
        throw Refusal(
          "legacy-keys", "lists a storage '\(key)' that no tensor uses", file: file.path,
          byteOffset: listOffset)
      }
      let storage = storages[index]
      let place = cursor.position
      guard cursor.remaining >= 8 else { throw truncated(file) }
      guard cursor.long() == storage.count else {
        throw Refusal(
          "legacy-storage-size",
          "has a storage '\(key)' that is not of the \(storage.count) elements its tensors expect",
          file: file.path, byteOffset: place)
      }
      offsets[index] = cursor.position
      guard cursor.take(storage.byteCount) != nil else { throw truncated(file) }
    }
    guard cursor.remaining == 0 else {
      throw Refusal(
        "legacy-trailing-bytes", "has \(cursor.remaining) bytes behind its last storage",
        file: file.path,
        byteOffset: cursor.position)
    }
    return offsets
  }

  private static func truncated(_ file: MappedFile) -> Refusal {
    Refusal(
      "legacy-truncated", "ends before its last storage", file: file.path,
      byteOffset: file.byteCount,
      remedy: "the file is incomplete; fetch it again")
  }
}
