import Foundation
import OTCheckpoint
import OTFoundation
import Testing
import _OTTestSupport

/// Rules of every format of a checkpoint.
@Suite struct DirectoryFormatsTests {
  @Test(arguments: Fixture.allCases)
  func bothFormatsOfAModelHoldTheSameTensors(_ fixture: Fixture) throws {
    let folder = fixture.folder
    let safetensors = try Checkpoint.open(folder)
    let pyTorch = try Checkpoint.open("\(folder)/pytorch_model.bin")
    #expect(pyTorch.format == .pyTorch)
    #expect(pyTorch.attachments[.configuration] == safetensors.attachments[.configuration])
    for tensor in safetensors.tensors {
      let other = try #require(pyTorch[tensor.name], "\(tensor.name)")
      #expect(other.shape == tensor.shape && other.elementType == tensor.elementType)
      #expect(bytes(of: other) == bytes(of: tensor), "\(tensor.name)")
    }
    // What only PyTorch's file holds is another name of something in both.
    let aliases = pyTorch.aliases
    for tensor in pyTorch.tensors where safetensors[tensor.name] == nil {
      let isAlias = aliases[tensor.name] != nil || aliases.values.contains(tensor.name)
      #expect(isAlias, "\(tensor.name)")
    }
  }

  @Test func aliasesAreNamesOfTheSameElements() throws {
    let checkpoint = try Checkpoint.open(Fixtures.path("pytorch/tied.bin"))
    #expect(checkpoint.tensors.count == 2)
    #expect(checkpoint.aliases == [checkpoint.tensors[1].name: checkpoint.tensors[0].name])
  }

  /// The index of PyTorch shards goes the same way as that of safetensors.
  @Test func readsShardsOfPyTorch() throws {
    let fixture = Fixtures.path("pytorch/tied.bin")
    let names = try Checkpoint.open(fixture).tensors.map(\.name)
    try withTemporaryFolder { folder in
      try FileManager.default.copyItem(atPath: fixture, toPath: "\(folder)/part.bin")
      let members = names.map { "\"\($0)\":\"part.bin\"" }.joined(separator: ",")
      try write(IndexFault.map(members), "\(folder)/pytorch_model.bin.index.json")
      let checkpoint = try Checkpoint.open(folder)
      #expect(checkpoint.format == .pyTorch)
      #expect(checkpoint.tensors.map(\.name) == names)
      #expect(checkpoint.files.map(\.name) == ["pytorch_model.bin.index.json", "part.bin"])

      try write(safetensorsBytes(names: ["other"]), "\(folder)/odd.bin")
      try write(
        IndexFault.map(members + ",\"other\":\"odd.bin\""),
        "\(folder)/pytorch_model.bin.index.json")
      let refused = try refusal { _ = try Checkpoint.open(folder) }
      #expect(refused?.rule == "index-mixed-formats")
    }
  }
}
