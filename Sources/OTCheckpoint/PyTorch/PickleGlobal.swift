import OTTensor

/// The names that a pickle may mention, all others being refused.
///
/// They are labels for constructions that `PickleMachine` does itself; no
/// function stands behind any of them.
struct PickleGlobal: Sendable, Equatable {
  enum Meaning: Sendable, Equatable {
    case orderedDictionary, defaultDictionary, dictionary, set, size, parameter
    case rebuildTensor, rebuildTensor2, rebuildTensor3, rebuildParameter
    /// A storage class; nil is the untyped one.
    case storage(ElementType?)
    case elementType(ElementType)

    /// True when it is a class, which NEWOBJ may name.
    var isClass: Bool {
      switch self {
      case .orderedDictionary, .defaultDictionary, .dictionary, .set, .size, .parameter: true
      default: false
      }
    }
  }

  let name: String
  let meaning: Meaning

  /// The result of a lookup.
  enum Lookup {
    case permitted(PickleGlobal)
    /// A known kind of tensor that is not supported.
    case unsupported
    case forbidden
  }

  static func lookUp(module: String, name: String) -> Lookup {
    let path = module + "." + name
    if let meaning = meanings[path] {
      return .permitted(PickleGlobal(name: path, meaning: meaning))
    }
    return unsupported.contains(path) ? .unsupported : .forbidden
  }

  private static let meanings: [String: Meaning] = {
    var meanings: [String: Meaning] = [
      "collections.OrderedDict": .orderedDictionary,
      "collections.defaultdict": .defaultDictionary,
      "__builtin__.dict": .dictionary,
      "builtins.dict": .dictionary,
      "__builtin__.set": .set,
      "builtins.set": .set,
      "torch.Size": .size,
      "torch.nn.parameter.Parameter": .parameter,
      "torch._utils._rebuild_tensor": .rebuildTensor,
      "torch._utils._rebuild_tensor_v2": .rebuildTensor2,
      "torch._utils._rebuild_tensor_v3": .rebuildTensor3,
      "torch._utils._rebuild_parameter": .rebuildParameter,
      "torch.UntypedStorage": .storage(nil),
      "torch.storage.UntypedStorage": .storage(nil),
    ]
    let storages: [(String, ElementType)] = [
      ("Double", .f64), ("Float", .f32), ("Half", .f16), ("BFloat16", .bf16), ("Long", .i64),
      ("Int", .i32), ("Short", .i16), ("Char", .i8), ("Byte", .u8), ("Bool", .bool),
    ]
    for (name, type) in storages { meanings["torch.\(name)Storage"] = .storage(type) }
    let types: [(String, ElementType)] = [
      ("float64", .f64), ("float32", .f32), ("float16", .f16), ("bfloat16", .bf16),
      ("int64", .i64), ("int32", .i32), ("int16", .i16), ("int8", .i8),
      ("uint64", .u64), ("uint32", .u32), ("uint16", .u16), ("uint8", .u8), ("bool", .bool),
      ("float8_e4m3fn", .f8e4m3), ("float8_e5m2", .f8e5m2), ("float8_e8m0fnu", .f8e8m0),
      ("float8_e4m3fnuz", .f8e4m3fnuz), ("float8_e5m2fnuz", .f8e5m2fnuz),
    ]
    for (name, type) in types { meanings["torch.\(name)"] = .elementType(type) }
    return meanings
  }()

  private static let unsupported: Set<String> = {
    var names: Set<String> = [
      "torch._utils._rebuild_qtensor", "torch._utils._rebuild_sparse_tensor",
      "torch._utils._rebuild_sparse_csr_tensor", "torch._utils._rebuild_nested_tensor",
      "torch._utils._rebuild_meta_tensor_no_storage", "torch.complex32", "torch.complex64",
      "torch.complex128",
    ]
    for name in [
      "ComplexFloat", "ComplexDouble", "QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4",
    ] {
      names.insert("torch.\(name)Storage")
    }
    for name in ["qint8", "quint8", "qint32", "quint4x2", "quint2x4"] {
      names.insert("torch.\(name)")
    }
    return names
  }()
}
