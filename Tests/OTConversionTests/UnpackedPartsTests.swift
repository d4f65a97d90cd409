import OTCheckpoint
import OTContainer
import OTExport
import OTFoundation
import OTGraph
import OTJSON
import OTModel
import OTTensor
import OTVerify
import Testing
import _OTTestSupport

/// Source tensors of which a graph reads transposes, rows and elements.
@Suite struct UnpackedPartsTests {
  /// `w` [32, 48] holds two weights side by side, as Conv1D has them; `s` [2, 16, 16] is a stack;
  /// `g` is read plus 1, and `n` is no part of anything.
  static let shapes = [("e", [8, 16]), ("g", [16]), ("n", [3]), ("s", [2, 16, 16]), ("w", [16, 32])]

  private func checkpoint(_ folder: String) throws -> Checkpoint {
    var builder = CheckpointBuilder()
    for (offset, (name, dimensions)) in Self.shapes.enumerated() {
      // Multiples of 1/64 below 2^10: sums with 1 are exact.
      let count = dimensions.reduce(1, *)
      builder.add(name, dimensions, floats: (0..<count).map { Float($0 * 7 % 1021 + offset) / 64 })
    }
    return try builder.write(to: folder + "/model.safetensors")
  }

  private func graph() throws -> Graph {
    func linear(_ weight: SourceTensor) -> OTGraph.Operation {
      .linear(Linear(weight: weight, bias: nil, inFeatures: 16, outFeatures: 16, role: .block))
    }
    return try Graph(
      family: "test",
      nodes: [
        Node("ids", .tokenIDs),
        Node("embedding", .embedding(Embedding(table: "e", rowCount: 8, size: 16)), inputs: ["ids"]),
        Node("norm", .rmsNorm(Norm(gamma: .plus("g", 1), beta: nil, epsilon: 1e-5, size: 16)), inputs: ["embedding"]),
        Node("a", linear(.rows(of: .transposed("w"), 0..<16)), inputs: ["norm"]),
        Node("b", linear(.rows(of: .transposed("w"), 16..<32)), inputs: ["a"]),
        Node("c", linear(.element(of: "s", 1)), inputs: ["b"]),
        Node("d", linear(.transposed(.element(of: "s", 0))), inputs: ["c"]),
      ], outputs: ["hidden": "d"])
  }

  /// A file of the graph's parameters, all but `without`.
  private func packed(_ checkpoint: Checkpoint, without: String? = nil, to path: String) throws -> PackedModel {
    let graph = try graph()
    let parameters = ParameterReader(checkpoint.tensors)
    let writer = try ContainerWriter(path: path)
    for use in graph.parameterUses where use.node != without {
      let source = try #require(use.tensor)
      let values = try parameters.values(of: use, rows: 0..<use.shape.rowCount)
      let whole = try #require(checkpoint[source.name]).shape
      writer.addPlain(
        name: use.outputName, shape: use.shape, elementType: .f32,
        values: try values.withUnsafeBytes { try writer.append(plane: $0) },
        source: .init(name: source.name, elementType: .f32, shape: whole == use.shape ? nil : whole))
    }
    let carried = try #require(checkpoint["n"])
    writer.addPlain(
      name: "n", shape: carried.shape, elementType: .f32,
      values: try carried.withRowBytes(0..<3) { try writer.append(plane: $0) },
      source: .init(name: "n", elementType: .f32))
    try writer.commit(metadata: ["graph": without == nil ? graph.json : .null])
    return try PackedModel(path: path)
  }

  private func bytes(_ view: TensorView) -> [UInt8] { view.withRowBytes(0..<view.shape.rowCount) { Array($0) } }

  @Test(arguments: [1, 3]) func partsArePutTogether(threadCount: Int) throws {
    try withTemporaryFolder { folder in
      let checkpoint = try checkpoint(folder)
      let file = try packed(checkpoint, to: folder + "/m.otq")
      try PackedExport(file, isRestored: true, threadCount: threadCount).run(
        into: SafetensorsFileWriter(ExportOutput(path: folder + "/u.safetensors")))
      let unpacked = try Checkpoint.open(folder + "/u.safetensors")
      #expect(Set(unpacked.tensors.map(\.name)) == Set(checkpoint.tensors.map(\.name)))
      for view in checkpoint.tensors {
        let other = try #require(unpacked[view.name])
        #expect(other.shape == view.shape && bytes(other) == bytes(view), "\(view.name)")
      }
      let verification = try WeightVerification(
        of: file, reference: SourceModel(path: folder + "/model.safetensors"))
      // No family has this graph.
      #expect(verification.offenders.allSatisfy { $0.storage == "graph" })
    }
  }

  /// Places against a walk over every element.
  @Test func placesCoverExactly() throws {
    let shape = try #require(Shape([4, 6]))
    let parts: [SourceTensor] = [
      "w", .transposed("w"), .rows(of: "w", 0..<2), .rows(of: "w", 2..<4), .rows(of: "w", 1..<4),
      .rows(of: .transposed("w"), 0..<3), .rows(of: .transposed("w"), 3..<6), .element(of: "w", 3),
      .rows(of: .rows(of: "w", 1..<4), 0..<2), .rows(of: "w", 0..<1),
      .columns(of: "w", ChannelChoice([1, 4])), .columns(of: "w", ChannelChoice([1, 4], isRest: true)),
      .columns(of: .rows(of: "w", 2..<4), ChannelChoice([0, 5])),
      .columns(of: .transposed("w"), ChannelChoice([0, 1])),
    ]
    let places = try parts.map { try #require($0.place(in: shape)) }
    for chosen in 0..<1 << parts.count {
      let some = places.indices.filter { chosen >> $0 & 1 == 1 }.map { places[$0] }
      var counts = [Int](repeating: 0, count: 24)
      for place in some {
        for row in place.box[0] {
          for column in place.box[1] where place.columns.map({ $0.contains(place.axes[1] == 1 ? column : row) }) ?? true
          {
            counts[row * 6 + column] += 1
          }
        }
      }
      #expect(SourcePlace.cover(some, shape) == counts.allSatisfy { $0 == 1 })
    }
    #expect(SourceTensor.rows(of: "w", 2..<5).place(in: shape) == nil)
    #expect(SourceTensor.element(of: .element(of: "w", 0), 0).place(in: shape) == nil)
  }

  /// Two files that say that their one tensor is all of a source that it is a half of.
  @Test func partsThatAreMissingAreNamed() throws {
    try withTemporaryFolder { folder in
      var builder = CheckpointBuilder()
      builder.add("w", [4, 2], floats: (0..<8).map(Float.init))
      _ = try builder.write(to: folder + "/model.safetensors")
      let writer = try ContainerWriter(path: folder + "/m.otq")
      let values = try [Float](0..<4).withUnsafeBytes { try writer.append(plane: $0) }
      writer.addPlain(
        name: "w", shape: try #require(Shape([2, 2])), elementType: .f32, values: values,
        source: .init(name: "w", elementType: .f32, shape: Shape([4, 2])))
      try writer.commit(metadata: [:])
      let file = try PackedModel(path: folder + "/m.otq")
      let refusal = #expect(throws: Refusal.self) {
        try PackedExport(file, isRestored: true).run(
          into: SafetensorsFileWriter(ExportOutput(path: folder + "/u.safetensors")))
      }
      #expect(refusal?.rule == "export-source" && refusal?.tensor == "w")
      let verification = try WeightVerification(of: file, reference: SourceModel(path: folder + "/model.safetensors"))
      #expect(!verification.hasPassed)
    }
  }
}

extension [Float] {
  fileprivate init(_ range: Range<Int>) { self = range.map(Float.init) }
}
