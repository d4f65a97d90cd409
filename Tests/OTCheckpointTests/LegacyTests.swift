import OTCheckpoint
import Testing

/// The container before PyTorch 1.6: section 5 of accepted-pytorch.md, numbers 80–87.
@Suite struct LegacyTests {
  static func object(_ tensor: Bytes = Legacy.tensor()) -> Bytes {
    Pickle.whole(Pickle.dictionary([("w", tensor)]))
  }

  static let good = Legacy(object())

  static func view(_ offset: Int, _ count: Int) -> Bytes {
    Pickle.tuple([Pickle.text("v"), Pickle.int(offset), Pickle.int(count)])
  }

  static let malformed: [Malformed] = [
    Malformed("legacy-magic", "another number", good.with { $0.magic[2] ^= 1 }),
    Malformed("legacy-magic", "a plain pickle", Pickle.whole([0x7D])),
    Malformed("legacy-protocol", "1002", good.with { $0.version = 1002 }),
    Malformed("legacy-byte-order", "big-endian", good.with { $0.isLittleEndian = false }),
    Malformed("legacy-system", "a list", good.with { $0.system = [0x5D] }),
    Malformed("legacy-keys", "none listed", good.with { $0.keys = [] }),
    Malformed("legacy-keys", "another listed", good.with { $0.keys = ["1"] }),
    Malformed("legacy-keys", "one twice", good.with { $0.keys = ["0", "0"] }),
    Malformed("legacy-storage-size", "fewer elements", good.with { $0.payload[0] = 3 }),
    Malformed("legacy-storage-size", "2^63 elements", good.with { $0.payload[7] = 0x80 }),
    Malformed("legacy-truncated", "inside the data", good.with { $0.payload.removeLast() }),
    Malformed("legacy-truncated", "inside the count", good.with { $0.payload = [4, 0, 0] }),
    Malformed("legacy-trailing-bytes", "one", good.with { $0.payload.append(0) }),
    Malformed(
      "legacy-view-outside", "too long", Legacy(object(Legacy.tensor(view: view(1, 4)))).bytes),
    Malformed(
      "legacy-view-outside", "negative", Legacy(object(Legacy.tensor(view: view(-1, 2)))).bytes),
    Malformed(
      "legacy-view-outside", "overflow", Legacy(object(Legacy.tensor(view: view(.max, 2)))).bytes),
    Malformed(
      "pytorch-view-outside", "tensor outside its view",
      Legacy(object(Legacy.tensor(view: view(1, 2)))).bytes),
    Malformed(
      "legacy-tar", "tar",
      Bytes(repeating: 0x61, count: 257) + Bytes("ustar\0".utf8) + Bytes(repeating: 0, count: 300)),
    Malformed("pickle-persistent-id", "five fields", Legacy(object(Pickle.tensor())).bytes),
    Malformed(
      "pickle-persistent-id", "a module",
      Legacy(object(Pickle.tuple([Pickle.text("module")]) + [0x51])).bytes),
    Malformed(
      "pickle-global", "evil object", Legacy(object(Pickle.global("posix", "system"))).bytes),
    Malformed("pickle-no-stop", "ends behind the magic", Bytes(good.bytes.prefix(15))),
  ]

  @Test(arguments: malformed)
  func refuses(_ malformed: Malformed) throws {
    #expect(try malformed.observedRule() == malformed.rule)
  }

  @Test func viewsStartWhereTheyAreSaid() throws {
    let legacy = Legacy(Self.object(Legacy.tensor(view: Self.view(1, 2), size: [2])))
    let bytes = legacy.with { $0.payload = little(4, 8) + Bytes(0..<16) }
    #expect(try openTensors(bytes)[0].allBytes == Bytes(4..<12))
  }

  @Test func storagesLieInTheOrderOfTheKeys() throws {
    let items = ["a", "b"].map {
      ($0, Pickle.tensor(Pickle.storage(key: $0, count: 1, view: Pickle.none), size: [1]))
    }
    let legacy = Legacy(Pickle.whole(Pickle.dictionary(items)))
    let bytes = legacy.with {
      $0.keys = ["b", "a"]
      $0.payload = little(1, 8) + [1, 2, 3, 4] + little(1, 8) + [5, 6, 7, 8]
    }
    #expect(try openTensors(bytes).map(\.allBytes) == [[5, 6, 7, 8], [1, 2, 3, 4]])
  }
}
