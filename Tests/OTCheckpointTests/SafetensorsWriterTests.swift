import Foundation
import OTCheckpoint
import OTFoundation
import OTTensor
import Testing
import _OTTestSupport

@Suite struct SafetensorsWriterTests {
  private func entry(_ name: String, _ type: ElementType, _ shape: [Int]) throws
    -> SafetensorsWriter.Entry
  {
    .init(name: name, elementType: type, shape: try #require(Shape(shape)))
  }

  @Test func writesTheBytesOfTheFormat() throws {
    try withTemporaryPath("out.safetensors") { path in
      var writer = try SafetensorsWriter(path: path, entries: [try entry("a", .i16, [2])])
      try writer.append([1, 2])
      try writer.append([3, 4])
      try writer.commit()
      let header =
        #"{"__metadata__":{"format":"pt"},"a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}}"#
      let padded = header + String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
      let written = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
      #expect(written == safetensorsBytes(padded, data: [1, 2, 3, 4]))
    }
  }

  @Test func readsBackWhatItWrote() throws {
    var random = SeededGenerator()
    var entries: [SafetensorsWriter.Entry] = []
    var contents: [[UInt8]] = []
    for index in 0..<40 {
      let type = try #require(ElementType.allCases.randomElement(using: &random))
      let rank = Int.random(in: 0...4, using: &random)
      // The last dimension is a multiple of 4: whole bytes in every width.
      var shape = (0..<rank).map { _ in Int.random(in: 0...3, using: &random) }
      shape.append(4)
      let count = shape.reduce(1, *) * type.bitWidth / 8
      entries.append(try entry("layer.\(index).\"weight\" \\ ü", type, shape))
      contents.append((0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) })
    }
    try withTemporaryPath("out.safetensors") { path in
      let expectedByteCount: Int
      do {
        var writer = try SafetensorsWriter(
          path: path, entries: entries, metadata: ["b": "2", "a": "1"])
        expectedByteCount = writer.byteCount
        for content in contents { try writer.append(content) }
        try writer.commit()
      }
      let mapping = try MappedFile(path: path)
      #expect(mapping.byteCount == expectedByteCount)
      let file = try SafetensorsFile(mapping: mapping)
      #expect(file.metadata == ["a": "1", "b": "2"])
      let found = Dictionary(uniqueKeysWithValues: file.tensors.map { ($0.name, $0) })
      for (entry, content) in zip(entries, contents) {
        let view = try #require(found[entry.name], "seed \(random.seed)")
        #expect(view.elementType == entry.elementType && view.shape == entry.shape)
        let start = view.byteOffset
        #expect(
          Array(mapping.bytes(in: start..<start + view.byteCount)) == content,
          "seed \(random.seed)")
      }
    }
  }

  @Test func copiesViewsOfAFixture() throws {
    let source = try Fixture.llama.checkpoint()
    try withTemporaryPath("copy.safetensors") { path in
      let entries = source.tensors.map {
        SafetensorsWriter.Entry(name: $0.name, elementType: $0.elementType, shape: $0.shape)
      }
      var writer = try SafetensorsWriter(path: path, entries: entries)
      for tensor in source.tensors { try writer.append(tensor) }
      try writer.commit()
      let copy = try Checkpoint.open(path)
      #expect(copy.tensors.map(\.name) == source.tensors.map(\.name))
      #expect(zip(copy.tensors, source.tensors).allSatisfy { bytes(of: $0) == bytes(of: $1) })
    }
  }

  /// Rows of 12 bits, and rows that lie transposed in their file.
  @Test func copiesNarrowAndTransposedElements() throws {
    try withTemporaryFolder { folder in
      try write([1, 2, 3, 4, 5, 6], "\(folder)/data")
      let file = try MappedFile(path: "\(folder)/data")
      let narrow = TensorView(
        name: "n", elementType: .f4, shape: try #require(Shape([2, 3])), file: file, byteOffset: 0)
      let transposed = TensorView(
        name: "t", elementType: .u8, shape: try #require(Shape([3, 2])), strides: [1, 3],
        file: file, byteOffset: 0)
      var writer = try SafetensorsWriter(
        path: "\(folder)/out", entries: [entry("n", .f4, [2, 3]), entry("t", .u8, [3, 2])])
      try writer.append(narrow)
      try writer.append(transposed)
      try writer.commit()
      let written = try MappedFile(path: "\(folder)/out")
      #expect(Array(written.bytes.suffix(9)) == [1, 2, 3, 1, 4, 2, 5, 3, 6])
    }
  }

  @Test func ordersByWidthThenName() throws {
    let entries = try [
      entry("z", .u8, [1]), entry("b", .f32, [1]), entry("a", .f32, [1]), entry("c", .f16, [1]),
    ]
    #expect(SafetensorsWriter.Entry.aligned(entries).map(\.name) == ["a", "b", "c", "z"])
  }

  @Test func leavesNothingWithoutCommit() throws {
    try withTemporaryFolder { folder in
      do {
        var writer = try SafetensorsWriter(
          path: "\(folder)/out.safetensors", entries: [try entry("a", .u8, [4])])
        try writer.append([1, 2])
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }

  @Test(arguments: [
    ("safetensors-name", ["a", "a"]), ("safetensors-name", ["__metadata__"]),
    ("safetensors-name", [""]), ("safetensors-name", ["a\u{0}"]), ("safetensors-name", ["a\n"]),
  ])
  func refusesNamesThatTheReaderRefuses(_ rule: String, _ names: [String]) throws {
    try withTemporaryPath("out.safetensors") { path in
      let entries = try names.map { try entry($0, .u8, [1]) }
      let refused = try refusal {
        _ = try SafetensorsWriter(path: path, entries: entries).byteCount
      }
      #expect(refused?.rule == rule)
    }
  }

  @Test func refusesSubByteRemainders() throws {
    try withTemporaryPath("out.safetensors") { path in
      let refused = try refusal {
        _ = try SafetensorsWriter(path: path, entries: [try entry("a", .f4, [3])]).byteCount
      }
      #expect(refused?.rule == "safetensors-sub-byte")
      #expect(refused?.tensor == "a")
    }
  }
}
