import Foundation
import OTFoundation
import OTKernels
import Testing
import _OTTestSupport

/// The scalar kernels against the formulas in float64.
@Suite struct ModelKernelsTests {
  private static func exact(_ activation: Kernels.Activation, _ x: Double) -> Double {
    switch activation {
    case .relu: x > 0 ? x : 0
    case .gelu: x / 2 * erfc(-x / 2.squareRoot())
    case .geluTanh: x / 2 * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044_715 * x * x * x)))
    case .silu: x / (1 + exp(-x))
    case .tanh: tanh(x)
    }
  }

  @Test(arguments: Kernels.Activation.allCases)
  func activations(_ activation: Kernels.Activation) {
    // Floats of every exponent, and those around where the functions bend.
    var x = stride(from: UInt32(0), to: 0x7F80_0000, by: 40_009).map { Float(bitPattern: $0) }
    x += (0...20_000).map { Float($0) * 0.001 }
    x += x.map { -$0 }
    for (x, y) in zip(x, Kernels.scalar.activate(activation, x)) {
      let exact = Self.exact(activation, Double(x))
      let error = abs(Double(y) - exact)
      // GELU and SiLU are x times a number in 0 ... 1, with the error of that.
      let bound = activation == .tanh ? 1.7e-7 * abs(exact) : 1.5e-7 * Double(abs(x))
      #expect(error <= bound + 1e-44, "\(x): \(y), not \(exact)")
    }
  }

  @Test(arguments: Kernels.Activation.allCases)
  func activationsOfExtremes(_ activation: Kernels.Activation) {
    let y = Kernels.scalar.activate(activation, [.nan, .infinity, 0, -0.0, -1e30, 1e30])
    #expect(y[0].isNaN)
    #expect(y[1] == (activation == .tanh ? 1 : .infinity))
    #expect(y[2] == 0 && y[3] == 0)
    #expect(y[4] == (activation == .tanh ? -1 : 0))
    #expect(y[5] == (activation == .tanh ? 1 : 1e30))
  }

  @Test func elements() {
    let (x, y): ([Float], [Float]) = ([1, -2, 0.5, 8], [3, 0.25, -4, 0])
    #expect(Kernels.scalar.add(x, y) == [4, -1.75, -3.5, 8])
    #expect(Kernels.scalar.multiply(x, y) == [3, -0.5, -2, 0])
    let scale: [Float] = [2, 4, 8, 16]
    #expect(Kernels.scalar.transform(x, shift: y, scale: scale) == [-1, -0.5625, 0.5625, 0.5])
    #expect(Kernels.scalar.transform(x, shift: nil, scale: scale) == [0.5, -0.5, 0.0625, 0.5])
    #expect(Kernels.scalar.transform(x, shift: y, scale: nil) == [-2, -2.25, 4.5, 8])
  }

  @Test(arguments: [1, 2, 15, 16, 17, 100, 1000]) func norms(count: Int) {
    var generator = SeededGenerator()
    let x = (0..<count).map { _ in Float.random(in: 90...110, using: &generator) }
    let gamma = (0..<count).map { _ in Float.random(in: -2...2, using: &generator) }
    let beta = (0..<count).map { _ in Float.random(in: -2...2, using: &generator) }
    let wide = x.map { Double($0) }
    let mean = wide.reduce(0, +) / Double(count)
    let variance = wide.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Double(count)
    let meanSquare = wide.map { $0 * $0 }.reduce(0, +) / Double(count)
    for hasVectors in [false, true] {
      let (g, b) = hasVectors ? (gamma, beta) : (nil, nil)
      let layer = Kernels.scalar.layerNormalize(x, epsilon: 1e-5, gamma: g, beta: b)
      let rms = Kernels.scalar.rmsNormalize(x, epsilon: 1e-5, gamma: g, beta: b)
      for k in 0..<count {
        let (factor, shift) = hasVectors ? (Double(gamma[k]), Double(beta[k])) : (1, 0)
        let context: Comment = "seed \(generator.seed), element \(k)"
        // The mean is rounded to float32: half an ulp at 100.
        let centered = (wide[k] - mean) / (variance + 1e-5).squareRoot() * factor + shift
        let tolerance = 1e-6 + 4e-6 / (variance + 1e-5).squareRoot()
        #expect(abs(Double(layer[k]) - centered) <= tolerance * 4, context)
        let scaled = wide[k] / (meanSquare + 1e-5).squareRoot() * factor + shift
        #expect(abs(Double(rms[k]) - scaled) <= 2e-6, context)
      }
    }
  }

  @Test func rotation() {
    var generator = SeededGenerator()
    for (headSize, half) in [(2, 1), (8, 4), (10, 3), (64, 32)] {
      let row = (0..<3 * headSize).map { _ in Float.random(in: -1...1, using: &generator) }
      let angles = (0..<half).map { _ in Double.random(in: -9...9, using: &generator) }
      let rotated = Kernels.scalar.rotate(
        row, headSize: headSize, cosines: angles.map { Float(cos($0)) },
        sines: angles.map { Float(sin($0)) })
      for (index, value) in rotated.enumerated() {
        let channel = index % headSize
        var exact = Double(row[index])
        if channel < half {
          exact = exact * cos(angles[channel]) - Double(row[index + half]) * sin(angles[channel])
        } else if channel < 2 * half {
          let pair = channel - half
          exact = exact * cos(angles[pair]) + Double(row[index - half]) * sin(angles[pair])
        }
        #expect(abs(Double(value) - exact) < 3e-7, "seed \(generator.seed), element \(index)")
      }
    }
  }

  @Test(arguments: [false, true]) func epilogues(hasDigits: Bool) {
    var generator = SeededGenerator()
    for round in 0..<40 {
      let channelCount = Int.random(in: 1...20, using: &generator)
      let epilogue = EpilogueCase(
        rowCount: 3, channelCount: channelCount, hasDigits: hasDigits, using: &generator)
      let result = epilogue.result(of: .scalar)
      for row in 0..<3 {
        for channel in 0..<epilogue.targetStride {
          let place = row * epilogue.targetStride + channel
          let context: Comment = "seed \(generator.seed), round \(round), \(row), \(channel)"
          guard channel < channelCount else {
            #expect(result[place] == epilogue.target[place], context)
            continue
          }
          let digitCount = hasDigits ? 3 : 1
          var sum: Int128 = 0
          for digit in 0..<digitCount {
            let productRow = row * digitCount + digit
            let product = epilogue.products[productRow * epilogue.productStride + channel]
            let part =
              Int128(product)
              - Int128(epilogue.zeroPoints[channel]) * Int128(epilogue.codeSums[productRow])
            // All that is left of it in 32 bits.
            sum = 256 * sum + Int128(Int32(truncatingIfNeeded: part))
            if let zeros = epilogue.tokenZeros {
              sum -= Int128(epilogue.weightSums[channel]) * Int128(zeros[row])
            }
          }
          var value = epilogue.scales[channel] * Float(sum)
          if epilogue.accumulates { value = epilogue.target[place] + value }
          if epilogue.isLast, let scales = epilogue.tokenScales { value *= scales[row] }
          if epilogue.isLast, let bias = epilogue.bias { value += bias[channel] }
          #expect(result[place].bitPattern == value.bitPattern, context)
        }
      }
    }
  }
}
