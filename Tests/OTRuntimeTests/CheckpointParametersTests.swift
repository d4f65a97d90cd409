import Foundation
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import OTTensor
import Testing
import _OTTestSupport

/// Every role of `ParameterUse`, against its table, worked out by hand.
@Suite struct CheckpointParametersTests {
  /// x → norm (2 channels) → first (3 × 2) → last (1 × 3), `norm` and `first` transformed.
  private func graph() throws -> Graph {
    try Graph(
      family: "test",
      nodes: [
        Node("ids", .tokenIDs),
        Node("x", .embedding(Embedding(table: "t", rowCount: 2, size: 2)), inputs: ["ids"]),
        Node("norm", .rmsNorm(Norm(gamma: "g", beta: nil, epsilon: 0, size: 2)), inputs: ["x"]),
        Node(
          "first",
          .linear(Linear(weight: "w", bias: "b", inFeatures: 2, outFeatures: 3, role: .block)),
          inputs: ["norm"]),
        Node(
          "last",
          .linear(Linear(weight: "v", bias: nil, inFeatures: 3, outFeatures: 1, role: .block)),
          inputs: ["first"]),
      ], outputs: ["hidden": "last"],
      transforms: [
        "norm": ChannelTransform(shift: [1, -2], scale: [2, 0.5]),
        "first": ChannelTransform(shift: [1, 2, 3], scale: [4, 8, 16]),
      ])
  }

  private func tensors(_ values: [(String, [Int], [Float])]) throws -> [TensorView] {
    try withTemporaryFolder { folder in
      let all = values.flatMap(\.2)
      try all.withUnsafeBytes { try Data($0).write(to: URL(fileURLWithPath: folder + "/t")) }
      let file = try MappedFile(path: folder + "/t")
      var offset = 0
      return try values.map { name, dimensions, elements in
        defer { offset += elements.count * 4 }
        return TensorView(
          name: name, elementType: .f32, shape: try #require(Shape(dimensions)), file: file,
          byteOffset: offset)
      }
    }
  }

  @Test func everyRole() throws {
    let graph = try graph()
    let parameters = ParameterReader(
      try tensors([
        ("t", [2, 2], [1, 2, 3, 4]), ("g", [2], [3, 5]),
        ("w", [3, 2], [1, 2, 3, 4, 5, 6]), ("b", [3], [10, 20, 30]), ("v", [1, 3], [1, 1, 2]),
      ]))
    var found: [String: [Float]] = [:]
    for use in graph.parameterUses {
      let whole = try parameters.values(of: use)
      found["\(use.node) \(use.role.rawValue)"] = whole
      // Row by row it is the same.
      let rows = try (0..<use.shape.rowCount).flatMap {
        try parameters.values(of: use, rows: $0..<$0 + 1)
      }
      #expect(rows == whole)
    }
    #expect(found["x table"] == [1, 2, 3, 4])
    #expect(found["norm gamma"] == [1.5, 10])
    #expect(found["norm beta"] == [-0.5, 4])
    // Columns times (2, 0.5), rows by (4, 8, 16).
    #expect(found["first weight"] == [0.5, 0.25, 0.75, 0.25, 0.625, 0.1875])
    // W z = (1 − 4, 3 − 8, 5 − 12); so (10 − 3 − 1)/4, (20 − 5 − 2)/8, (30 − 7 − 3)/16.
    #expect(found["first bias"] == [1.5, 1.625, 1.25])
    #expect(found["last weight"] == [4, 8, 32])
    #expect(found["last bias"] == [9])
    #expect(found.count == 7)
  }

  @Test(arguments: [ElementType.f64, .f32, .f16, .bf16], [false, true])
  func everyElementType(_ type: ElementType, isBigEndian: Bool) throws {
    // Exact in every type, with a subnormal float16 and both zeros.
    let values: [Double] = [0, -0.0, 1, -1.5, 0x1p-14, 96, -0.15625, .infinity]
    var bytes: [UInt8] = []
    for value in values {
      let bits: UInt64 =
        switch type {
        case .f64: value.bitPattern
        case .f32: UInt64(Float(value).bitPattern)
        case .f16: UInt64(Float16(value).bitPattern)
        default: UInt64(Float(value).bitPattern >> 16)
        }
      let little = (0..<type.bitWidth / 8).map { UInt8(truncatingIfNeeded: bits >> ($0 * 8)) }
      bytes += isBigEndian ? little.reversed() : little
    }
    let file = try withTemporaryFolder { folder in
      try Data(bytes).write(to: URL(fileURLWithPath: folder + "/t"))
      return try MappedFile(path: folder + "/t")
    }
    // A transposed view: column-major in the file.
    let view = TensorView(
      name: "t", elementType: type, shape: try #require(Shape([2, 4])), strides: [1, 2],
      file: file, byteOffset: 0, isBigEndian: isBigEndian)
    let graph = try Graph(
      family: "test",
      nodes: [
        Node("ids", .tokenIDs),
        Node("x", .embedding(Embedding(table: "t", rowCount: 2, size: 4)), inputs: ["ids"]),
      ], outputs: ["hidden": "x"])
    let use = try #require(graph.parameterUses.first)
    let read = try ParameterReader([view]).values(of: use)
    #expect(
      read.map(\.bitPattern) == [0, 2, 4, 6, 1, 3, 5, 7].map { Float(values[$0]).bitPattern })
  }
}
