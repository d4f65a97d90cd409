import Foundation
import OTFoundation
import Testing
import _OTTestSupport

@Suite struct AtomicFileTests {
  private func refusal(_ body: () throws -> Void) throws -> Refusal? {
    do {
      try body()
      return nil
    } catch let refusal as Refusal {
      return refusal
    }
  }

  private func content(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: path)))
  }

  private func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder)
  }

  @Test func appearsOnlyWithCommit() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/out.bin"
      let file = try AtomicFile(path: path)
      #expect(FileManager.default.fileExists(atPath: file.temporaryPath))
      try file.append([0, 0, 3, 4])
      try file.append(5...6)
      try [UInt8]([1, 2]).withUnsafeBytes { try file.write($0, at: 0) }
      #expect(file.byteCount == 6)
      #expect(!FileManager.default.fileExists(atPath: path))
      try file.commit()
      #expect(try content(path) == [1, 2, 3, 4, 5, 6])
      #expect(try names(folder) == ["out.bin"])
    }
  }

  @Test func leavesNothingWhenDropped() throws {
    try withTemporaryFolder { folder in
      do { try AtomicFile(path: "\(folder)/out.bin").append([1]) }
      #expect(try names(folder).isEmpty)
      let file = try AtomicFile(path: "\(folder)/out.bin")
      file.abort()
      #expect(try names(folder).isEmpty)
    }
  }

  @Test func replacesOnlyWithForce() throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/out.bin"
      try Data([9]).write(to: URL(fileURLWithPath: path))
      #expect(try refusal { _ = try AtomicFile(path: path) }?.rule == "output-exists")
      let file = try AtomicFile(path: path, force: true)
      try file.append([1])
      #expect(try content(path) == [9])
      try file.commit()
      #expect(try content(path) == [1])
    }
  }

  @Test func neverReplacesAnInput() throws {
    try withTemporaryFolder { folder in
      let (input, link, hard) = ("\(folder)/in", "\(folder)/link", "\(folder)/hard")
      try Data([9]).write(to: URL(fileURLWithPath: input))
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "in")
      try FileManager.default.linkItem(atPath: input, toPath: hard)
      let identity = try #require(FileIdentity(path: input))
      for path in [input, link, hard] {
        for force in [false, true] {
          let refused = try refusal {
            _ = try AtomicFile(path: path, force: force, inputs: [identity])
          }
          #expect(refused?.rule == "output-is-input")
        }
      }
      #expect(try content(input) == [9])
      #expect(try names(folder).count == 3)
    }
  }

  @Test(arguments: [
    ("/none/out", "output-no-parent"), ("/file/out", "output-no-parent"),
    ("/sub", "output-not-regular"), ("/sub/", "output-not-regular"), ("/.", "output-not-regular"),
    ("/dangling", "output-exists"),
  ])
  func refusesUnusableTargets(_ suffix: String, _ rule: String) throws {
    try withTemporaryFolder { folder in
      try Data().write(to: URL(fileURLWithPath: "\(folder)/file"))
      try FileManager.default.createDirectory(
        atPath: "\(folder)/sub", withIntermediateDirectories: false)
      try FileManager.default.createSymbolicLink(
        atPath: "\(folder)/dangling", withDestinationPath: "nowhere")
      let refused = try refusal { _ = try AtomicFile(path: folder + suffix) }
      #expect(refused?.rule == rule)
      #expect(refused?.file == folder + suffix)
      #expect(try names(folder).count == 3)
    }
  }

  /// Without force the first to commit wins, with it the last; never a mixture.
  @Test(arguments: [false, true])
  func twoWritersGiveOneCompleteFile(_ force: Bool) throws {
    try withTemporaryFolder { folder in
      let path = "\(folder)/out"
      let first = try AtomicFile(path: path, force: force)
      let second = try AtomicFile(path: path, force: force)
      try first.append([1, 1])
      try second.append([2, 2, 2])
      try first.commit()
      let refused = try refusal { try second.commit() }
      #expect(refused?.rule == (force ? nil : "output-exists"))
      #expect(try content(path) == (force ? [2, 2, 2] : [1, 1]))
      #expect(try names(folder) == ["out"])
    }
  }

  /// The files that a killed writer of the target left are removed, and no others.
  @Test func removesStraysOfItsTarget() throws {
    try withTemporaryFolder { folder in
      // The number of a process that has ended.
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/true")
      try process.run()
      process.waitUntilExit()
      let (dead, own) = (process.processIdentifier, ProcessInfo.processInfo.processIdentifier)
      // A process of another container may bear this one's number, too.
      let strays = [".out.\(dead).1x.partial", ".out.\(own).2y.partial"]
      let others = [
        ".out.1.1x.partial", ".out.2.\(dead).1x.partial", ".out.\(dead).1x.partial~", ".out.\(dead).partial",
        ".out2.\(dead).1x.partial", "out.\(dead).1x.partial", ".out.x.1x.partial",
      ]
      for name in strays + others { try Data([1]).write(to: URL(fileURLWithPath: "\(folder)/\(name)")) }
      let living = try AtomicFile(path: "\(folder)/out")
      #expect(try Set(names(folder)) == Set(others + [String(living.temporaryPath.dropFirst(folder.count + 1))]))
      // Nor does it take the files of writers that live, in this process or another.
      let second = try AtomicFile(path: "\(folder)/out", force: true)
      try second.commit()
      try living.append([1])
      living.abort()
      #expect(try Set(names(folder)) == Set(others + ["out"]))
    }
  }

  @Test func aProcessThatIsEndedLeavesNothing() async {
    await #expect(processExitsWith: .exitCode(7)) {
      try withTemporaryFolder { folder in
        let files = try ["a", "b", "c"].map { try AtomicFile(path: "\(folder)/\($0)") }
        try files[1].commit()
        AtomicFile.removeAll {
          let left = try? FileManager.default.contentsOfDirectory(atPath: folder)
          try? FileManager.default.removeItem(atPath: folder)
          exit(left == ["b"] ? 7 : 5)
        }
      }
    }
  }

  @Test func checksAsMuchAsItCan() throws {
    try withTemporaryFolder { folder in
      func check(_ names: String...) throws -> String? {
        try refusal { try AtomicFile.check(names.map { "\(folder)/\($0)" }, force: false, inputs: []) }?.rule
      }
      try FileManager.default.createSymbolicLink(atPath: "\(folder)/link", withDestinationPath: ".")
      #expect(try check("a", "b", "c") == nil)
      #expect(try check("a", "link/b", "link/../b") == nil)
      #expect(try check("a", "link/a") == "output-twice")
      #expect(try check("a", "none/a") == "output-no-parent")
      #expect(try refusal { try AtomicFile.check([""], force: true, inputs: []) }?.rule == "output-not-regular")
      #expect(try names(folder) == ["link"])
    }
  }

  @Test func takesTheLongestName() throws {
    try withTemporaryFolder { folder in
      let name = String(repeating: "ü", count: 127)
      let file = try AtomicFile(path: "\(folder)/\(name)")
      try file.append([1])
      try file.commit()
      #expect(try names(folder).count == 1)
    }
  }

  /// In a process of its own, whose files may not grow beyond 1000 bytes.
  @Test func removesEverythingWhenTheDiskIsFull() async {
    await #expect(processExitsWith: .success) {
      try withTemporaryFolder { folder in
        let path = "\(folder)/out"
        signal(SIGXFSZ, SIG_IGN)
        var limit = rlimit(rlim_cur: 1000, rlim_max: 1000)
        #if canImport(Glibc)
          let resource = __rlimit_resource_t(RLIMIT_FSIZE.rawValue)
        #else
          let resource = RLIMIT_FSIZE
        #endif
        guard setrlimit(resource, &limit) == 0 else { exit(2) }
        do {
          let file = try AtomicFile(path: path)
          try file.append([UInt8](repeating: 1, count: 600))
          try file.append([UInt8](repeating: 2, count: 700))
          exit(3)
        } catch let refusal as Refusal {
          let isRight =
            refusal.rule == "output-write-failed" && refusal.file == path
            && refusal.message.contains("300 bytes at byte 1000")
          guard isRight else { exit(4) }
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: folder)
        guard names.isEmpty else { exit(5) }
      }
    }
  }
}
