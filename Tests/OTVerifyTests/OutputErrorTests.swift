import OTVerify
import Testing
import _OTTestSupport

@Suite struct OutputErrorTests {
  /// Random values and what a model makes of them, with some channels louder.
  private func values(
    rows: Int, channels: Int, _ random: inout SeededGenerator
  ) -> (reference: [Float], model: [Float]) {
    let gains = (0..<channels).map { _ in Float.random(in: 0.01...30, using: &random) }
    let reference = (0..<rows * channels).map { Float.random(in: -1...1, using: &random) * gains[$0 % channels] }
    return (reference, reference.map { $0 + Float.random(in: -0.1...0.1, using: &random) })
  }

  private func error(
    _ model: [Float], _ reference: [Float], channels: Int, shift: [Float]? = nil, scale: [Float]? = nil,
    rowsAtATime: Int? = nil, threadCount: Int = 1
  ) throws -> OutputError {
    var error = OutputError(channelCount: channels)
    let step = (rowsAtATime ?? model.count / channels) * channels
    for start in stride(from: 0, to: model.count, by: step) {
      let part = start..<min(start + step, model.count)
      try Array(model[part]).withUnsafeBufferPointer { model in
        try Array(reference[part]).withUnsafeBufferPointer {
          try error.add(model: model, reference: $0, restoring: (shift, scale), threadCount: threadCount)
        }
      }
    }
    return error
  }

  @Test(arguments: [(1, 1), (3, 2), (17, 129), (40, 300)]) func figures(rows: Int, channels: Int) throws {
    var random = SeededGenerator()
    let (reference, model) = values(rows: rows, channels: channels, &random)
    let error = try error(model, reference, channels: channels)
    // Two passes over doubles, vectors first.
    let differences = zip(reference, model).map { Double($0) - Double($1) }
    func norm(_ values: [Double]) -> Double { values.map { $0 * $0 }.reduce(0, +).squareRoot() }
    let relative = norm(differences) / norm(reference.map(Double.init))
    let dot = zip(reference, model).map { Double($0) * Double($1) }.reduce(0, +)
    let cosine = dot / norm(reference.map(Double.init)) / norm(model.map(Double.init))
    #expect(abs(error.relativeError - relative) < 1e-12, "seed \(random.seed)")
    #expect(abs(error.cosine - cosine) < 1e-12, "seed \(random.seed)")
    let mean = differences.map { $0 * $0 }.reduce(0, +) / Double(rows * channels)
    #expect(abs(error.meanSquaredError / mean - 1) < 1e-9, "seed \(random.seed)")
    // 20 dB are a factor of 10.
    #expect(abs(error.sqnrDecibels + 20 * logarithm10(relative)) < 1e-9, "seed \(random.seed)")
    #expect(error.rowCount == rows)
  }

  /// log₁₀ by bisection of powers, since the code's own comes from the C library.
  private func logarithm10(_ value: Double) -> Double {
    var (low, high) = (-20.0, 20.0)
    for _ in 0..<200 {
      let middle = (low + high) / 2
      // 10^m = 2^(m·3.32…): exact halving is all that matters here.
      if power10(middle) < value { low = middle } else { high = middle }
    }
    return low
  }

  private func power10(_ exponent: Double) -> Double {
    let whole = Int(exponent.rounded(.down))
    let x = (exponent - Double(whole)) * 2.302585092994046
    var term = 1.0, sum = 1.0
    for index in 1..<40 {
      term *= x / Double(index)
      sum += term
    }
    return (0..<abs(whole)).reduce(sum) { value, _ in whole < 0 ? value / 10 : value * 10 }
  }

  @Test func threadsAndBatchesChangeNothing() throws {
    var random = SeededGenerator()
    let (reference, model) = values(rows: 24, channels: 517, &random)
    let one = try error(model, reference, channels: 517)
    #expect(try error(model, reference, channels: 517, threadCount: 7) == one, "seed \(random.seed)")
    let batched = try error(model, reference, channels: 517, rowsAtATime: 5)
    #expect(abs(batched.relativeError - one.relativeError) < 1e-12, "seed \(random.seed)")
  }

  @Test func transformsAreUndone() throws {
    var random = SeededGenerator()
    let (reference, _) = values(rows: 9, channels: 140, &random)
    // Powers of two, and shifts that are sums: nothing is rounded.
    let scale = (0..<140).map { _ in
      Float(sign: .plus, exponent: Int.random(in: -9...9, using: &random), significand: 1)
    }
    let model = reference.indices.map { reference[$0] / scale[$0 % 140] }
    #expect(try error(model, reference, channels: 140, scale: scale).relativeError == 0, "seed \(random.seed)")
    let shift = (0..<140).map { Float($0) }
    let integers = reference.map { ($0 * 8).rounded() }
    let shifted = integers.indices.map { integers[$0] - shift[$0 % 140] }
    #expect(try error(shifted, integers, channels: 140, shift: shift).relativeError == 0, "seed \(random.seed)")
    #expect(try error(shifted, integers, channels: 140).relativeError > 0)
  }

  @Test func theWorstChannelIsNamed() throws {
    var reference = [Float](repeating: 1, count: 60)
    var model = reference
    for row in 0..<6 { model[row * 10 + 7] = 0.5 }
    var worst = try #require(try error(model, reference, channels: 10).worstChannel)
    #expect(worst.index == 7)
    #expect(abs(worst.relativeError - 0.5) < 1e-12)
    // A channel that is all but silent is not worse for being twice as loud.
    for row in 0..<6 { (reference[row * 10], model[row * 10]) = (1e-6, 2e-6) }
    worst = try #require(try error(model, reference, channels: 10).worstChannel)
    #expect(worst.index == 7)
    model[3] = .nan
    let broken = try error(model, reference, channels: 10)
    #expect(broken.worstChannel?.index == 3)
    #expect(broken.relativeError.isNaN && broken.cosine.isNaN)
  }

  @Test func nothingAndZeros() throws {
    #expect(OutputError(channelCount: 4).worstChannel == nil)
    let same = try error([0, 0], [0, 0], channels: 2)
    #expect(same.relativeError == 0 && same.cosine == 1 && same.sqnrDecibels == .infinity)
    let lost = try error([1, 1], [0, 0], channels: 2)
    #expect(lost.relativeError == .infinity && lost.cosine == 0)
    let gone = try error([0, 0], [3, 4], channels: 2)
    #expect(gone.relativeError == 1 && gone.cosine == 0 && gone.sqnrDecibels == 0)
  }
}
