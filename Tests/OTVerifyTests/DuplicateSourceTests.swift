import OTCheckpoint
import OTContainer
import OTConversion
import OTModel
import OTTensor
import OTVerify
import Testing
import _OTTestSupport

/// A file in which two tensors claim to stand for one of the source.
@Suite struct DuplicateSourceTests {
  private func write(_ values: [Float], to path: String) throws {
    var writer = try SafetensorsWriter(
      path: path, entries: [.init(name: "w", elementType: .f32, shape: #require(Shape([values.count])))])
    try values.withUnsafeBytes { try writer.append($0) }
    try writer.commit()
  }

  @Test(arguments: [["w"], ["w", "v"], ["v", "w"]])
  func neitherHidesTheOther(_ names: [String]) throws {
    try withTemporaryFolder { folder in
      try write([1, 2], to: folder + "/w.safetensors")
      let writer = try ContainerWriter(path: folder + "/w.otq")
      for name in names {
        // The one that the source does not know holds something else.
        let values: [Float] = name == "w" ? [1, 2] : [7, 8]
        let extents = try values.withUnsafeBytes { try writer.append(plane: $0) }
        writer.addPlain(
          name: name, shape: try #require(Shape([2])), elementType: .f32, values: extents,
          source: .init(name: "w", elementType: .f32))
      }
      try writer.commit(metadata: [:])
      let verification = try WeightVerification(
        of: PackedModel(path: folder + "/w.otq"), reference: SourceModel(path: folder + "/w.safetensors"))
      #expect(verification.hasPassed == (names == ["w"]))
      let faults = verification.offenders.flatMap(\.faults).joined(separator: "; ")
      #expect(names.count == 1 || faults.contains("'\(names[0])' and '\(names[1])' both stand for it"), "\(faults)")
    }
  }
}
