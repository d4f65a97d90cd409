import OTCheckpoint
import Testing

/// Tensors of a pickle, accepted and refused: section 4 of accepted-pytorch.md, numbers 68–78.
@Suite struct PickleTensorTests {
  static func row(_ rule: String, _ what: String, _ value: Bytes) -> Malformed {
    PickleTests.row(rule, what, value)
  }

  static func row(_ rule: String, _ what: String, pickle: Bytes) -> Malformed {
    PickleTests.row(rule, what, pickle: pickle)
  }

  static let tensors: [Malformed] = [
    row("pickle-persistent-id", "a string", Pickle.text("storage") + [0x51]),
    row(
      "pickle-persistent-id", "a module",
      Pickle.tuple([Pickle.text("module"), Pickle.none, Pickle.none, Pickle.none, Pickle.none]) + [
        0x51
      ]),
    row("pickle-persistent-id", "six fields", Pickle.tensor(Pickle.storage(view: Pickle.none))),
    row(
      "pickle-big-integer", "a size of 2^70",
      Pickle.tensor(
        Pickle.storage(), offset: Pickle.int(0),
        size: Pickle.tuple([[0x8A, 9, 0, 0, 0, 0, 0, 0, 0, 0, 64]]),
        strides: Pickle.tuple([Pickle.int(1)]))),
    row(
      "pickle-big-integer", "an offset of 2^64",
      Pickle.tensor(
        Pickle.storage(), offset: [0x8A, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        size: Pickle.tuple([Pickle.int(4)]), strides: Pickle.tuple([Pickle.int(1)]))),
    row("pytorch-storage-size", "negative", Pickle.tensor(Pickle.storage(count: -1))),
    row("pytorch-storage-size", "bytes overflow", Pickle.tensor(Pickle.storage(count: .max))),
    row(
      "pytorch-storage-size", "two sizes of one storage",
      Pickle.list([Pickle.tensor(), Pickle.tensor(Pickle.storage(count: 5))])),
    row(
      "pytorch-storage-key", "two names that look alike",
      Pickle.list([
        Pickle.tensor(Pickle.storage(key: "\u{E9}")), Pickle.tensor(Pickle.storage(key: "e\u{301}")),
      ])),
    row(
      "pytorch-storage-mismatch", "record too short",
      Pickle.tensor(Pickle.storage(count: 5), size: [5])),
    row(
      "pytorch-storage-mismatch", "record too long",
      Pickle.tensor(Pickle.storage(count: 3), size: [3])),
    row("pytorch-bad-view", "negative offset", Pickle.tensor(offset: -1)),
    row("pytorch-bad-view", "negative size", Pickle.tensor(size: [-1])),
    row("pytorch-bad-view", "negative stride", Pickle.tensor(offset: 3, strides: [-1])),
    row("pytorch-bad-view", "two ranks", Pickle.tensor(size: [2, 2])),
    row(
      "pytorch-bad-view", "rank 9",
      Pickle.tensor(size: [Int](repeating: 1, count: 9), strides: [Int](repeating: 1, count: 9))),
    row(
      "pytorch-bad-view", "sizes overflow beside a zero",
      Pickle.tensor(size: [1 << 40, 1 << 40, 0], strides: [0, 0, 0])),
    row("pytorch-view-outside", "one too far", Pickle.tensor(offset: 1)),
    row("pytorch-view-outside", "by its stride", Pickle.tensor(size: [2], strides: [4])),
    row("pytorch-view-outside", "stride overflows", Pickle.tensor(size: [3], strides: [.max])),
    row("pytorch-view-outside", "empty, far away", Pickle.tensor(offset: 5, size: [0])),
    row("pytorch-expansion", "2^40 from one", Pickle.tensor(size: [1 << 40], strides: [0])),
    row("pytorch-expansion", "2^62 from one", Pickle.tensor(size: [1 << 62], strides: [0])),
    row(
      "pytorch-storage-dtype", "one storage, two types",
      Pickle.list([Pickle.tensor(), Pickle.tensor(Pickle.storage("IntStorage"))])),
    row(
      "pytorch-storage-dtype", "untyped without type",
      Pickle.tensor(Pickle.storage("UntypedStorage", count: 16))),
    row(
      "pytorch-unsupported-tensor", "quantized", Pickle.global("torch._utils", "_rebuild_qtensor")),
    row(
      "pytorch-unsupported-tensor", "sparse",
      Pickle.global("torch._utils", "_rebuild_sparse_tensor")),
    row(
      "pytorch-unsupported-tensor", "complex", Pickle.tensor(Pickle.storage("ComplexFloatStorage"))),
    row("pytorch-unsupported-tensor", "meta", Pickle.tensor(Pickle.storage(location: "meta"))),
    row(
      "pytorch-metadata-bit", "conj",
      Pickle.tensor(metadata: Pickle.dictionary([("conj", Pickle.yes)]))),
    row(
      "pytorch-metadata-bit", "neg",
      Pickle.tensor(metadata: Pickle.dictionary([("neg", Pickle.yes)]))),
    row("pytorch-root", "a tensor", pickle: Pickle.whole(Pickle.tensor())),
    row("pytorch-root", "a list", pickle: Pickle.whole(Pickle.list([Pickle.tensor()]))),
    row("pytorch-root", "a number", pickle: Pickle.whole(Pickle.int(1))),
  ]

  @Test(arguments: tensors)
  func refuses(_ malformed: Malformed) throws {
    #expect(try malformed.observedRule() == malformed.rule)
  }

  // MARK: Accepted

  static let fours: [(String, Bytes)] = [
    ("a GPU's location", Pickle.tensor(Pickle.storage(location: "cuda:3"))),
    ("empty metadata", Pickle.tensor(metadata: [0x7D])),
    ("bits that are not set", Pickle.tensor(metadata: Pickle.dictionary([("conj", Pickle.no)]))),
    (
      "Size",
      Pickle.tensor(
        Pickle.storage(), offset: Pickle.int(0),
        size: Pickle.global("torch", "Size") + Pickle.tuple([Pickle.tuple([Pickle.int(4)])])
          + Pickle.reduce, strides: Pickle.tuple([Pickle.int(1)]))
    ),
    (
      "a parameter by NEWOBJ",
      Pickle.global("torch.nn.parameter", "Parameter") + Pickle.tuple([Pickle.tensor()]) + [0x81]
    ),
    (
      "a parameter with attributes",
      Pickle.global("torch._utils", "_rebuild_parameter")
        + Pickle.tuple([Pickle.tensor(), Pickle.yes, Pickle.ordered]) + Pickle.reduce + [
          0x7D, 0x62,
        ]
    ),
    (
      "the first rebuild function",
      Pickle.global("torch._utils", "_rebuild_tensor")
        + Pickle.tuple([
          Pickle.storage(), Pickle.int(0), Pickle.tuple([Pickle.int(4)]),
          Pickle.tuple([Pickle.int(1)]),
        ]) + Pickle.reduce
    ),
    (
      "the third rebuild function",
      Pickle.tensor3("float32", byteCount: 16, size: [4], strides: [1])
    ),
  ]

  @Test(arguments: fours)
  func acceptsFourFloats(_ what: String, _ tensor: Bytes) throws {
    let content = Bytes(0..<16)
    let zip = Zip(pickle: Pickle.whole(Pickle.dictionary([("w", tensor)])), storages: [content])
    try withPyTorchFile(zip.bytes) { result in
      let tensor = try #require(try result.get().tensors.first)
      #expect(tensor.elementType == .f32)
      #expect(tensor.shape.dimensions == [4])
      #expect(tensor.allBytes == content)
    }
  }

  @Test(arguments: [
    ("uint16", "U16", 2), ("uint32", "U32", 4), ("uint64", "U64", 8), ("bfloat16", "BF16", 2),
  ])
  func acceptsUntypedStorages(_ name: String, _ type: String, _ width: Int) throws {
    let tensor = Pickle.tensor3(name, byteCount: 16, size: [16 / width], strides: [1])
    let zip = Zip(
      pickle: Pickle.whole(Pickle.dictionary([("w", tensor)])), storages: [Bytes(0..<16)])
    try withPyTorchFile(zip.bytes) { result in
      let tensor = try #require(try result.get().tensors.first)
      #expect(tensor.elementType.rawValue == type)
      #expect(tensor.allBytes == Bytes(0..<16))
    }
  }

  /// Python 2 writes SHORT_BINSTRING and OrderedDict's items as one list.
  @Test func acceptsPython2() throws {
    let pair: Bytes = [0x5D, 0x28, 0x55, 1, 0x77] + Pickle.tensor() + [0x65]
    let root =
      Pickle.global("collections", "OrderedDict") + Pickle.tuple([Pickle.list([pair])])
      + Pickle.reduce
    #expect(try openTensors(Zip(pickle: Pickle.whole(root)).bytes).map(\.name) == ["w"])
  }

  /// Protocol 4: FRAME, SHORT_BINUNICODE, MEMOIZE, STACK_GLOBAL, sets and bytes.
  @Test func acceptsProtocol4() throws {
    func short(_ text: String) -> Bytes {
      [0x8C, UInt8(text.utf8.count)] + Bytes(text.utf8) + [0x94]
    }
    let ordered = short("collections") + short("OrderedDict") + [0x93, 0x94, 0x29, 0x52]
    let set: Bytes = [0x8F, 0x28] + Pickle.int(1) + [0x90]
    let bytes: Bytes = [0x43, 2, 1, 2]
    let body =
      ordered + [0x28] + short("w") + Pickle.tensor() + short("s") + set + short("b") + bytes + [
        0x75, 0x2E,
      ]
    let pickle: Bytes = [0x80, 4, 0x95] + little(body.count, 8) + body
    #expect(try openTensors(Zip(pickle: pickle).bytes).map(\.name) == ["w"])
  }

  @Test func sharedDictionariesAppearUnderBothPaths() throws {
    let shared: Bytes = Pickle.dictionary([("w", Pickle.tensor())]) + [0x71, 0]
    let root = Pickle.dictionary([("a", shared), ("b", [0x68, 0])])
    try withPyTorchFile(Zip(pickle: Pickle.whole(root)).bytes) { result in
      let tensors = try result.get().tensors
      #expect(tensors.map(\.name) == ["a.w", "b.w"])
      #expect(tensors[0].sharesElements(with: tensors[1]))
    }
  }
}
