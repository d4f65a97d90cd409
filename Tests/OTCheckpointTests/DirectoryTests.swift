import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import Testing
import _OTTestSupport

@Suite struct DirectoryTests {
  @Test(arguments: Fixture.allCases)
  func opensEveryFixtureModel(_ fixture: Fixture) throws {
    let folder = fixture.folder
    let checkpoint = try Checkpoint.open(folder)
    #expect(checkpoint.format == .safetensors)
    #expect(checkpoint.files.count == (fixture == .bloom ? 4 : 1))
    // Every byte of the data belongs to one tensor: the files' sizes less the headers.
    var dataByteCount = 0
    for file in checkpoint.files where file.name.hasSuffix(".safetensors") {
      let length = file.mapped.bytes.loadUnaligned(as: UInt64.self)
      dataByteCount += file.mapped.byteCount - 8 - Int(length)
    }
    #expect(checkpoint.tensors.reduce(0) { $0 + $1.byteCount } == dataByteCount)
    #expect(checkpoint.warnings.count == 1)
    #expect(checkpoint.warnings[0].contains("'pytorch_model.bin' is ignored"))
    #expect(checkpoint.attachments[.configuration] == "\(folder)/config.json")
    #expect(checkpoint.attachments[.tokenizer] == "\(folder)/tokenizer.json")
    #expect(checkpoint.attachments[.merges] == nil)
    let configuration = try checkpoint.attachments.json(.configuration)
    #expect(configuration?["model_type"]?.string == fixture.family)
    #expect(checkpoint.aliases.isEmpty)
    try checkpoint.verifyUnchanged()
  }

  @Test func fileAndFolderGiveTheSameTensors() throws {
    let folder = Fixture.opt.folder
    let one = try Checkpoint.open(folder + "/")
    let other = try Checkpoint.open("\(folder)/model.safetensors")
    #expect(one.tensors.map(\.name) == other.tensors.map(\.name))
    #expect(other.warnings.isEmpty)
    #expect(other.attachments[.configuration] == "\(folder)/config.json")
  }

  private static let indexText = IndexFault.map("\"a\":\"model-00001-of-00001.safetensors\"")

  /// Names of files in a folder, and the rule that they break or the file chosen.
  @Test(arguments: [
    (["model.safetensors", "model.safetensors.index.json"], "directory-ambiguous"),
    (["x.safetensors", "y.safetensors"], "directory-ambiguous"),
    (["x.safetensors", "pytorch_model.bin"], "directory-ambiguous"),
    (["x.safetensors.index.json", "y.safetensors.index.json"], "directory-ambiguous"),
    (["pytorch_model.bin", "pytorch_model.bin.index.json"], "directory-ambiguous"),
    (["x.bin", "y.pt"], "directory-ambiguous"),
    (["config.json"], "directory-no-checkpoint"),
    ([], "directory-no-checkpoint"),
    (["model.safetensors", "goldens.safetensors"], "model.safetensors"),
    (["model.safetensors", "pytorch_model.bin"], "model.safetensors"),
    (["x.safetensors", "training.bin"], "x.safetensors"),
    (
      ["model.safetensors.index.json", "model-00001-of-00001.safetensors"],
      "model.safetensors.index.json"
    ),
    (["x.safetensors.index.json", "model-00001-of-00001.safetensors"], "x.safetensors.index.json"),
  ])
  func choosesOrRefuses(_ names: [String], _ expected: String) throws {
    try withTemporaryFolder { folder in
      for name in names {
        let bytes =
          name.hasSuffix("index.json") ? Array(Self.indexText.utf8) : safetensorsBytes(names: ["a"])
        try write(bytes, "\(folder)/\(name)")
      }
      do {
        let checkpoint = try Checkpoint.open(folder)
        #expect(checkpoint.files.first?.name == expected)
        #expect(checkpoint.warnings.count == (names.contains("pytorch_model.bin") ? 1 : 0))
      } catch let refusal as Refusal {
        #expect(refusal.rule == expected)
        #expect(refusal.file == folder)
        #expect(refusal.remedy != nil)
      }
    }
  }

  @Test func tellsFormatsByContentNotByName() throws {
    try withTemporaryFolder { folder in
      try write(safetensorsBytes(names: ["a"]), "\(folder)/model.bin")
      #expect(try Checkpoint.open("\(folder)/model.bin").format == .safetensors)
      // A length of 640 is spelled as a pickle begins.
      let header = "{\"__metadata__\":{\"a\":\"" + String(repeating: "x", count: 640 - 25) + "\"}}"
      let bytes = safetensorsBytes(header)
      try #require(Array(bytes.prefix(2)) == [0x80, 0x02])
      try write(bytes, "\(folder)/odd.safetensors")
      #expect(try Checkpoint.open("\(folder)/odd.safetensors").format == .safetensors)
    }
  }

  @Test func refusesWhatIsNotThere() throws {
    try withTemporaryFolder { folder in
      let absent = try refusal { _ = try Checkpoint.open("\(folder)/none") }
      #expect(absent?.rule == "file-missing")
      let empty = try refusal { _ = try Checkpoint.open("") }
      #expect(empty?.rule == "file-missing")
    }
  }

  /// A file that changes while it is used is refused (file-changed).
  @Test(arguments: ["grown", "rewritten", "replaced", "removed"])
  func noticesAChangedFile(_ change: String) throws {
    try withTemporaryPath("model.safetensors") { path in
      try write(safetensorsBytes(names: ["a"]), path)
      let checkpoint = try Checkpoint.open(path)
      try checkpoint.verifyUnchanged()
      switch change {
      case "grown":
        let handle = try #require(FileHandle(forWritingAtPath: path))
        try handle.seekToEnd()
        try handle.write(contentsOf: Data([0]))
        try handle.close()
      case "rewritten":
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSince1970: 1)], ofItemAtPath: path)
      case "replaced":
        try write(safetensorsBytes(names: ["a"]), path + ".new")
        try FileManager.default.removeItem(atPath: path)
        try FileManager.default.moveItem(atPath: path + ".new", toPath: path)
      default: try FileManager.default.removeItem(atPath: path)
      }
      let refused = try refusal { try checkpoint.verifyUnchanged() }
      #expect(refused?.rule == "file-changed")
      #expect(refused?.file == path)
    }
  }
}
