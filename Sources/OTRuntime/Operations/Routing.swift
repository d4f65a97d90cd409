import OTFoundation
import OTGraph
import OTKernels
import OTPlatform

/// The tokens that a router sends to each expert, with their weights.
final class RoutingTable: Sendable {
  /// Memory that a token takes for each of its experts.
  static let bytesPerChoice = MemoryLayout<Int32>.stride + MemoryLayout<Float>.stride

  /// The most choices that there can be.
  let capacity: Int
  /// The first choice of each expert; behind them the number of all.
  private let firsts: AlignedMemory<Int>
  private let rows: AlignedMemory<Int32>
  private let weights: AlignedMemory<Float>

  /// - Throws: `Refusal` with rule `run-memory`.
  init(expertCount: Int, chosenCount: Int, rowCapacity: Int) throws {
    capacity = rowCapacity.multipliedChecked(by: chosenCount) ?? .max
    firsts = try AlignedMemory(count: expertCount + 1)
    firsts.buffer.update(repeating: 0)
    rows = try AlignedMemory(count: capacity)
    weights = try AlignedMemory(count: capacity)
  }

  /// The choices of an expert.
  private func choices(of expert: Int) -> Range<Int> { firsts.base[expert]..<firsts.base[expert + 1] }

  /// Tokens that are sent to an expert.
  func count(of expert: Int) -> Int { choices(of: expert).count }

  /// The tokens of an expert, in order.
  func tokens(of expert: Int) -> some RandomAccessCollection<Int> {
    choices(of: expert).lazy.map { [rows] in Int(rows.base[$0]) }
  }

  /// The token that is row `row` of an expert, and its weight.
  func choice(_ row: Int, of expert: Int) -> (token: Int, weight: Float) {
    let place = firsts.base[expert] + row
    return (Int(rows.base[place]), weights.base[place])
  }

  /// The rows of an expert whose tokens are among some.
  func rows(of expert: Int, among tokens: Range<Int>) -> Range<Int> {
    let choices = choices(of: expert)
    func firstRow(_ token: Int) -> Int {
      var (low, high) = (choices.lowerBound, choices.upperBound)
      while low < high {
        let middle = (low + high) / 2
        if Int(rows.base[middle]) < token { low = middle + 1 } else { high = middle }
      }
      return low - choices.lowerBound
    }
    return firstRow(tokens.lowerBound)..<firstRow(tokens.upperBound)
  }

  /// Takes the choices from the weights of some tokens; false where they are too many.
  ///
  /// - Parameter values: of token 0, `expertCount` each.
  func fill(_ tokens: Range<Int>, expertCount: Int, values: UnsafePointer<Float>) -> Bool {
    for expert in 0...expertCount { firsts.base[expert] = 0 }
    var count = 0
    for token in tokens {
      for expert in 0..<expertCount where values[token * expertCount + expert] != 0 {
        firsts.base[expert + 1] += 1
        count += 1
      }
    }
    guard count <= capacity else {
      for expert in 0...expertCount { firsts.base[expert] = 0 }
      return false
    }
    for expert in 0..<expertCount { firsts.base[expert + 1] += firsts.base[expert] }
    // Each expert's first place moves on to its end while tokens are entered, and then back.
    for token in tokens {
      for expert in 0..<expertCount where values[token * expertCount + expert] != 0 {
        let place = firsts.base[expert]
        rows.base[place] = Int32(token)
        weights.base[place] = values[token * expertCount + expert]
        firsts.base[expert] += 1
      }
    }
    for expert in stride(from: expertCount, to: 0, by: -1) { firsts.base[expert] = firsts.base[expert - 1] }
    firsts.base[0] = 0
    return true
  }
}

/// The weights of each token's experts.
final class RoutingStep: RowStep {
  private let routing: Routing
  private let choiceBias: [Float]?
  private let from, to: Program.ValueID

  init(_ routing: Routing, choiceBias: [Float]?, _ from: Program.ValueID, to: Program.ValueID) {
    (self.routing, self.choiceBias, self.from, self.to) = (routing, choiceBias, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    pass.eachRow(block, from, to) { _, scores, weights in
      routing.choose(scores, choiceBias: choiceBias, into: weights)
    }
  }
}

extension Routing {
  /// - Throws: as parameters throw.
  func lower(_ node: Node, into compiler: inout ProgramCompiler) throws {
    let choiceBias = try compiler.vector(.choiceBias, of: node)
    compiler.append(node) { RoutingStep(self, choiceBias: choiceBias, $0[0], to: $1) }
  }

  /// The weights of the experts that have the greatest scores or ranks, 0 for all others. NaN is less than any other
  /// score.
  package func choose(
    _ scores: UnsafeBufferPointer<Float>, choiceBias: [Float]? = nil,
    into weights: UnsafeMutableBufferPointer<Float>
  ) {
    if choiceBias == nil && groups == nil {
      mark(by: scores, in: weights)
    } else {
      withUnsafeTemporaryAllocation(of: Float.self, capacity: expertCount) { ranks in
        rank(scores, choiceBias, into: ranks)
        if let groups { groups.close(ranks) }
        mark(by: UnsafeBufferPointer(ranks), in: weights)
      }
    }
    let greatest = scores.max() ?? 0
    var sum: Float = 0
    for expert in scores.indices {
      let isChosen = weights[expert].isNaN
      let weight = value(of: scores[expert], greatest: greatest)
      if isChosen { weights[expert] = weight }
      if isChosen || (function == .softmax && !isNormalized) { sum += weight }
    }
    if isNormalized || function == .softmax {
      for expert in scores.indices where weights[expert] != 0 { weights[expert] /= sum }
    }
    guard factor != 1 else { return }
    for expert in scores.indices { weights[expert] *= factor }
  }

  /// The function's value, of softmax before the division by the sum.
  private func value(of score: Float, greatest: Float) -> Float {
    switch function {
    case .softmax: expf(score - greatest)
    case .sigmoid: 1 / (1 + expf(-score))
    }
  }

  /// Marks the chosen with NaN, all others with 0.
  private func mark(by ranks: UnsafeBufferPointer<Float>, in weights: UnsafeMutableBufferPointer<Float>) {
    weights.update(repeating: 0)
    for _ in 0..<chosenCount {
      var best = -1
      for expert in ranks.indices where !weights[expert].isNaN {
        if best < 0 || ranks[expert] > ranks[best] || (ranks[best].isNaN && !ranks[expert].isNaN) { best = expert }
      }
      weights[best] = .nan
    }
  }

  /// The function's values plus the bias; −∞ where they are no numbers.
  private func rank(
    _ scores: UnsafeBufferPointer<Float>, _ choiceBias: [Float]?, into ranks: UnsafeMutableBufferPointer<Float>
  ) {
    let greatest = scores.max() ?? 0
    let sum = function == .softmax ? scores.reduce(0) { $0 + value(of: $1, greatest: greatest) } : 1
    for expert in scores.indices {
      let rank = value(of: scores[expert], greatest: greatest) / sum + (choiceBias?[expert] ?? 0)
      ranks.initializeElement(at: expert, to: rank.isNaN ? -.infinity : rank)
    }
  }
}

extension Routing.Groups {
  /// Makes NaN, which is less than any number, of the ranks of experts in groups that are not chosen.
  fileprivate func close(_ ranks: UnsafeMutableBufferPointer<Float>) {
    let size = ranks.count / count
    withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { groups in
      for group in 0..<count {
        groups.initializeElement(
          at: group,
          to: rank(
            of: UnsafeMutableBufferPointer(
              rebasing: ranks[group * size..<(group + 1) * size])))
      }
      // Those that are chosen become NaN.
      for _ in 0..<chosenCount {
        var best = -1
        for group in groups.indices where !groups[group].isNaN && (best < 0 || groups[group] > groups[best]) {
          best = group
        }
        groups[best] = .nan
      }
      for expert in ranks.indices where !groups[expert / size].isNaN { ranks[expert] = .nan }
    }
  }

  /// The sum of the greatest ranks; −∞ where one of these is.
  private func rank(of members: UnsafeMutableBufferPointer<Float>) -> Float {
    var sum: Float = 0
    var last = -1
    for _ in 0..<rankedCount {
      var best = -1
      for member in members.indices {
        // Those behind the last one taken: smaller, or as large and later.
        let isBehind =
          last < 0 || members[member] < members[last] || (members[member] == members[last] && member > last)
        if isBehind && (best < 0 || members[member] > members[best]) { best = member }
      }
      sum += members[best]
      last = best
    }
    return sum.isNaN ? -.infinity : sum
  }
}

/// Makes the table of what a router has chosen.
final class RoutingTableStage: Stage {
  /// The number of the router.
  let router: Int
  private let from: Program.ValueID

  init(_ router: Int, of from: Program.ValueID) { (self.router, self.from) = (router, from) }

  var written: [Program.ValueID] { [] }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, rows: Range<Int>) throws {
    let table = pass.workspace.routingTable(router)
    let expertCount = pass.program.values[from].channelCount
    guard table.fill(rows, expertCount: expertCount, values: pass.workspace.rows(of: from)) else {
      throw Refusal("run-given", "a router's values give tokens more experts than the router does")
    }
  }
}

/// The rows of a value that a router sends to an expert.
final class ExpertRowsStep: RowStep {
  private let expert, router: Int
  private let from, to: Program.ValueID

  init(_ expert: Int, of router: Int, _ from: Program.ValueID, to: Program.ValueID) {
    (self.expert, self.router, self.from, self.to) = (expert, router, from, to)
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [from] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let table = pass.workspace.routingTable(router)
    let width = pass.program.values[to].channelCount
    let (source, target) = (pass.workspace.rows(of: from), pass.workspace.rows(of: to, in: block))
    for row in block.rows {
      (target + row * width).update(from: source + table.choice(row, of: expert).token * width, count: width)
    }
  }
}

extension ProgramCompiler {
  /// The value that a linear multiplies: of an expert's, the rows that are sent to it, quantized for those of
  /// `readers` that multiply integers.
  ///
  /// - Throws: `Refusal` with rule `run-groups`.
  mutating func input(of linear: Linear, _ node: Node, for readers: [String]) throws -> Program.ValueID {
    let from = valueID(node.inputs[0])
    guard let expert = linear.expert, let router = routerIDs[node.inputs[1]] else { return from }
    let rows = newValue(channelCount: values[from].channelCount, rows: .expert(expert, of: router))
    append(ExpertRowsStep(expert, of: router, from, to: rows), rows: values[rows].rows)
    try quantize(rows, of: node.inputs[0], for: readers)
    return rows
  }
}
