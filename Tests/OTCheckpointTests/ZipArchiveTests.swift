import OTCheckpoint
import Testing

/// Section 3 of accepted-pytorch.md, numbers 42–55, at least one row each.
@Suite struct ZipArchiveTests {
  static let good = Zip(pickle: Pickle.whole(Pickle.dictionary([("w", Pickle.tensor())])))

  static func entry(_ index: Int, _ change: (inout Zip.Entry) -> Void) -> Bytes {
    good.with { change(&$0.entries[index]) }
  }

  static func extra(_ name: String, _ content: Bytes = [1]) -> Bytes {
    good.with { $0.entries.append(Zip.Entry(name: name, content: content)) }
  }

  static let malformed: [Malformed] = [
    Malformed("pytorch-other-format", "7z", [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C, 0, 0, 0, 0]),
    Malformed("pytorch-other-format", "gzip", [0x1F, 0x8B, 8, 0, 0, 0, 0, 0]),
    Malformed("pytorch-other-format", "HDF5", [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]),
    Malformed("pytorch-other-format", "PYTORCH1", Bytes("PYTORCH1".utf8) + little(0, 16)),
    Malformed(
      "pytorch-lfs", "Git LFS pointer", Bytes("version https://git-lfs.github.com/spec/v1\n".utf8)),
    Malformed("zip-end-missing", "cut in half", Bytes(good.bytes.prefix(good.bytes.count / 2))),
    Malformed("zip-end-missing", "bytes behind the end", good.bytes + [0]),
    Malformed("zip-zip64-locator", "no locator", good.with { $0.zip64LocatorOffset = 0 }),
    Malformed(
      "zip-zip64-locator", "locator into the data",
      good.with {
        $0.hasZip64End = true
        $0.zip64LocatorOffset = 0
      }),
    Malformed(
      "zip-zip64-locator", "locator past the end",
      good.with {
        $0.hasZip64End = true
        $0.zip64LocatorOffset = .max
      }),
    Malformed(
      "zip-directory-outside", "directory past the end",
      good.with { $0.directoryOffset = 0x7FFF_FFFF }),
    Malformed("zip-directory", "directory before its place", good.with { $0.directoryOffset = 0 }),
    Malformed("zip-directory", "one entry too many", good.with { $0.entryCount = 9 }),
    Malformed("zip-end-record", "one disk of several", good.with { $0.disk = 1 }),
    Malformed(
      "zip-too-many-records", "a million and one",
      good.with {
        $0.hasZip64End = true
        $0.entryCount = 1_000_001
      }),
    Malformed("zip-local-name", "two names", entry(2) { $0.localName = "archive/data/1" }),
    Malformed("zip-flags", "encrypted", entry(2) { $0.flags = 1 }),
    Malformed("zip-flags", "odd flag", entry(2) { $0.flags = 0x20 }),
    Malformed("zip-duplicate-record", "data/0 twice", extra("archive/data/0")),
    Malformed("zip-name", "..", extra("archive/../x")),
    Malformed("zip-name", "absolute", extra("/archive/x")),
    Malformed("zip-name", "backslash", extra("archive\\x")),
    Malformed("zip-name", "no folder", extra("x")),
    Malformed("zip-folder", "two top folders", extra("other/x")),
    Malformed("zip-compressed", "DEFLATE", entry(2) { $0.method = 8 }),
    Malformed("zip-sizes", "stored sizes differ", entry(2) { $0.compressedByteCount = 15 }),
    Malformed("zip-overlap", "two entries at one place", overlapping),
    Malformed("zip-record-outside", "content past the directory", pastDirectory),
    Malformed("zip-directory", "no ZIP64 sizes", withoutZip64Sizes),
    Malformed("zip-local-header", "no local header", entry(2) { $0.headerOffset = 3 }),
    Malformed("zip-checksum", "damaged storage", entry(2) { $0.checksum = 1 }),
    Malformed("zip-checksum", "damaged pickle", entry(0) { $0.checksum = 1 }),
    Malformed("pytorch-record-missing", "no data.pkl", good.with { $0.entries.remove(at: 0) }),
    Malformed("pytorch-record-missing", "no data/0", good.with { $0.entries.remove(at: 2) }),
    Malformed("pytorch-record-missing", "no version", good.with { $0.entries.remove(at: 3) }),
    Malformed("pytorch-byteorder", "middle", entry(1) { $0.content = Bytes("middle".utf8) }),
    Malformed("pytorch-program", "TorchScript", extra("archive/constants.pkl")),
    Malformed("pytorch-program", ".pt2", extra("archive/archive_format")),
    Malformed("pytorch-version", "11", entry(3) { $0.content = Bytes("11\n".utf8) }),
    Malformed("pytorch-version", "not a number", entry(3) { $0.content = Bytes("three".utf8) }),
  ]

  /// Two directory entries, one local header.
  static var overlapping: Bytes {
    good.with {
      var twin = $0.entries[2]
      twin.name = "archive/data/7"
      // The twin's header lies inside the content of the entry before it.
      let inner = Zip([twin]).bytes
      $0.entries[2].content = inner
      $0.entries.append(twin)
      $0.entries[4].headerOffset =
        Zip(Array($0.entries[..<2])).dataByteCount + 30 + "archive/data/0".utf8.count
    }
  }

  static let pastDirectory = entry(3) {
    $0.hasZip64Sizes = true
    $0.flags = 8
    $0.byteCount = 1 << 40
  }

  static let withoutZip64Sizes = entry(2) {
    $0.hasZip64Sizes = true
    $0.lacksZip64Extra = true
  }

  @Test(arguments: malformed)
  func refuses(_ malformed: Malformed) throws {
    #expect(try malformed.observedRule() == malformed.rule)
  }

  static let accepted: [(String, Bytes)] = [
    ("plain", good.bytes),
    ("with a comment", good.with { $0.comment = Bytes("made by hand".utf8) }),
    ("with ZIP64 end records", good.with { $0.hasZip64End = true }),
    ("with ZIP64 sizes", entry(2) { $0.hasZip64Sizes = true }),
    ("with data descriptors", entry(2) { $0.flags = 0x808 }),
    ("with a folder entry", extra("archive/", [])),
    ("without byteorder", good.with { $0.entries.remove(at: 1) }),
    ("with records nobody names", extra("archive/.data/serialization_id")),
  ]

  @Test(arguments: accepted)
  func accepts(_ what: String, _ bytes: Bytes) throws {
    try withPyTorchFile(bytes) { result in
      let file = try result.get()
      #expect(file.tensors.map(\.name) == ["w"])
      #expect(file.warnings.isEmpty)
    }
  }

  @Test func checksumOfZeroIsAWarning() throws {
    let bytes = Self.good.with { zip in
      zip.entries[2].content = Bytes(1...16)
      zip.entries[2].checksum = 0
    }
    try withPyTorchFile(bytes) { result in
      let file = try result.get()
      #expect(file.warnings.count == 1)
      #expect(file.tensors[0].allBytes == Bytes(1...16))
    }
  }

  @Test func bigEndianBytesAreTurned() throws {
    let pickle = Pickle.whole(Pickle.dictionary([("w", Pickle.tensor())]))
    let zip = Zip(pickle: pickle, storages: [Bytes(0..<16)], byteOrder: "big")
    try withPyTorchFile(zip.bytes) { result in
      let tensor = try result.get().tensors[0]
      #expect(tensor.allBytes == [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12])
    }
  }
}

extension Zip {
  /// Bytes before the directory.
  var dataByteCount: Int {
    entries.reduce(0) { $0 + 30 + $1.name.utf8.count + $1.content.count }
  }
}
