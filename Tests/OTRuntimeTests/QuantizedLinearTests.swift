import OTContainer
import OTConversion
import OTFoundation
import OTGraph
import OTModel
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// Every linear of a packed model against loops over dequantized weights in
/// float64, from the values that an observer saw going in.
@Suite struct QuantizedLinearTests {
  struct Case: Sendable, CustomStringConvertible {
    let description: String
    let method: FixtureMethod
    let change: @Sendable (inout ConversionOptions) -> Void

    init(
      _ description: String, _ method: FixtureMethod,
      _ change: @escaping @Sendable (inout ConversionOptions) -> Void
    ) {
      self.description = description
      self.method = method
      self.change = change
    }
  }

  static let cases = [
    Case("W8A8", .outlierTune) { $0.bits = 8 },
    Case("W6A8", .outlierTune) {
      $0.bits = 6
      $0.activationBits = 8
    },
    Case("W8A6 per token", .perToken) { $0.activationBits = 6 },
    Case("W3A4 symmetric, in place", .outlierTune) {
      $0.bits = 3
      $0.activationBits = 4
      $0.isSymmetric = true
      $0.compression = .none
    },
    Case("groups of 48", .outlierTune) {
      $0.bits = 6
      $0.granularity = .perGroup(size: 48)
    },
    Case("groups of 80, symmetric, per token, in place", .perToken) {
      $0.bits = 5
      $0.granularity = .perGroup(size: 80)
      $0.isSymmetric = true
      $0.compression = .none
    },
    Case("groups of activations, per token", .perToken) {
      $0.activationBits = 6
      $0.activations = .group(size: 32)
    },
    Case("groups of activations, symmetric, in place", .perToken) {
      $0.bits = 6
      $0.activations = .group(size: 64)
      $0.isSymmetric = true
      $0.compression = .none
    },
    Case("groups of activations and of weights", .perToken) {
      $0.bits = 4
      $0.granularity = .perGroup(size: 64)
      $0.activations = .group(size: 32)
    },
    Case("asymmetric groups of activations, in place", .perToken) {
      $0.bits = 6
      $0.activations = .asymmetricGroup(size: 64)
      $0.compression = .none
    },
    Case("asymmetric groups of activations and of weights", .perToken) {
      $0.bits = 4
      $0.activationBits = 5
      $0.granularity = .perGroup(size: 64)
      $0.activations = .asymmetricGroup(size: 32)
    },
    Case("asymmetric tokens, in place", .perToken) {
      $0.bits = 6
      $0.activations = .asymmetricToken
      $0.compression = .none
    },
    Case("asymmetric tokens and groups of weights", .perToken) {
      $0.bits = 4
      $0.activationBits = 5
      $0.granularity = .perGroup(size: 64)
      $0.activations = .asymmetricToken
    },
    Case("one scale for all", .outlierTuneWithoutSymmetrization) { $0.granularity = .perTensor },
    Case("some left out", .outlierTune) {
      $0.bits = 6
      $0.exclude = [NamePattern("(layers|h)\\.1\\.")].compactMap { $0 }
    },
  ]

  @Test(arguments: Fixture.decoders, cases)
  func linearsAgreeWithDirectLoops(_ fixture: Fixture, _ test: Case) throws {
    let file = try fixture.simulated(test.method, test.change)
    let graph = try #require(file.graph)
    let parameters = try ContainerParameters(graph: graph, container: file.container, threadCount: 1)
    var seen: [String: Matrix] = [:]
    var integerCount = 0
    _ = try QuantizedExecutor(graph: graph, container: file.container, threadCount: 2)
      .run(tokenIDs: [5, 77, 1999]) { value in
        seen[value.name] = Matrix(
          rowCount: value.rowCount, channelCount: value.channelCount, values: Array(value.values))
      }
    for node in graph.nodes {
      guard case .linear(let linear) = node.operation, linear.role == .block else { continue }
      let producer = node.inputs[0]
      let x = try #require(seen[producer])
      let y = try #require(seen[node.name])
      let isInteger = graph.activations[producer].map { $0 != .float } ?? false
      integerCount += isInteger ? 1 : 0
      let weights = try dequantized(linear.weight.name, of: file)
      let bias = try graph.parameterUses(of: node.name).first { $0.role == .bias }
        .map { try parameters.values(of: $0) }
      for token in 0..<x.rowCount {
        let input = quantized(x[token], graph.activations[producer] ?? .float)
        var magnitude = 0.0
        var expected: [Double] = []
        for row in 0..<linear.outFeatures {
          let products = zip(weights[row], input).map { Double($0) * $1 }
          magnitude = max(magnitude, products.reduce(0) { $0 + abs($1) })
          expected.append(products.reduce(0, +) + Double(bias?[row] ?? 0))
        }
        let error = zip(y[token], expected).map { abs(Double($0) - $1) }.max() ?? 0
        #expect(error <= 1e-6 * magnitude, "\(node.name), token \(token): \(error) of \(magnitude)")
      }
    }
    #expect(integerCount > 0)
  }

  private func dequantized(_ name: String, of file: PackedModel) throws -> [[Float]] {
    let tensor = try #require(file.container[name])
    let width = tensor.layout.columnCount
    let values =
      tensor.scheme == nil
      ? try file.container.floats(of: tensor)
      : try file.container.dequantized(
        tensor, rowTiles: 0..<tensor.layout.rowTileCount, scales: file.container.scales(of: tensor),
        zeroPoints: file.container.zeroPoints(of: tensor))
    return stride(from: 0, to: values.count, by: width).map { Array(values[$0..<$0 + width]) }
  }

  private func quantized(
    _ x: ArraySlice<Float>, _ quantization: ActivationQuantization
  ) -> [Double] {
    switch quantization {
    case .float: return x.map(Double.init)
    case .static(let bits, _):
      let largest = Float(1 << (bits - 1) - 1)
      return x.map { Double(min(max($0.rounded(.toNearestOrEven), -largest - 1), largest)) }
    case .asymmetric(let bits, let groupSize):
      let (low, high) = (-Float(1 << (bits - 1)), Float(1 << (bits - 1) - 1))
      return stride(from: x.startIndex, to: x.endIndex, by: groupSize ?? x.count).flatMap { first in
        let group = x[first..<min(first + (groupSize ?? x.count), x.endIndex)]
        let (least, greatest) = (min(group.min() ?? 0, 0), max(group.max() ?? 0, 0))
        let scale = greatest / (high - low) - least / (high - low)
        guard scale > 0 else { return group.map { _ in 0.0 } }
        let zero = min(max((low - least / scale).rounded(.toNearestOrEven), low), high)
        return group.map {
          let code = min(max(($0 / scale).rounded(.toNearestOrEven) + zero, low), high)
          return Double(code - zero) * Double(scale)
        }
      }
    case .dynamic(let bits, let groupSize):
      let largest = Float(1 << (bits - 1) - 1)
      return stride(from: x.startIndex, to: x.endIndex, by: groupSize ?? x.count).flatMap { first in
        let group = x[first..<min(first + (groupSize ?? x.count), x.endIndex)]
        let scale = (group.map(abs).max() ?? 0) / largest
        return group.map { scale == 0 ? 0 : Double(($0 / scale).rounded(.toNearestOrEven)) * Double(scale) }
      }
    }
  }
}
