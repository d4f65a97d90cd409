import Foundation
import OTGraph
import OTRuntime
import Testing

/// Runs a graph in float64 with the plainest loops: what the executor is
/// tested against. Sums run over single elements, and no code is shared.
struct DirectInterpreter {
  typealias Rows = [[Double]]
  let graph: Graph
  let parameters: any ParameterSource

  func run(_ tokens: [Int], types: [Int]? = nil, mask: [Bool]? = nil) throws -> [String: Rows] {
    var values: [String: Rows] = [:]
    var ids: [String: [Int]] = [:]
    for node in graph.nodes {
      let inputs = node.inputs.compactMap { values[$0] }
      switch node.operation {
      case .tokenIDs: ids[node.name] = tokens
      case .positionIDs: ids[node.name] = Array(0..<tokens.count)
      case .countedPositionIDs(let positions):
        ids[node.name] = tokens.indices.map { index in
          tokens[index] == positions.paddingToken
            ? -1 : tokens[..<index].count { $0 != positions.paddingToken }
        }
      case .tokenTypeIDs: ids[node.name] = types ?? tokens.map { _ in 0 }
      case .embedding(let embedding):
        let table = try #require(try vector(.table, node))
        values[node.name] = ids[node.inputs[0]]!.map { id in
          let start = (id + embedding.rowOffset) * embedding.size
          return Array(table[start..<start + embedding.size])
        }
      case .linear(let linear):
        let weight = try #require(try vector(.weight, node))
        let bias = try vector(.bias, node)
        values[node.name] = inputs[0].map { x in
          (0..<linear.outFeatures).map { row in
            var sum = bias?[row] ?? 0
            for column in x.indices { sum += weight[row * x.count + column] * x[column] }
            return sum
          }
        }
      case .layerNorm(let norm), .rmsNorm(let norm):
        var isCentered = false
        if case .layerNorm = node.operation { isCentered = true }
        let gamma = try vector(.gamma, node)
        let beta = try vector(.beta, node)
        func normalized(_ x: [Double], _ first: Int) -> [Double] {
          let mean = isCentered ? x.reduce(0, +) / Double(x.count) : 0
          let square = x.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Double(x.count)
          return x.indices.map {
            (x[$0] - mean) / (square + Double(norm.epsilon)).squareRoot() * (gamma?[first + $0] ?? 1)
              + (beta?[first + $0] ?? 0)
          }
        }
        let size = norm.groupSize ?? norm.size
        values[node.name] = inputs[0].map { x in
          (0..<x.count / size).flatMap {
            normalized(Array(x[$0 * size..<($0 + 1) * size]), norm.hasOwnGains ? $0 * size : 0)
          }
        }
      case .attention(let attention):
        values[node.name] = attend(
          attention, inputs, mask: mask, biases: try vector(.distances, node), sinks: try vector(.sinks, node))
      case .channelSlice(let slice):
        let size = slice.blockSize
        values[node.name] = inputs[0].map { x in
          stride(from: slice.part * size, to: x.count, by: slice.partCount * size)
            .flatMap { x[$0..<$0 + slice.width * size] }
        }
      case .headConcatenation(let heads):
        values[node.name] = inputs[0].indices.map { token in
          (0..<heads.headCount).flatMap { head in
            zip(inputs, heads.sizes).flatMap { rows, size in
              let start = rows[token].count == size ? 0 : head * size
              return rows[token][start..<start + size]
            }
          }
        }
      case .gather(let gather):
        let taken = Set(gather.channels.listed)
        values[node.name] = inputs[0].map { x in
          x.indices.filter { taken.contains($0) != gather.channels.isRest }.map { x[$0] }
        }
      case .activation(let kind):
        values[node.name] = inputs[0].map { $0.map { value(kind, $0) } }
      case .scale(let scale):
        values[node.name] = inputs[0].map { $0.map { $0 * Double(scale.factor) } }
      case .softCap(let softCap):
        values[node.name] = inputs[0].map { $0.map { bent($0, to: softCap.cap) } }
      case .clamp(let clamp):
        let bound = Double(clamp.bound)
        values[node.name] = inputs[0].map { $0.map { abs($0) > bound ? ($0 < 0 ? -bound : bound) : $0 } }
      case .multiply:
        values[node.name] = zip(inputs[0], inputs[1]).map { zip($0, $1).map { $0 * $1 } }
      case .add:
        values[node.name] = zip(inputs[0], inputs[1]).map { zip($0, $1).map { $0 + $1 } }
      case .clampedGate(let gate):
        let (limit, slope) = (Double(gate.limit), Double(gate.slope))
        values[node.name] = zip(inputs[0], inputs[1]).map { gates, others in
          zip(gates, others).map { gate, other in
            let g = min(gate, limit)
            return (max(-limit, min(limit, other)) + 1) * g * (0.5 + 0.5 * Foundation.tanh(slope * g / 2))
          }
        }
      case .routing(let routing):
        let bias = try vector(.choiceBias, node)
        values[node.name] = inputs[0].map { scores in
          let chosen = chosen(routing, scores, bias)
          let raw = scores.map { routing.function == .softmax ? exp($0) : 1 / (1 + exp(-$0)) }
          let total = (routing.isNormalized ? chosen : Array(scores.indices)).reduce(0) { $0 + raw[$1] }
          return scores.indices.map { i in
            let divides = routing.isNormalized || routing.function == .softmax
            return chosen.contains(i) ? raw[i] / (divides ? total : 1) * Double(routing.factor) : 0
          }
        }
      case .mixture:
        // Every expert has been computed for every token.
        values[node.name] = inputs[0].indices.map { token in
          inputs[1][token].indices.map { channel in
            inputs[0][token].indices.reduce(0) { $0 + inputs[0][token][$1] * inputs[1 + $1][token][channel] }
          }
        }
      case .firstToken:
        values[node.name] = [inputs[0][0]]
      case .lastToken(let last):
        let place = tokens.indices.filter { tokens[$0] != last.paddingToken }.max() ?? 0
        values[node.name] = [inputs[0][place]]
      case .meanTokens:
        let seen = inputs[0].indices.filter { mask?[$0] ?? true }
        values[node.name] = [
          inputs[0][0].indices.map { channel in
            seen.reduce(0) { $0 + inputs[0][$1][channel] } / Double(seen.count)
          }
        ]
      case .rotation(let rotation):
        let size = rotation.blockSize
        values[node.name] = inputs[0].map { x in
          x.indices.map { i in
            let start = i / size * size
            let sum = (0..<size).reduce(0.0) { sum, j in
              sum + x[start + j] * ((i - start) & j).nonzeroBitCount.sign
            }
            return sum / Double(size).squareRoot()
          }
        }
      case .affine:
        let shift = try vector(.shift, node)
        let scale = try vector(.scale, node)
        values[node.name] = inputs[0].map { x in
          x.indices.map { (x[$0] - (shift?[$0] ?? 0)) / (scale?[$0] ?? 1) }
        }
      }
    }
    return graph.outputs.mapValues { values[$0]! }
  }

  /// Those with fewer than k before them, by rank and then by place, of those in groups with fewer than their k.
  private func chosen(_ routing: Routing, _ scores: [Double], _ bias: [Double]?) -> [Int] {
    func first(_ count: Int, _ ranks: [Double]) -> [Int] {
      ranks.indices.filter { i in
        ranks.indices.count { ranks[$0] > ranks[i] || (ranks[$0] == ranks[i] && $0 < i) } < count
      }
    }
    let total = scores.reduce(0) { $0 + exp($1) }
    var ranks = scores.map { routing.function == .softmax ? exp($0) / total : 1 / (1 + exp(-$0)) }
    if let bias { ranks = zip(ranks, bias).map { $0 + $1 } }
    if let groups = routing.groups {
      let size = ranks.count / groups.count
      let groupRanks = (0..<groups.count).map { group in
        ranks[group * size..<(group + 1) * size].sorted().suffix(groups.rankedCount).reduce(0, +)
      }
      let open = first(groups.chosenCount, groupRanks)
      ranks = ranks.indices.map { open.contains($0 / size) ? ranks[$0] : -.infinity }
    }
    return first(routing.chosenCount, ranks)
  }

  private func vector(_ role: ParameterUse.Role, _ node: Node) throws -> [Double]? {
    let uses = graph.parameterUses(of: node.name).filter { $0.role == role }
    return uses.isEmpty ? nil : try uses.flatMap { try parameters.values(of: $0).map(Double.init) }
  }

  private func value(_ kind: ActivationKind, _ x: Double) -> Double {
    switch kind {
    case .relu: x > 0 ? x : 0
    case .gelu: x * (1 - erfc(x / 2.0.squareRoot()) / 2)
    // tanh(y) = 1 − 2/(e^2y + 1)
    case .geluTanh:
      x - x / (exp(2 * (2 / Double.pi).squareRoot() * (x + 0.044715 * pow(x, 3))) + 1)
    case .silu: x * (0.5 + 0.5 * Foundation.tanh(x / 2))
    case .tanh: 1 - 2 / (exp(2 * x) + 1)
    }
  }

  /// c·tanh(x / c), tanh(y) = 1 − 2/(e^2y + 1).
  private func bent(_ x: Double, to cap: Float?) -> Double {
    guard let cap = cap.map({ Double($0) }) else { return x }
    return cap - 2 * cap / (exp(2 * x / cap) + 1)
  }

  private func attend(
    _ attention: Attention, _ inputs: [Rows], mask: [Bool]?, biases: [Double]?, sinks: [Double]?
  ) -> Rows {
    let (size, valueSize) = (attention.headSize, attention.valueSize)
    let group = attention.headCount / attention.keyValueHeadCount
    let count = inputs[0].count
    func head(_ rows: Rows, _ index: Int, _ size: Int) -> Rows {
      rows.map { Array($0[index * size..<(index + 1) * size]) }
    }
    func turned(_ x: [Double], _ position: Int, isQuery: Bool = false) -> [Double] {
      guard case .rotary(let rotary) = attention.positions else { return x }
      var result = x
      let half = rotary.dimensions / 2
      var (divisors, size) = ([Double](repeating: 1, count: half), 1.0)
      switch rotary.scaling {
      case .divided(let list, let amplitude): (divisors, size) = (list, amplitude)
      case .longrope(let short, let long, let length, let amplitude):
        (divisors, size) = (count > length ? long : short, amplitude)
      default: divisors = (0..<half).map { pow(rotary.theta, -Double($0) / Double(half)) / rotary.frequencies[$0] }
      }
      if isQuery, let growth = rotary.queryGrowth {
        size *= 1 + growth.rate * log(1 + (Double(position) / Double(growth.length)).rounded(.down))
      }
      for i in 0..<half {
        let (a, b) = rotary.isInterleaved ? (2 * i, 2 * i + 1) : (i, i + half)
        // A complex number times e^(iφ).
        let angle = Double(position) * pow(rotary.theta, -Double(i) / Double(half)) / divisors[i]
        result[a] = (x[a] * cos(angle) - x[b] * sin(angle)) * size
        result[b] = (x[a] * sin(angle) + x[b] * cos(angle)) * size
      }
      return result
    }
    var output = Rows(repeating: [], count: count)
    for index in 0..<attention.headCount {
      let queries = head(inputs[0], index, size)
      let keys = head(inputs[1], index / group, size)
      let values = head(inputs[2], index / group, valueSize)
      for i in 0..<count {
        let query = turned(queries[i], i, isQuery: true)
        let visible = (0..<count).filter { j in
          (!attention.isCausal || j <= i) && abs(i - j) < attention.window ?? .max && (mask?[j] ?? true)
        }
        let scores = visible.map { j in
          var score =
            zip(query, turned(keys[j], j)).map { $0 * $1 }.reduce(0, +)
            * Double(attention.scale)
          score = bent(score, to: attention.softCap)
          // Distances instead of positions: a row's softmax does not tell them apart.
          if case .alibi = attention.positions {
            score -= DirectInterpreter.slopes(attention.headCount)[index] * Double(i - j)
          }
          if case .slopes(let bias) = attention.positions {
            let slope = Double(bias.slopes[index])
            if let factor = bias.roundedFactor {
              score += rounded(slope * rounded(Double(j))) * Double(factor)
            } else {
              score -= slope * Double(i - j)
            }
          }
          if case .distances(let table) = attention.positions, let biases {
            // The last range that begins at the distance or before it, by counting.
            let range = table.starts.count { $0 <= abs(i - j) } - 1
            score += biases[(j > i ? range + table.starts.count : range) * attention.headCount + index]
          }
          return exp(score)
        }
        let total = scores.reduce(0, +) + (sinks.map { exp($0[index]) } ?? 0)
        output[i] += (0..<valueSize).map { channel in
          zip(visible, scores).map { values[$0][channel] * $1 }.reduce(0, +) / total
        }
      }
    }
    return output
  }

  /// To 8 significant binary digits, ties to even: bfloat16.
  private func rounded(_ x: Double) -> Double {
    guard x != 0 else { return 0 }
    let unit = pow(2, (log2(abs(x))).rounded(.down) - 7)
    return (x / unit).rounded(.toNearestOrEven) * unit
  }

  /// ALiBi's slopes as its authors' code gives them, by recursion.
  static func slopes(_ count: Int) -> [Double] {
    let exponent = log2(Double(count))
    if exponent == exponent.rounded() {
      let start = pow(2, -pow(2, -(exponent - 3)))
      return (0..<count).map { start * pow(start, Double($0)) }
    }
    let closest = 1 << Int(exponent)
    let further = slopes(2 * closest).enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
    return slopes(closest) + further.prefix(count - closest)
  }
}

extension Int {
  /// −1 for odd numbers, 1 for even ones.
  fileprivate var sign: Double { self % 2 == 0 ? 1 : -1 }
}
