import OTTensor

/// A value that a pickle describes. None of them can be called.
///
/// Containers, storages and tensors are indices into a `PickleHeap`, so that
/// shared and cyclic values are plain data, and none is freed by recursion.
enum PickleValue: Sendable {
  case none
  case bool(Bool)
  case integer(Int)
  /// An integer of more than 8 bytes: little-endian, two's complement.
  case bigInteger([UInt8])
  case float
  case bytes
  case string(String)
  case global(PickleGlobal)
  case container(Int)
  case storage(Int)
  case tensor(Int)

  /// Its name in a message.
  var kindName: String {
    switch self {
    case .none: "None"
    case .bool: "a truth value"
    case .integer: "an integer"
    case .bigInteger: "an integer of more than 8 bytes"
    case .float: "a float"
    case .bytes: "bytes"
    case .string: "a string"
    case .global(let global): "the global '\(global.name)'"
    case .container: "a container"
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }
}

/// A dictionary, list, tuple or set. Keys are strings, each at most once.
struct PickleContainer: Sendable {
  enum Kind: Sendable { case dictionary, orderedDictionary, defaultDictionary, list, tuple, set }

  let kind: Kind
  /// One per value in a dictionary, else empty.
  private(set) var keys: [String] = []
  private(set) var values: [PickleValue]
  private var positions: [String: Int] = [:]

  init(_ kind: Kind, _ values: [PickleValue] = []) {
    self.kind = kind
    self.values = values
  }

  var isDictionary: Bool {
    switch kind {
    case .dictionary, .orderedDictionary, .defaultDictionary: true
    case .list, .tuple, .set: false
    }
  }

  /// - Precondition: a dictionary.
  subscript(key: String) -> PickleValue? { positions[key].map { values[$0] } }

  mutating func append(_ value: PickleValue) { values.append(value) }

  /// False, and nothing done, when the key is there already.
  mutating func insert(_ value: PickleValue, forKey key: String) -> Bool {
    guard positions.updateValue(values.count, forKey: key) == nil else { return false }
    keys.append(key)
    values.append(value)
    return true
  }
}

/// The storage that a persistent id names: data kept outside the pickle.
struct PickleStorage: Sendable {
  /// A record's name in an archive, a root's key in a legacy file.
  let key: String
  /// Nil for an untyped storage, which counts bytes.
  let elementType: ElementType?
  /// Elements, or bytes when untyped, of the whole storage.
  let count: Int
  /// Offset of the persistent id in the file.
  let byteOffset: Int

  /// Bytes of the whole storage; the product was checked when it was made.
  var byteCount: Int { count &* (elementType?.bitWidth ?? 8) / 8 }
}

/// A storage, or in a legacy file a range of one.
struct PickleStorageView: Sendable {
  /// Index into the heap's storages.
  let storage: Int
  /// In units of the storage.
  let range: Range<Int>
}

/// A tensor over a storage. It was checked to lie inside it.
struct PickleTensor: Sendable {
  let storage: Int
  let elementType: ElementType
  let shape: Shape
  let strides: [Int]
  /// From the start of the whole storage.
  let storageByteOffset: Int
  let isParameter: Bool
}

/// Everything that one pickle made.
struct PickleHeap: Sendable {
  var containers: [PickleContainer] = []
  var storages: [PickleStorage] = []
  var storageViews: [PickleStorageView] = []
  var tensors: [PickleTensor] = []

  mutating func add(_ container: PickleContainer) -> PickleValue {
    containers.append(container)
    return .container(containers.count - 1)
  }

  func container(_ value: PickleValue) -> PickleContainer? {
    guard case .container(let index) = value else { return nil }
    return containers[index]
  }

  /// The values of a tuple.
  func tuple(_ value: PickleValue) -> [PickleValue]? {
    guard let container = container(value), container.kind == .tuple else { return nil }
    return container.values
  }
}
