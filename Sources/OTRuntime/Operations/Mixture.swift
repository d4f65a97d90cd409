import OTGraph

/// A row of zeros, to which experts add.
final class ZeroStep: RowStep {
  private let to: Program.ValueID

  init(_ to: Program.ValueID) { self.to = to }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let width = pass.program.values[to].channelCount
    (pass.workspace.rows(of: to, in: block) + block.rows.lowerBound * width)
      .update(repeating: 0, count: block.rows.count * width)
  }
}

/// Adds what an expert gives, times its weight, to the rows of its tokens.
final class ExpertSumStep: RowStep {
  private let expert, router: Int
  private let from, sum: Program.ValueID

  init(_ expert: Int, of router: Int, _ from: Program.ValueID, to sum: Program.ValueID) {
    (self.expert, self.router, self.from, self.sum) = (expert, router, from, sum)
  }

  var written: Program.ValueID? { nil }
  var read: [Program.ValueID] { [from, sum] }

  func run(_ pass: Pass, _ block: RowBlock) {
    let table = pass.workspace.routingTable(router)
    let width = pass.program.values[sum].channelCount
    let (source, target) = (pass.workspace.rows(of: from, in: block), pass.workspace.rows(of: sum))
    for row in block.rows {
      let (token, weight) = table.choice(row, of: expert)
      let (y, z) = (source + row * width, target + token * width)
      for channel in 0..<width { z[channel] += weight * y[channel] }
    }
  }
}

/// The sum over experts, once all have added to it.
final class MixtureStep: RowStep {
  private let sum, to: Program.ValueID

  private init(_ sum: Program.ValueID, to: Program.ValueID) { (self.sum, self.to) = (sum, to) }

  static func lower(_ node: Node, into compiler: inout ProgramCompiler) {
    guard let sum = compiler.mixtures[node.name] else { preconditionFailure("a sum has experts, which come first") }
    compiler.append(node) { MixtureStep(sum, to: $1) }
  }

  var written: Program.ValueID? { to }
  var read: [Program.ValueID] { [sum] }

  func run(_ pass: Pass, _ block: RowBlock) {
    pass.eachRow(block, sum, to) { _, x, y in _ = y.update(fromContentsOf: x) }
  }
}

extension ProgramCompiler {
  /// Adds the value of a node to the sum over experts `mixture`: at once, so that the values of all experts need not
  /// be there together.
  mutating func mix(_ node: Node, _ value: Program.ValueID, into mixture: String) {
    guard case .expert(let expert, let router) = values[value].rows else { return }
    let sum =
      mixtures[mixture]
      ?? {
        let sum = newValue(channelCount: values[value].channelCount)
        append(ZeroStep(sum), rows: .tokens)
        return sum
      }()
    mixtures[mixture] = sum
    append(ExpertSumStep(expert, of: router, value, to: sum), rows: values[value].rows)
  }
}
