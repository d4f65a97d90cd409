import Foundation
import OTFoundation
import OTKernels
import Testing
import _OTTestSupport

@Suite struct CodeAttentionTests {
  static let headSizes = [1, 6, 12, 64, 80, 128]

  /// Values are within ±1. Weights are rounded to a 16,256th of the largest in their
  /// block, or to a 127th where 16 such together come to less than the weights do: a
  /// weight is off by 1 in 4,000 of them at most, and errors have either sign.
  private func check(_ attention: CodeAttentionCase, within tolerance: Double = 4e-3, _ context: Comment) {
    for (actual, expected) in zip(attention.result(of: .scalar), attention.expected) {
      for (value, exact) in zip(actual, expected) { #expect(abs(Double(value) - exact) <= tolerance, context) }
    }
  }

  @Test(arguments: headSizes, [false, true])
  func softmax(headSize: Int, isCausal: Bool) {
    var generator = SeededGenerator()
    for (queryCount, keyCount) in [(1, 1), (3, 17), (13, 64), (9, 129), (70, 70), (1, 300)] {
      let floats = AttentionCase(
        queryCount: queryCount, keyCount: keyCount, headSize: headSize,
        valueSize: keyCount % 2 == 0 ? nil : Self.headSizes.randomElement(using: &generator), isCausal: isCausal,
        using: &generator)
      let bits = Int.random(in: 2...8, using: &generator)
      var attention = CodeAttentionCase(rounding: floats, bits: bits)
      let context: Comment = "seed \(generator.seed), \(queryCount) queries, \(keyCount) keys, \(bits) bits"
      check(attention, context)
      attention.shape.slope = 0.25
      check(attention, context)
      attention.shape.mask = (0..<keyCount).map { _ in Bool.random(using: &generator) }
      check(attention, context)
      attention.shape.slope = 0
      check(attention, context)
    }
  }

  @Test(arguments: [8, 64], [false, true]) func windowsAndCaps(headSize: Int, isCausal: Bool) {
    var generator = SeededGenerator()
    for (queryCount, keyCount) in [(1, 1), (9, 17), (140, 140), (3, 300)] {
      for window in [0, 1, 7, 64, 127, 128, 129, 200] {
        var floats = AttentionCase(
          queryCount: queryCount, keyCount: keyCount, headSize: headSize, isCausal: isCausal, using: &generator)
        if !isCausal { floats.firstPosition = (keyCount - queryCount) / 2 }
        var attention = CodeAttentionCase(rounding: floats, bits: 8)
        let context: Comment = "seed \(generator.seed), \(queryCount) queries, \(keyCount) keys, window \(window)"
        attention.shape.window = window
        check(attention, context)
        attention.shape.softCap = 1.5
        check(attention, context)
        for sink in [Float(-30), 0.5, 6] {
          attention.shape.sink = sink
          check(attention, context)
        }
        attention.shape.sink = window % 2 == 0 ? 1 : nil
        attention.shape.slope = 0.25
        attention.shape.mask = (0..<keyCount).map { _ in Bool.random(using: &generator) }
        check(attention, context)
        attention.shape.addBias(using: &generator)
        check(attention, context)
      }
    }
  }

  /// Scores whose exponentials alone would overflow, and a maximum that grows
  /// from block to block.
  @Test func largeScores() {
    var generator = SeededGenerator()
    let floats = AttentionCase(queryCount: 5, keyCount: 400, headSize: 8, isCausal: false, using: &generator)
    var attention = CodeAttentionCase(rounding: floats, bits: 8)
    attention.shape.scale = 100
    check(attention, within: 5e-3, "seed \(generator.seed)")
    attention.shape.scale = 0.1
    attention.shape.slope = 2
    check(attention, "seed \(generator.seed)")
  }

  /// One key has most of the weight, as the first token has in many models; what
  /// the others have together must not be lost, though each alone has next to none.
  /// Equal weights have equal errors: a 32nd of what they have together, at worst.
  @Test(arguments: [0, 100, 700]) func manySmallWeights(place: Int) {
    var generator = SeededGenerator()
    let floats = AttentionCase(queryCount: 3, keyCount: 1000, headSize: 16, isCausal: false, using: &generator)
    var attention = CodeAttentionCase(rounding: floats, bits: 8)
    let query = [1] + [Float](repeating: 0, count: 15)
    attention.queries = CodeRows(rounding: [query, query, query], bits: 8)
    attention.keys = CodeRows(
      rounding: (0..<1000).map { [$0 == place ? 10 : 1] + [Float](repeating: 0.5, count: 15) }, bits: 8)
    for index in 0..<1000 {
      attention.values.codes[index] = [Int8](repeating: index == place ? -127 : 127, count: 16)
    }
    attention.values.scales = [Float](repeating: 1 / 127, count: 1000)
    // Weights are 1 and 1,000 times e^-4.5 ... e^-9.
    for scale: Float in [0.5, 0.75, 1] {
      attention.shape.scale = scale
      check(attention, within: 3e-2, "scale \(scale)")
    }
  }

  /// Values of very different steps, zeros among them.
  @Test func unequalScales() {
    var generator = SeededGenerator()
    var floats = AttentionCase(queryCount: 20, keyCount: 150, headSize: 24, isCausal: true, using: &generator)
    for key in 0..<150 {
      let factor = Float.random(in: -6...0, using: &generator)
      let step = key % 7 == 0 ? 0 : exp2(factor)
      floats.values[key] = floats.values[key].map { $0 * step }
    }
    check(CodeAttentionCase(rounding: floats, bits: 8), "seed \(generator.seed)")
    for key in 0..<150 { floats.values[key] = [Float](repeating: 0, count: 24) }
    check(CodeAttentionCase(rounding: floats, bits: 8), within: 0, "seed \(generator.seed)")
  }

  @Test(arguments: [false, true]) func maskedQueries(isCausal: Bool) {
    var generator = SeededGenerator()
    let floats = AttentionCase(queryCount: 90, keyCount: 90, headSize: 12, isCausal: isCausal, using: &generator)
    var attention = CodeAttentionCase(rounding: floats, bits: 8)
    for seenCount in [0, 1] {
      attention.shape.mask = (0..<90).map { $0 >= 90 - seenCount }
      check(attention, "seed \(generator.seed)")
    }
    attention.shape.mask = [Bool](repeating: false, count: 90)
    if !isCausal {
      attention.shape.firstPosition = 50
      check(attention, "seed \(generator.seed)")
    }
  }

  /// A scale of NaN makes NaN of what sees it, and of nothing else.
  @Test(arguments: InstructionSet.available) func scalesOfNaN(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    let floats = AttentionCase(queryCount: 200, keyCount: 200, headSize: 8, isCausal: true, using: &generator)
    let clean = CodeAttentionCase(rounding: floats, bits: 8)
    let result = clean.result(of: kernels)
    for kind in 0..<3 {
      var attention = clean
      switch kind {
      case 0: attention.queries.scales[150] = .nan
      case 1: attention.keys.scales[150] = .nan
      default: attention.values.scales[150] = .nan
      }
      for (index, row) in attention.result(of: kernels).enumerated() {
        if kind == 0 ? index == 150 : index >= 150 {
          #expect(row.allSatisfy { $0.isNaN }, "kind \(kind), query \(index)")
        } else {
          #expect(row.bitPatterns == result[index].bitPatterns, "kind \(kind), query \(index)")
        }
      }
    }
  }

  @Test(arguments: InstructionSet.available) func agreement(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for round in 0..<60 {
      let keyCount = Int.random(in: 1...300, using: &generator)
      let floats = AttentionCase(
        queryCount: Int.random(in: 1...min(keyCount, 29), using: &generator), keyCount: keyCount,
        headSize: Self.headSizes.randomElement(using: &generator) ?? 1,
        valueSize: Self.headSizes.randomElement(using: &generator), isCausal: round % 2 == 0, using: &generator)
      var attention = CodeAttentionCase(rounding: floats, bits: Int.random(in: 2...8, using: &generator))
      if round % 3 == 0 { attention.shape.slope = 0.125 }
      if round % 4 < 3 { attention.shape.window = Int.random(in: 0...keyCount, using: &generator) }
      if round % 5 < 2 { attention.shape.addBias(using: &generator) }
      if round % 7 < 3 { attention.shape.softCap = Float.random(in: 0.5...4, using: &generator) }
      if round % 6 < 2 { attention.shape.sink = Float.random(in: -8...8, using: &generator) }
      if round % 4 < 2 {
        let share = Int.random(in: 0...3, using: &generator)
        attention.shape.mask = (0..<keyCount).map { _ in Int.random(in: 0..<3, using: &generator) < share }
      }
      let actual = attention.result(of: kernels, filler: round % 2 == 0 ? 0xFF : 3)
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
    for (headSize, window) in [(12, 0), (64, 0), (64, 3), (12, 130)] {
      let count = 275
      let floats = AttentionCase(
        queryCount: count, keyCount: count, headSize: headSize, isCausal: true, using: &generator)
      var attention = CodeAttentionCase(rounding: floats, bits: 8)
      attention.shape.window = window
      let whole = attention.result(of: kernels)
      let context: Comment = "seed \(generator.seed), head size \(headSize)"
      var start = 0
      while start < count {
        let end = min(count, start + Int.random(in: 1...40, using: &generator))
        var piece = attention
        for rows in [\CodeAttentionCase.keys, \.values] {
          piece[keyPath: rows].codes.removeLast(count - end)
          piece[keyPath: rows].scales.removeLast(count - end)
        }
        let result = piece.result(of: kernels, queries: start..<end)
        #expect(result.map(\.bitPatterns) == whole[start..<end].map(\.bitPatterns), context)
        start = end
      }
    }
  }

  /// Values at masked keys have no influence.
  @Test(arguments: InstructionSet.available) func maskedKeys(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    let floats = AttentionCase(queryCount: 20, keyCount: 200, headSize: 20, isCausal: false, using: &generator)
    var attention = CodeAttentionCase(rounding: floats, bits: 8)
    let mask = (0..<200).map { $0 < 3 || ($0 > 10 && $0 < 180 && $0 % 7 != 0) }
    attention.shape.mask = mask
    let result = attention.result(of: kernels).map(\.bitPatterns)
    for key in 0..<200 where !mask[key] {
      attention.keys.scales[key] = .nan
      attention.values.scales[key] = .infinity
      attention.keys.codes[key] = [Int8](repeating: 127, count: 20)
      attention.values.codes[key] = [Int8](repeating: -127, count: 20)
    }
    #expect(attention.result(of: kernels).map(\.bitPatterns) == result, "seed \(generator.seed)")
  }

  @Test(arguments: InstructionSet.available) func cache(_ set: InstructionSet) throws {
    let kernels = try #require(Kernels(set))
    var generator = SeededGenerator()
    for headSize in [1, 6, 16, 80] {
      let count = 53
      let keyWidth = (headSize + 3) / 4 * 4
      let valueWidth = (headSize + 15) / 16 * 16
      let rows = (0..<count * headSize).map { _ in Int8.random(in: -127...127, using: &generator) }
      var keys = [UInt8](repeating: 1, count: 64 * keyWidth)
      var values = [Int8](repeating: 1, count: 64 * valueWidth)
      #expect(Kernels.keyCodeCount(positionCount: count, headSize: headSize) == keys.count)
      #expect(Kernels.valueCodeCount(positionCount: count, headSize: headSize) == values.count)
      var start = 0
      while start < count {
        let end = min(count, start + Int.random(in: 1...20, using: &generator))
        let piece = Array(rows[(start * headSize)..<(end * headSize)])
        kernels.storeCodes(
          keys: piece, values: piece, stride: headSize, count: end - start, headSize: headSize, firstPosition: start,
          into: &keys, &values)
        start = end
      }
      var (expectedKeys, expectedValues) = (keys.map { _ in UInt8(1) }, values.map { _ in Int8(1) })
      for position in 0..<count {
        for channel in 0..<headSize {
          let code = rows[position * headSize + channel]
          let key = position / 16 * 16 * keyWidth + channel / 4 * 64 + position % 16 * 4 + channel % 4
          expectedKeys[key] = UInt8(Int(code) + 128)
          expectedValues[position / 4 * 4 * valueWidth + channel * 4 + position % 4] = code
        }
      }
      #expect(keys == expectedKeys && values == expectedValues, "seed \(generator.seed), head size \(headSize)")
    }
  }
}
