import Foundation
import OTCheckpoint
import OTFoundation
import OTTensor
import Testing
import _OTTestSupport

/// A safetensors file read with Foundation alone: name → (type, shape, bytes).
private func expectedTensors(_ path: String) throws -> [String: (
  type: String, shape: [Int], bytes: Bytes
)] {
  let data = try Data(contentsOf: URL(fileURLWithPath: path))
  let length = data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
  let header =
    try JSONSerialization.jsonObject(with: data.dropFirst(8).prefix(length)) as! [String: Any]
  var tensors: [String: (type: String, shape: [Int], bytes: Bytes)] = [:]
  for (name, value) in header where name != "__metadata__" {
    let entry = value as! [String: Any]
    let range = entry["data_offsets"] as! [Int]
    let bytes = data.dropFirst(8 + length + range[0]).prefix(range[1] - range[0])
    tensors[name] = (entry["dtype"] as! String, entry["shape"] as! [Int], Bytes(bytes))
  }
  return tensors
}

private func fixtures(_ expectation: String) -> [String] {
  let data = try! Data(contentsOf: URL(fileURLWithPath: Fixtures.path("pytorch/manifest.json")))
  let manifest = try! JSONSerialization.jsonObject(with: data) as! [String: [String: String]]
  return manifest.filter { $0.value["expect"] == expectation }.keys.sorted()
}

private func compare(
  _ actual: [TensorView], _ expected: [String: (type: String, shape: [Int], bytes: Bytes)]
) {
  #expect(actual.map(\.name).sorted() == expected.keys.sorted())
  for tensor in actual {
    guard let wanted = expected[tensor.name] else { continue }
    #expect(tensor.elementType.rawValue == wanted.type, "\(tensor.name)")
    #expect(tensor.shape.dimensions == wanted.shape, "\(tensor.name)")
    #expect(tensor.allBytes == wanted.bytes, "\(tensor.name)")
  }
}

@Suite struct PyTorchFixtureTests {
  @Test(arguments: fixtures("read"))
  func readsExactlyTheExpectedTensors(_ name: String) throws {
    let file = try PyTorchFile(mapping: MappedFile(path: Fixtures.path("pytorch/" + name)))
    let expected = name.replacingOccurrences(of: ".", with: "_") + ".expected.safetensors"
    compare(file.tensors, try expectedTensors(Fixtures.path("pytorch/" + expected)))
    #expect(file.warnings.isEmpty)
  }

  static let rules = [
    "deep_nesting.pt": "pickle-too-large", "empty.pt": "pytorch-empty",
    "evil_eval.bin": "pickle-global",
    "evil_system.pt": "pickle-global", "memo_loop.pt": "pickle-cycle",
    "no_pickle.pt": "pytorch-record-missing",
    "not_torch.pt": "pytorch-other-format", "pickle_garbage.pt": "pickle-truncated",
    "shape_overflow.pt": "pytorch-view-outside", "storage_missing.pt": "pytorch-record-missing",
    "storage_short.pt": "pytorch-storage-mismatch", "truncated.pt": "zip-end-missing",
  ]

  @Test(arguments: fixtures("refuse"))
  func refusesWithARule(_ name: String) throws {
    let mapping = try MappedFile(path: Fixtures.path("pytorch/" + name))
    let refusal = #expect(throws: Refusal.self) { try PyTorchFile(mapping: mapping) }
    #expect(refusal?.rule == Self.rules[name], "\(refusal?.description ?? "")")
    #expect(refusal?.file == mapping.path)
  }

  @Test(arguments: Fixture.allCases)
  func modelEqualsItsSafetensors(_ fixture: Fixture) throws {
    let folder = fixture.folder
    let file = try PyTorchFile(mapping: MappedFile(path: folder + "/pytorch_model.bin"))
    let shards = try FileManager.default.contentsOfDirectory(atPath: folder)
      .filter { $0.hasPrefix("model") && $0.hasSuffix(".safetensors") }
    var expected: [String: (type: String, shape: [Int], bytes: Bytes)] = [:]
    for shard in shards {
      expected.merge(try expectedTensors(folder + "/" + shard)) { first, _ in first }
    }
    // Tied tensors are stored once in safetensors, under one of the names.
    let actual = file.tensors
    #expect(Set(expected.keys).isSubset(of: Set(actual.map(\.name))))
    for tensor in actual where expected[tensor.name] == nil {
      #expect(
        actual.contains { $0.sharesElements(with: tensor) && expected[$0.name] != nil },
        "\(tensor.name)")
    }
    compare(actual.filter { expected[$0.name] != nil }, expected)
  }

  @Test func tiedTensorsShareElements() throws {
    let file = try PyTorchFile(mapping: MappedFile(path: Fixtures.path("pytorch/tied.bin")))
    #expect(file.tensors.count == 2)
    #expect(file.tensors[0].sharesElements(with: file.tensors[1]))
  }

  /// A file cut anywhere is refused; a flipped bit is refused or read, and
  /// never does anything else.
  @Test(arguments: ["tied.bin", "legacy_views.bin", "protocol4.pt"])
  func survivesTruncationAndBitFlips(_ name: String) throws {
    let original = Bytes(
      try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("pytorch/" + name))))
    for count in stride(from: 0, to: original.count, by: 11) {
      try withPyTorchFile(Bytes(original.prefix(count))) { result in
        if case .success = result { Issue.record("read \(count) of \(original.count) bytes") }
      }
    }
    var random = SeededGenerator()
    for _ in 0..<250 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      }
      try withPyTorchFile(bytes) { result in
        guard case .success(let file) = result else { return }
        for tensor in file.tensors where tensor.byteCount <= 4096 {
          #expect(tensor.allBytes.count == tensor.byteCount, "seed \(random.seed)")
        }
      }
    }
  }
}
