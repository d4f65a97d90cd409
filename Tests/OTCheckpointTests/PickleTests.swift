import OTCheckpoint
import Testing
import _OTTestSupport

/// Pickles that accepted-pytorch.md refuses in section 4, numbers 56–67 and 79.
@Suite struct PickleTests {
  static func row(_ rule: String, _ what: String, pickle: Bytes) -> Malformed {
    Malformed(rule, what, Zip(pickle: pickle).bytes)
  }

  /// A dictionary whose one value is `value`.
  static func row(_ rule: String, _ what: String, _ value: Bytes) -> Malformed {
    row(rule, what, pickle: Pickle.whole(Pickle.dictionary([("w", value)])))
  }

  static let head: Bytes = [0x80, 2]

  static let machine: [Malformed] = [
    row("pickle-global", "os.system", Pickle.global("os", "system")),
    row(
      "pickle-global", "builtins.eval called",
      Pickle.global("builtins", "eval") + Pickle.tuple([Pickle.text("1")]) + Pickle.reduce),
    row("pickle-global", "_codecs.encode", Pickle.global("_codecs", "encode")),
    row("pickle-global", "an nn.Module", Pickle.global("torch.nn.modules.linear", "Linear")),
    row("pickle-global", "STACK_GLOBAL", Pickle.text("os") + Pickle.text("system") + [0x93]),
    row("pickle-global", "STACK_GLOBAL of numbers", Pickle.int(1) + Pickle.int(2) + [0x93]),
    row("pickle-forbidden-opcode", "INST", [0x28] + Bytes("ios\nsystem\n".utf8)),
    row("pickle-forbidden-opcode", "OBJ", [0x28, 0x6F]),
    row("pickle-forbidden-opcode", "EXT1", [0x82, 1]),
    row("pickle-forbidden-opcode", "EXT2", [0x83, 1, 0]),
    row("pickle-forbidden-opcode", "EXT4", [0x84, 1, 0, 0, 0]),
    row("pickle-forbidden-opcode", "text PERSID", Bytes("P0\n".utf8)),
    row("pickle-forbidden-opcode", "NEWOBJ_EX", [0x92]),
    row("pickle-opcode", "unknown opcode", [0xFF]),
    row("pickle-protocol", "protocol 6", pickle: [0x80, 6, 0x7D, 0x2E]),
    row("pickle-no-stop", "no STOP", pickle: head + [0x7D]),
    row("pickle-no-stop", "empty", pickle: []),
    row("pickle-trailing-bytes", "a byte behind STOP", pickle: head + [0x7D, 0x2E, 0x2E]),
    row("pickle-stack", "a value left over", pickle: head + [0x7D, 0x7D, 0x2E]),
    row("pickle-stack-underflow", "STOP without a value", pickle: head + [0x2E]),
    row("pickle-stack-underflow", "below a MARK", pickle: head + [0x7D, 0x28, 0x85, 0x2E]),
    row("pickle-stack-underflow", "BINPUT of nothing", pickle: head + [0x71, 0, 0x2E]),
    row("pickle-stack-underflow", "SETITEM on nothing", pickle: head + [0x4E, 0x4E, 0x73, 0x2E]),
    row("pickle-missing-mark", "TUPLE", pickle: head + [0x74, 0x2E]),
    row("pickle-missing-mark", "SETITEMS", pickle: head + [0x7D, 0x75, 0x2E]),
    row("pickle-unset-memo", "BINGET", pickle: head + [0x68, 3, 0x2E]),
    row("pickle-unset-memo", "LONG_BINGET", pickle: head + [0x6A, 255, 255, 255, 255, 0x2E]),
    row("pickle-truncated", "inside a number", pickle: head + [0x4A, 1]),
    row("pickle-truncated", "inside a string", pickle: head + [0x58, 255, 255, 255, 255, 0x61]),
    row(
      "pickle-truncated", "BINUNICODE8 of 2^63",
      pickle: head + [0x8D, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x61]),
    row(
      "pickle-truncated", "a frame past the end", pickle: head + [0x95, 255, 255, 0, 0, 0, 0, 0, 0]),
    row("pickle-truncated", "GLOBAL without newline", pickle: head + Bytes("cos".utf8)),
    row("pickle-utf8", "a string", pickle: head + [0x58, 2, 0, 0, 0, 0xC3, 0x28, 0x2E]),
    row(
      "pickle-utf8", "a lone surrogate", pickle: head + [0x58, 3, 0, 0, 0, 0xED, 0xA0, 0x80, 0x2E]),
    row(
      "pickle-too-large", "values on the stack",
      pickle: head + Bytes(repeating: 0x7D, count: 200_000)),
    row("pickle-too-large", "marks", pickle: head + Bytes(repeating: 0x28, count: 200_000)),
    row("pickle-too-large", "a billion laughs", pickle: billionLaughs),
    row("pickle-nesting", "nested dictionaries", pickle: nested),
    row(
      "pickle-cycle", "a dictionary in itself",
      pickle: head + [0x7D, 0x71, 0] + Pickle.text("a") + [0x68, 0, 0x73, 0x2E]),
    row("pickle-cycle", "a list in itself", pickle: head + [0x5D, 0x71, 0, 0x68, 0, 0x61, 0x2E]),
    row(
      "pickle-reduce", "OrderedDict of a number",
      Pickle.global("collections", "OrderedDict") + Pickle.tuple([Pickle.int(1)]) + Pickle.reduce),
    row(
      "pickle-reduce", "arguments no tuple",
      Pickle.global("collections", "OrderedDict") + Pickle.none + Pickle.reduce),
    row("pickle-reduce", "of a string", Pickle.text("os.system") + [0x29] + Pickle.reduce),
    row(
      "pickle-reduce", "a function by NEWOBJ",
      Pickle.global("torch._utils", "_rebuild_tensor_v2") + [0x29, 0x81]),
    row(
      "pickle-reduce", "a tensor of nothing",
      Pickle.global("torch._utils", "_rebuild_tensor_v2") + [0x29] + Pickle.reduce),
    row(
      "pickle-reduce", "a parameter of a number",
      Pickle.global("torch.nn.parameter", "Parameter") + Pickle.tuple([Pickle.int(1)]) + [0x81]),
    row(
      "pickle-reduce", "a size of strings",
      Pickle.tensor(
        Pickle.storage(), offset: Pickle.int(0), size: Pickle.tuple([Pickle.text("4")]),
        strides: Pickle.tuple([Pickle.int(1)]))),
    row(
      "pickle-reduce", "defaultdict with a storage class",
      Pickle.global("collections", "defaultdict")
        + Pickle.tuple([Pickle.global("torch", "FloatStorage")]) + Pickle.reduce),
    row("pickle-build", "on a dictionary", [0x7D, 0x7D, 0x62]),
    row("pickle-build", "on a tensor", Pickle.tensor() + [0x7D, 0x62]),
    row("pickle-build", "state no dictionary", Pickle.ordered + Pickle.none + [0x62]),
    row("pickle-setitem", "on a list", [0x5D] + Pickle.text("a") + [0x4E, 0x73]),
    row("pickle-setitem", "on a tensor", Pickle.tensor() + Pickle.text("a") + [0x4E, 0x73]),
    row("pickle-setitem", "odd SETITEMS", [0x7D, 0x28] + Pickle.text("a") + [0x75]),
    row("pickle-append", "on a dictionary", [0x7D, 0x4E, 0x61]),
    row("pickle-key", "a truth value", [0x7D, 0x88, 0x4E, 0x73]),
    row("pickle-key", "twice", Pickle.dictionary([("a", Pickle.none), ("a", Pickle.none)])),
    row(
      "pickle-key", "twice by dotted path",
      pickle: Pickle.whole(
        Pickle.dictionary([
          ("a.b", Pickle.tensor()), ("a", Pickle.dictionary([("b", Pickle.tensor())])),
        ]))),
    row("pickle-key", "empty", pickle: Pickle.whole(Pickle.dictionary([("", Pickle.tensor())]))),
    row("pickle-key", "a control character of Latin-1", Pickle.dictionary([("a\u{85}", Pickle.tensor())])),
    row("pickle-key", "NUL", Pickle.dictionary([("a\0", Pickle.tensor())])),
    row(
      "pickle-key", "too long",
      Pickle.dictionary([(String(repeating: "a", count: 5000), Pickle.tensor())])),
  ]

  static var nested: Bytes {
    var bytes = head
    for _ in 0..<5000 { bytes += [0x7D] + Pickle.text("a") }
    bytes += Pickle.none
    return bytes + Bytes(repeating: 0x73, count: 5000) + [0x2E]
  }

  /// Thirty dictionaries, each holding the one before twice.
  static var billionLaughs: Bytes {
    var value: Bytes = [0x7D]
    for level in 0..<30 {
      let before = value + [0x71, UInt8(level)]
      value = Pickle.dictionary([("a", before), ("b", [0x68, UInt8(level)])])
    }
    return Pickle.whole(value)
  }

  @Test(arguments: machine)
  func refuses(_ malformed: Malformed) throws {
    #expect(try malformed.observedRule() == malformed.rule)
  }

  /// Whatever a pickle says, it is read or refused, in little time and memory.
  @Test func survivesRandomPickles() throws {
    var random = SeededGenerator()
    let original = Pickle.whole(
      Pickle.dictionary([
        ("w", Pickle.tensor(metadata: Pickle.dictionary([("conj", Pickle.no)])) + [0x71, 0]),
        (
          "list",
          Pickle.list([[0x68, 0], Pickle.tensor(size: [2, 2], strides: [2, 1]), Pickle.none])
        ),
        (
          "p",
          Pickle.global("torch.nn.parameter", "Parameter") + Pickle.tuple([[0x68, 0]]) + [0x81]
        ),
        ("o", Pickle.ordered + [0x7D, 0x62]),
      ]))
    let opcodes = Bytes("().BCGJKMNQRUX]abcehjqrstu}ioP".utf8) + Bytes(0x80...0x95)
    var readCount = 0
    for _ in 0..<800 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[place] = opcodes.randomElement(using: &random) ?? 0
        case 1: bytes.insert(opcodes.randomElement(using: &random) ?? 0, at: place)
        default: bytes[place] = UInt8.random(in: 0...255, using: &random)
        }
      }
      try withPyTorchFile(Zip(pickle: bytes).bytes) { result in
        guard case .success(let file) = result else { return }
        readCount += 1
        for tensor in file.tensors where tensor.byteCount <= 4096 {
          #expect(tensor.allBytes.count == tensor.byteCount, "seed \(random.seed)")
        }
      }
    }
    #expect(readCount > 0 && readCount < 800, "seed \(random.seed)")
  }
}
