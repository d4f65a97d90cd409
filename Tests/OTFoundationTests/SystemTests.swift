import Foundation
import OTFoundation
import Testing
import _OTTestSupport

/// What the modules have of the system in place of Foundation, against Foundation.
@Suite struct SystemTests {
  @Test func base64IsFoundations() {
    var random = SeededGenerator()
    for count in 0..<200 {
      let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
      let text = Data(bytes).base64EncodedString()
      #expect(Base64.encode(bytes) == text)
      #expect(Base64.decode(text) == bytes)
    }
    for wrong in ["A", "AA", "AAA", "A===", "====", "AA=A", "AAAA\n", "AA A", "ÄAAA", "AA-_"] {
      #expect(Base64.decode(wrong) == nil, "'\(wrong)'")
    }
  }

  @Test func numbersAreFoundations() {
    var random = SeededGenerator()
    var values: [Double] = [0, -0.0, 0.5, 1.5, 2.5, -0.05, 1e300, -1e-300, .greatestFiniteMagnitude]
    for _ in 0..<500 { values.append(Double.random(in: -1e6...1e6, using: &random)) }
    for value in values {
      for places in 0...6 { #expect(fixed(value, places) == String(format: "%.\(places)f", value)) }
      #expect(scientific(value, 1) == String(format: "%.1e", value))
    }
  }

  @Test func foldersAreSeenAsTheyAre() throws {
    try withTemporaryFolder { folder in
      #expect(FileSystem.createFolder(folder + "/a/b/c"))
      #expect(FileSystem.createFolder(folder + "/a/b/c"))
      try "text \u{E4}".write(toFile: folder + "/a/file", atomically: false, encoding: .utf8)
      try FileManager.default.createSymbolicLink(atPath: folder + "/a/link", withDestinationPath: folder + "/a/b")
      #expect(try FileSystem.names(in: folder + "/a").sorted() == ["b", "file", "link"])
      #expect(FileSystem.kind(folder + "/a/b") == .folder)
      #expect(FileSystem.kind(folder + "/a/file") == .file)
      #expect(FileSystem.kind(folder + "/a/link") == .symbolicLink)
      #expect(FileSystem.kind(folder + "/none") == nil)
      #expect(FileSystem.isFolder(folder + "/a/link"))
      #expect(!FileSystem.isFolder(folder + "/a/file"))
      #expect(!FileSystem.createFolder(folder + "/a/file/d"))
      #expect(FileSystem.text(of: folder + "/a/file") == "text \u{E4}")
      #expect(FileSystem.text(of: folder + "/none") == nil)
      try Data([0xFF, 0xFE]).write(to: URL(fileURLWithPath: folder + "/a/bytes"))
      #expect(FileSystem.text(of: folder + "/a/bytes") == nil)
      let refusal = #expect(throws: Refusal.self) { try FileSystem.names(in: folder + "/none") }
      #expect(refusal?.rule == "directory-unreadable")
      #expect((folder + "/a/b/..").resolvedName == "a")
      #expect((folder + "/a/b/").resolvedName == "b")
    }
    #expect((FileSystem.freeByteCount(in: "/") ?? 0) > 0)
    #expect(FileSystem.freeByteCount(in: "/none/of/these") == nil)
  }

  @Test func threadsWaitForEachOther() {
    let condition = Condition()
    let turns = Lock<[Int]>([])
    for number in 0..<4 {
      let hasStarted = WorkThread.start {
        condition.lock()
        while turns.withLock({ $0.count }) != number { condition.wait() }
        turns.withLock { $0.append(number) }
        condition.broadcast()
        condition.unlock()
      }
      #expect(hasStarted)
    }
    condition.lock()
    while turns.withLock({ $0.count }) < 4 { condition.wait() }
    condition.unlock()
    #expect(turns.withLock { $0 } == [0, 1, 2, 3])
  }

  @Test func aLockKeepsOthersOut() {
    let lock = Lock(0)
    let group = WorkGroup()
    for _ in 0..<4 {
      #expect(group.start { for _ in 0..<10_000 { lock.withLock { $0 += 1 } } })
    }
    group.wait()
    #expect(lock.withLock { $0 } == 40_000)
    #expect(throws: CancellationError.self) { try lock.withLock { _ in throw CancellationError() } }
    // It is free again.
    #expect(
      lock.withLock {
        $0 -= 1; return $0
      } == 39_999)
  }

  /// Whoever waits looks after other things meanwhile, and can give up.
  @Test func waitingCanEnd() throws {
    let (group, isFree) = (WorkGroup(), Lock(false))
    #expect(group.start { while !isFree.withLock({ $0 }) { sched_yield() } })
    #expect(throws: CancellationError.self) { try group.wait { throw CancellationError() } }
    isFree.withLock { $0 = true }
    group.wait()
  }

  /// Each block once, in their order; of several errors that of the least index.
  @Test(arguments: [1, 2, 3, 7], [0, 1, 2, 5, 300]) func blocksAreMadeOnce(threadCount: Int, count: Int) throws {
    let made = Lock([Int](repeating: 0, count: count))
    let squares = try mapBlocks(count, threadCount: threadCount) { index in
      made.withLock { $0[index] += 1 }
      return index * index
    }
    #expect(squares == (0..<count).map { $0 * $0 })
    #expect(made.withLock { $0 } == [Int](repeating: 1, count: count))
    guard count > 2 else { return }
    let refusal = #expect(throws: Refusal.self) {
      try mapBlocks(count, threadCount: threadCount) { index in
        if index % 2 == 1 { throw Refusal("odd", "\(index)") }
      }
    }
    #expect(refusal?.message == "1")
  }
}

/// Values that are made once.
@Suite struct OnDemandTests {
  @Test func preparedValuesAreMadeOnce() throws {
    for _ in 0..<50 {
      let count = Lock(0)
      let value = OnDemand<Int> {
        count.withLock { $0 += 1 }
        return 7
      }
      value.prepare()
      let group = WorkGroup()
      for _ in 0..<3 {
        let hasStarted = group.start { #expect((try? value.get()) == 7) }
        #expect(hasStarted)
      }
      group.wait()
      #expect(try value.get() == 7)
      #expect(count.withLock { $0 } == 1)
    }
  }

  @Test func whatCannotBePreparedIsThrownWhenItIsAskedFor() {
    let value = OnDemand<Int> { throw Refusal("test-rule", "no value") }
    value.prepare()
    for _ in 0..<2 { #expect(throws: Refusal.self) { try value.get() } }
  }
}
