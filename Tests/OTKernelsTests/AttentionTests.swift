import Foundation
import OTFoundation
import OTKernels
import Testing
import _OTTestSupport

@Suite struct AttentionTests {
  static let headSizes = [1, 8, 12, 64, 80, 128]

  /// Values are within ±1, and so are their means.
  private func check(
    _ actual: [[Float]], _ expected: [[Double]], within tolerance: Double = 3e-6,
    _ context: Comment
  ) {
    for (actual, expected) in zip(actual, expected) {
      for (value, exact) in zip(actual, expected) {
        #expect(abs(Double(value) - exact) <= tolerance, context)
      }
    }
  }

  @Test(arguments: headSizes, [false, true])
  func softmax(headSize: Int, isCausal: Bool) {
    var generator = SeededGenerator()
    for (queryCount, keyCount) in [(1, 1), (3, 17), (13, 64), (9, 65), (70, 70), (1, 131)] {
      var attention = AttentionCase(
        queryCount: queryCount, keyCount: keyCount, headSize: headSize,
        valueSize: keyCount % 2 == 0 ? nil : Self.headSizes.randomElement(using: &generator), isCausal: isCausal,
        using: &generator)
      let context: Comment = "seed \(generator.seed), \(queryCount) queries, \(keyCount) keys"
      check(attention.result(of: .scalar), attention.expected, context)
      attention.slope = 0.25
      check(attention.result(of: .scalar), attention.expected, context)
      attention.mask = (0..<keyCount).map { _ in Bool.random(using: &generator) }
      check(attention.result(of: .scalar), attention.expected, context)
      attention.slope = 0
      check(attention.result(of: .scalar), attention.expected, context)
    }
  }

  /// Windows of every place among blocks of keys and of queries, with soft caps and without.
  @Test(arguments: [8, 64], [false, true]) func windowsAndCaps(headSize: Int, isCausal: Bool) {
    var generator = SeededGenerator()
    for (queryCount, keyCount) in [(1, 1), (9, 17), (13, 70), (200, 200), (3, 300)] {
      for window in [0, 1, 2, 7, 16, 63, 64, 65, 130] {
        var attention = AttentionCase(
          queryCount: queryCount, keyCount: keyCount, headSize: headSize, isCausal: isCausal, using: &generator)
        if !isCausal { attention.firstPosition = (keyCount - queryCount) / 2 }
        let context: Comment = "seed \(generator.seed), \(queryCount) queries, \(keyCount) keys, window \(window)"
        attention.window = window
        check(attention.result(of: .scalar), attention.expected, context)
        attention.softCap = 1.5
        check(attention.result(of: .scalar), attention.expected, context)
        for sink in [Float(-30), 0.5, 6] {
          attention.sink = sink
          check(attention.result(of: .scalar), attention.expected, context)
        }
        attention.sink = window % 2 == 0 ? 1 : nil
        attention.slope = 0.25
        attention.mask = (0..<keyCount).map { _ in Bool.random(using: &generator) }
        // Scores of up to 75, which float32 has to 4e-6: so far may each weight be off, up or down.
        check(attention.result(of: .scalar), attention.expected, within: 1e-5, context)
        attention.addBias(using: &generator)
        check(attention.result(of: .scalar), attention.expected, within: 1e-5, context)
      }
    }
    // Scores far beyond the cap all become it.
    var attention = AttentionCase(queryCount: 5, keyCount: 80, headSize: 8, isCausal: false, using: &generator)
    (attention.scale, attention.softCap) = (1000, 50)
    check(attention.result(of: .scalar), attention.expected, within: 1e-4, "seed \(generator.seed)")
  }

  /// Scores whose exponentials alone would overflow, and a maximum that grows
  /// from block to block.
  @Test func largeScores() {
    var generator = SeededGenerator()
    var attention = AttentionCase(
      queryCount: 5, keyCount: 200, headSize: 8, isCausal: false, using: &generator)
    attention.scale = 100
    // A float32 score of some thousands is off by some 1e-4.
    check(
      attention.result(of: .scalar), attention.expected, within: 5e-3, "seed \(generator.seed)")
    attention.scale = 0.1
    attention.slope = 2
    check(
      attention.result(of: .scalar), attention.expected, within: 5e-5, "seed \(generator.seed)")
  }

  @Test(arguments: [false, true]) func maskedQueries(isCausal: Bool) {
    var generator = SeededGenerator()
    var attention = AttentionCase(
      queryCount: 90, keyCount: 90, headSize: 12, isCausal: isCausal, using: &generator)
    for seenCount in [0, 1] {
      attention.mask = (0..<90).map { $0 >= 90 - seenCount }
      check(attention.result(of: .scalar), attention.expected, "seed \(generator.seed)")
    }
    // A query beyond the keys has no value of its own.
    attention.mask = [Bool](repeating: false, count: 90)
    if !isCausal {
      attention.firstPosition = 50
      check(attention.result(of: .scalar), attention.expected, "seed \(generator.seed)")
    }
  }

  @Test(arguments: InstructionSet.available) func agreement(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for round in 0..<60 {
      let keyCount = Int.random(in: 1...150, using: &generator)
      var attention = AttentionCase(
        queryCount: Int.random(in: 1...min(keyCount, 29), using: &generator), keyCount: keyCount,
        headSize: Self.headSizes.randomElement(using: &generator) ?? 1,
        valueSize: Self.headSizes.randomElement(using: &generator), isCausal: round % 2 == 0, using: &generator)
      if round % 3 == 0 { attention.slope = 0.125 }
      if round % 4 < 3 { attention.window = Int.random(in: 0...keyCount, using: &generator) }
      if round % 5 < 2 { attention.addBias(using: &generator) }
      if round % 7 < 3 { attention.softCap = Float.random(in: 0.5...4, using: &generator) }
      if round % 6 < 2 { attention.sink = Float.random(in: -8...8, using: &generator) }
      if round % 4 < 2 {
        let share = Int.random(in: 0...3, using: &generator)
        attention.mask = (0..<keyCount).map { _ in Int.random(in: 0..<3, using: &generator) < share }
      }
      if round % 5 == 0 {
        let place = Int.random(in: 0..<keyCount, using: &generator)
        attention.keys[place] = HardRows.row(
          count: attention.headSize, scale: 1, nonFinite: true, using: &generator)
        attention.values[place] = HardRows.row(
          count: attention.valueSize, scale: 1, nonFinite: true, using: &generator)
      }
      let actual = attention.result(of: kernels, filler: round % 2 == 0 ? .nan : 3)
      let expected = attention.result(of: .scalar)
      #expect(
        zip(actual, expected).allSatisfy { InstructionSetAgreementTests.agree($0, $1) },
        "seed \(generator.seed), round \(round)")
    }
  }

  /// A query's bits depend neither on its companions nor on what comes later.
  @Test(arguments: InstructionSet.available) func pieces(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for (headSize, window) in [(12, 0), (64, 0), (64, 3), (12, 20), (64, 64)] {
      var attention = AttentionCase(
        queryCount: 75, keyCount: 75, headSize: headSize, valueSize: window == 20 ? 24 : nil, isCausal: true,
        using: &generator)
      attention.window = window
      let whole = attention.result(of: kernels)
      let context: Comment = "seed \(generator.seed), head size \(headSize)"
      var start = 0
      while start < 75 {
        let end = min(75, start + Int.random(in: 1...20, using: &generator))
        var piece = attention
        // Only the keys up to the last query; the one after it is not a number.
        piece.keys.removeLast(75 - end)
        piece.values.removeLast(75 - end)
        #expect(
          piece.result(of: kernels, queries: start..<end).map(\.bitPatterns)
            == whole[start..<end].map(\.bitPatterns), context)
        if end < 75 {
          var poisoned = attention
          poisoned.keys[end][0] = .nan
          poisoned.values[end] = [Float](repeating: .infinity, count: attention.valueSize)
          #expect(
            poisoned.result(of: kernels)[..<end].map(\.bitPatterns)
              == whole[..<end].map(\.bitPatterns), context)
        }
        start = end
      }
    }
  }

  /// Values at masked keys have no influence.
  @Test(arguments: InstructionSet.available) func maskedKeys(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    var attention = AttentionCase(
      queryCount: 20, keyCount: 100, headSize: 20, isCausal: false, using: &generator)
    let mask = (0..<100).map { $0 < 3 || ($0 > 10 && $0 < 90 && $0 % 7 != 0) }
    attention.mask = mask
    let result = attention.result(of: kernels).map(\.bitPatterns)
    for key in 0..<100 where !mask[key] {
      attention.keys[key] = [Float](repeating: .nan, count: 20)
      attention.values[key] = [Float](repeating: .nan, count: 20)
    }
    #expect(attention.result(of: kernels).map(\.bitPatterns) == result, "seed \(generator.seed)")
  }

  @Test(arguments: InstructionSet.available) func keyCache(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for headSize in [1, 12, 16, 80] {
      let count = 53
      let keys = (0..<count * headSize).map { Float($0) }
      var cache = [Float](
        repeating: -1, count: Kernels.keyCacheCount(positionCount: count, headSize: headSize))
      var start = 0
      while start < count {
        let end = min(count, start + Int.random(in: 1...40, using: &generator))
        keys[(start * headSize)...].withUnsafeBufferPointer { keys in
          cache.withUnsafeMutableBufferPointer {
            kernels.storeKeys(
              keys, stride: headSize, count: end - start, headSize: headSize,
              firstPosition: start, into: $0)
          }
        }
        start = end
      }
      for (index, element) in cache.enumerated() {
        let position = index / (16 * headSize) * 16 + index % 16
        let channel = index / 16 % headSize
        let expected = position < count ? keys[position * headSize + channel] : -1
        #expect(element == expected, "seed \(generator.seed), head size \(headSize)")
      }
    }
  }
}
