import Foundation
import Testing
import _OTFuzzTargets
import _OTTestSupport

/// Fuzzing without coverage, so that every build does some: inputs of the corpus, changed at random.
@Suite(.timeLimit(.minutes(60))) struct MutationTests {
  /// Changed inputs of each target: a minute of one core for all together, or as many as one wants.
  private static let inputCount = ProcessInfo.processInfo.environment["OTQ_CHANGED_INPUTS"].flatMap(Int.init) ?? 50_000
  /// A target and a seed that a run has printed, to do the same again: `OTQ_CHANGED_AGAIN=json:17`.
  private static let again = ProcessInfo.processInfo.environment["OTQ_CHANGED_AGAIN"]?.split(separator: ":")

  private static func isDone(_ target: FuzzTarget) -> Bool { again.map { $0.first ?? "" == target.name } ?? true }

  /// None traps, and none is answered by anything but a value or a refusal.
  @Test(arguments: FuzzTarget.all.filter(isDone))
  func changedInputsAreReadOrRefused(target: FuzzTarget) throws {
    let corpus = try Corpus.inputs(of: target)
    var random = Self.again?.last.flatMap { UInt64($0) }.map { SeededGenerator(seed: $0) } ?? SeededGenerator()
    // A trap ends the process, and with it what the test would tell.
    print("changing inputs of \(target.name), seed \(random.seed)")
    var refusedCount = 0
    for index in 0..<Self.inputCount {
      var bytes = try #require(corpus.randomElement(using: &random))
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes.change(with: try #require(corpus.randomElement(using: &random)), using: &random)
      }
      bytes = Array(bytes.prefix(target.maximumByteCount))
      do {
        if try target.run(bytes) != nil { refusedCount += 1 }
      } catch {
        Issue.record("input \(index), seed \(random.seed): \(error)\n\(Data(bytes).base64EncodedString())")
      }
    }
    #expect(refusedCount > 0 && refusedCount < Self.inputCount, "\(refusedCount) refused, seed \(random.seed)")
  }
}

extension [UInt8] {
  /// Numbers at which rules begin and end.
  private static let numbers: [UInt64] = [
    0, 1, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x7FFF_FFFF_FFFF_FFFF, .max,
  ]
  private static let words = [
    "9223372036854775807", "-1", "1e309", "0.5", "null", "true", "[]", "{}", "\"\"", "\\u0000", "\\ud800", ",", "}",
    "\n",
  ]

  /// One change, of which some take bytes from another input.
  fileprivate mutating func change(with other: [UInt8], using random: inout some RandomNumberGenerator) {
    let start = Int.random(in: 0...count, using: &random)
    let end = Int.random(in: start...Swift.min(count, start + 32), using: &random)
    let from = Int.random(in: 0...other.count, using: &random)
    let piece = other[from..<Int.random(in: from...Swift.min(other.count, from + 64), using: &random)]
    switch Int.random(in: 0..<8, using: &random) {
    case 0 where !isEmpty: self[start % count] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 1 where !isEmpty: self[start % count] = .random(in: 0...255, using: &random)
    case 2: removeSubrange(start..<end)
    case 3: insert(contentsOf: self[start..<end], at: start)
    case 4: insert(contentsOf: piece, at: start)
    case 5: replaceSubrange(start..<end, with: piece)
    case 6:
      let size = [1, 2, 4, 8].randomElement(using: &random) ?? 1
      let number = Self.numbers.randomElement(using: &random) ?? 0
      replaceSubrange(
        start..<Swift.min(count, start + size), with: (0..<size).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) })
    default: replaceSubrange(start..<end, with: (Self.words.randomElement(using: &random) ?? "").utf8)
    }
  }
}
