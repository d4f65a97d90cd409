import Foundation
import OTFoundation
import Testing
import _OTTestSupport

@Suite struct OutputTargetTests {
  private func rule(_ body: () throws -> Void) -> String? {
    do {
      try body()
      return nil
    } catch {
      return (error as? Refusal)?.rule ?? "\(error)"
    }
  }

  private func rule(opening path: String) -> String? { rule { _ = try OutputTarget(path: path) } }

  private func rule(writing path: String, force: Bool = false, inputs: [String] = []) -> String? {
    rule {
      try OutputTarget(path: path).check(force: force, inputs: inputs.compactMap { FileIdentity(path: $0) })
    }
  }

  @Test func namesOfNoFile() throws {
    try withTemporaryFolder { folder in
      for path in ["", "/", "\(folder)/", ".", "..", "\(folder)/.", "\(folder)/.."] {
        #expect(rule(opening: path) == "output-not-regular", "'\(path)'")
      }
      try Data().write(to: URL(fileURLWithPath: folder + "/file"))
      #expect(rule(opening: folder + "/none/m.otq") == "output-no-parent")
      #expect(rule(opening: folder + "/file/m.otq") == "output-no-parent")
      #expect(rule(opening: folder + "/m.otq") == nil)
      let target = try OutputTarget(path: folder + "/m.otq")
      let (name, parent) = (target.name, target.parent)
      #expect(name == "m.otq" && parent == folder)
    }
  }

  @Test func whatIsThereAlready() throws {
    try withTemporaryFolder { folder in
      let manager = FileManager.default
      try Data([1]).write(to: URL(fileURLWithPath: folder + "/file"))
      try manager.createDirectory(atPath: folder + "/folder", withIntermediateDirectories: false)
      try manager.createSymbolicLink(atPath: folder + "/link", withDestinationPath: folder + "/file")
      try manager.createSymbolicLink(atPath: folder + "/dangling", withDestinationPath: folder + "/nothing")
      try #require(mkfifo(folder + "/pipe", 0o600) == 0)
      #expect(rule(writing: folder + "/new") == nil)
      for name in ["file", "link", "dangling"] {
        #expect(rule(writing: "\(folder)/\(name)") == "output-exists", "\(name)")
        #expect(rule(writing: "\(folder)/\(name)", force: true) == nil, "\(name)")
      }
      for (name, force) in [("folder", false), ("folder", true), ("pipe", false), ("pipe", true)] {
        #expect(rule(writing: "\(folder)/\(name)", force: force) == "output-not-regular", "\(name)")
      }
    }
  }

  /// A link is what it leads to: replaced where that is a file, or nothing, and refused where bytes
  /// would not go through it. `--force`, which would not help, is not advised.
  @Test func linksAreWhatTheyLeadTo() throws {
    try withTemporaryFolder { folder in
      let manager = FileManager.default
      try manager.createDirectory(atPath: folder + "/folder", withIntermediateDirectories: false)
      try #require(mkfifo(folder + "/pipe", 0o600) == 0)
      let targets = ["folder", "pipe", "/dev/null", "/dev/stdout", "folder-again"]
      try manager.createSymbolicLink(atPath: folder + "/folder-again", withDestinationPath: "folder")
      for (index, target) in targets.enumerated() {
        let link = "\(folder)/link-\(index)"
        try manager.createSymbolicLink(atPath: link, withDestinationPath: target)
        for force in [false, true] {
          let refusal = #expect(throws: Refusal.self) { try OutputTarget(path: link).check(force: force, inputs: []) }
          #expect(refusal?.rule == "output-not-regular", "\(target)")
          #expect(refusal?.description.contains("--force") == false)
        }
      }
    }
    #expect(rule(opening: "-") == "output-not-regular")
  }

  /// A file that is read is never the output, whatever leads to it.
  @Test func inputs() throws {
    try withTemporaryFolder { folder in
      let manager = FileManager.default
      let source = folder + "/source"
      try Data([1]).write(to: URL(fileURLWithPath: source))
      try Data([1]).write(to: URL(fileURLWithPath: folder + "/other"))
      try manager.createSymbolicLink(atPath: folder + "/link", withDestinationPath: source)
      try manager.linkItem(atPath: source, toPath: folder + "/hard")
      for name in ["source", "link", "hard", "../\(URL(fileURLWithPath: folder).lastPathComponent)/source"] {
        #expect(rule(writing: "\(folder)/\(name)", force: true, inputs: [source]) == "output-is-input", "\(name)")
      }
      #expect(rule(writing: folder + "/other", force: true, inputs: [source]) == nil)
    }
  }

  /// One file is one target by whatever path, and different files are different ones.
  @Test func keys() throws {
    try withTemporaryFolder { folder in
      let manager = FileManager.default
      try manager.createDirectory(atPath: folder + "/a/b", withIntermediateDirectories: true)
      try manager.createSymbolicLink(atPath: folder + "/link", withDestinationPath: folder + "/a")
      func key(_ path: String) throws -> OutputTarget.Key { try OutputTarget(path: "\(folder)/\(path)").key }
      let expected = try key("a/m.otq")
      for path in ["a/./m.otq", "a/b/../m.otq", "link/m.otq", "a//m.otq"] {
        #expect(try key(path) == expected, "\(path)")
      }
      for path in ["a/n.otq", "a/b/m.otq", "m.otq", "a/M.otq"] { #expect(try key(path) != expected, "\(path)") }
    }
  }
}
