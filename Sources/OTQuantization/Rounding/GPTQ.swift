import OTFoundation
import OTJSON
import OTObservation
import OTRuntime
import OTTensor

/// GPTQ (arXiv 2210.17323): rounds a row's weights one after the other, and moves each before it is
/// rounded so that it makes up for the errors of those before it.
///
/// It lessens Σ‖(w − ŵ)x‖² = (w − ŵ) H (w − ŵ)ᵀ over the rows x that calibration saw, H = Σ x xᵀ with
/// `damping` times the mean of its diagonal added to that. With H = RᵀR in the order of rounding
/// reversed, R upper triangular, weight t becomes the quantized value nearest to
/// `w_t + Σ_{u<t} R_tu / R_tt · (w_u − ŵ_u)`: the paper's update by the inverse's factor, written
/// with H's own (arXiv 2507.18553). Channels with the largest H_jj are rounded first (`actorder`).
/// Steps are those of nearest rounding, or of the ranges that a search makes narrower (`clip`, see `ClipSearch`).
///
/// GPTQ never goes back to a weight. With `passes`, coordinate descent does (QuantEase, arXiv 2309.01885): in the same
/// order each weight becomes the quantized value nearest to `ŵ_t + ((w − ŵ)H)_t / H_tt`, the best there is while the others
/// stay, so many times or until none moves. The error in H never grows.
///
/// What a linear reads in the quantized network, x̂, is not the x of the float network. With `drift`, weights make up for
/// that: before rounding w becomes w + drift · w Σ(x − x̂)x̂ᵀ H⁻¹, which for 1 is the w that is best on x̂ where y = wx is
/// wanted (GPTAQ, arXiv 2504.02692, in closed form). It takes a second run of the text, in float. Inside
/// experts there is none: the two networks may send them other tokens.
package struct GPTQ: RoundingRule {
  /// Its name.
  package static let name = "gptq"

  /// True when columns are rounded in the order of falling H_jj; else in their own.
  package let isOrdered: Bool
  /// The share of the mean of H's diagonal that is added to it.
  package let damping: Double
  /// True when ranges are searched for.
  package let clips: Bool
  /// The most passes of coordinate descent.
  package let passCount: Int
  /// The share of the inputs' drift that weights make up for.
  package let drift: Double

  /// Takes `actorder`, true unless given, `damping`, 0.01 unless given, `clip`, false, `passes`, 0,
  /// and `drift`, 0.
  package init(_ options: inout MethodOptions) throws {
    isOrdered = try options.flag("actorder", default: true)
    damping = try options.number("damping", in: 1e-6...1, default: 0.01)
    clips = try options.flag("clip", default: false)
    passCount = try options.integer("passes", in: 0...100, default: 0)
    drift = try options.number("drift", in: 0...1, default: 0)
  }

  /// The rule.
  package init(
    isOrdered: Bool = true, damping: Double = 0.01, clips: Bool = false, passCount: Int = 0, drift: Double = 0
  ) {
    self.isOrdered = isOrdered
    self.damping = damping
    self.clips = clips
    self.passCount = passCount
    self.drift = drift
  }

  /// Second moments.
  package var needs: Set<ObservationKind> { [.moments] }
  /// True with `drift`.
  package var comparesWithFloat: Bool { drift > 0 }
  /// The name that files record.
  package var kind: RoundingKind { .gptq }
  /// `{actorder, damping}`, `clip` where ranges are searched for, `passes` and `drift` where they are not 0.
  package var record: JSONObject {
    var record: JSONObject = ["actorder": .bool(isOrdered), "damping": .number(damping)]
    if clips { record["clip"] = .bool(true) }
    if passCount > 0 { record["passes"] = .integer(passCount) }
    if drift > 0 { record["drift"] = .number(drift) }
    return record
  }

  /// The rounding of the weights that read a site with these moments.
  ///
  /// A matrix that is singular in spite of the damping is damped ten times as much, up to the mean
  /// of the diagonal itself.
  /// - Throws: `Refusal` with rule `rounding-moments` where there are no moments, or they are not finite,
  ///   or as `BLAS.load`.
  package func fitted(to observed: consuming SiteObservations) throws -> any WeightRounding {
    try BLAS.load(threadCount: 1)
    guard let moments = observed.moments else {
      throw Refusal("rounding-moments", "GPTQ needs the second moments of what a weight multiplies")
    }
    let drifted = observed.drift
    let search = clips ? try ClipSearch(observed) : nil
    // So that the products have one owner.
    observed = SiteObservations()
    let n = moments.channelCount
    var matrix = (consume moments).takenProducts()
    let diagonal = (0..<n).map { matrix[$0 * n + $0] }
    let mean = diagonal.reduce(0, +) / Double(max(n, 1))
    guard mean.isFinite else { throw Refusal("rounding-moments", "the second moments of a site are not finite") }
    var order = Array(0..<n)
    if isOrdered { order.sort { diagonal[$0] != diagonal[$1] ? diagonal[$0] > diagonal[$1] : $0 < $1 } }
    // A site that no token reaches: nothing is known of which errors matter.
    guard mean > 0 else {
      return FittedGPTQ(
        order: order, feedback: [Float](repeating: 0, count: n * n), correction: nil, descent: nil, search: nil)
    }
    GPTQ.permute(&matrix, order.reversed(), n)
    var added = damping
    while added <= 1 {
      for j in 0..<n { matrix[j * n + j] = diagonal[order[n - 1 - j]] + added * mean }
      if BLAS.factorize(&matrix, n: n) {
        let descent =
          passCount > 0
          ? CoordinateDescent(
            passCount: passCount, moments: GPTQ.moments(matrix, n) { diagonal[order[$0]] + added * mean }) : nil
        let correction = drifted.map { GPTQ.correction($0, matrix, order, drift: drift) }
        return FittedGPTQ(
          order: order, feedback: GPTQ.feedback(matrix, n), correction: correction, descent: descent, search: search)
      }
      // The factor took one triangle; the other is still there.
      for j in 0..<n { for i in 0..<j { matrix[j * n + i] = matrix[i * n + j] } }
      added = added < 1 ? min(added * 10, 1) : 2
    }
    throw Refusal("rounding-moments", "the second moments of a site are not those of real numbers")
  }

  /// The errors' shares, for a search and for descent the moments in float32, and for drift its products.
  package func fittedByteCount(channelCount: Int) -> Int {
    let count = 1 + (clips ? 1 : 0) + (passCount > 0 ? 1 : 0) + (drift > 0 ? 3 : 0)
    return channelCount.multipliedChecked(by: channelCount)?.multipliedChecked(by: count * MemoryLayout<Float>.stride)
      ?? .max
  }

  /// Rows and columns of a symmetric matrix in another order, where it is: entry (j, i) becomes that of
  /// (order[j], order[i]).
  static func permute(_ matrix: inout [Double], _ order: [Int], _ n: Int) {
    // The channel at each place, and the place of each channel.
    var (channels, places) = (Array(0..<n), Array(0..<n))
    matrix.withUnsafeMutableBufferPointer { matrix in
      for (place, channel) in order.enumerated() where channels[place] != channel {
        let other = places[channel]
        for i in 0..<n { matrix.swapAt(place * n + i, other * n + i) }
        for i in 0..<n { matrix.swapAt(i * n + place, i * n + other) }
        places[channels[place]] = other
        channels.swapAt(place, other)
        places[channel] = place
      }
    }
  }

  /// H in the order of rounding, from the triangle that the factor left, and its diagonal.
  private static func moments(_ matrix: [Double], _ n: Int, diagonal: (Int) -> Double) -> [Float] {
    var moments = [Float](repeating: 0, count: n * n)
    for t in 0..<n {
      moments[t * n + t] = Float(diagonal(t))
      let i = n - 1 - t
      for u in 0..<t {
        let value = Float(matrix[i * n + n - 1 - u])
        (moments[t * n + u], moments[u * n + t]) = (value, value)
      }
    }
    return moments
  }

  /// drift · Σ(x − x̂)x̂ᵀ H⁻¹, transposed: `[j, i]` is what weight j gains for each unit of weight i.
  private static func correction(_ drifted: [Double], _ factor: [Double], _ order: [Int], drift: Double) -> [Float] {
    let n = order.count
    var correction = [Float](repeating: 0, count: n * n)
    // So many rows at a time: the factor is of columns in the order of rounding reversed.
    let size = 64
    withUnsafeTemporaryAllocation(of: Double.self, capacity: size * n) { rows in
      guard let base = rows.baseAddress else { return }
      for first in stride(from: 0, to: n, by: size) {
        let count = min(size, n - first)
        for row in 0..<count {
          for t in 0..<n { rows[row * n + n - 1 - t] = drifted[(first + row) * n + order[t]] }
        }
        BLAS.solve(factor, n: n, rows: base, count: count)
        for row in 0..<count {
          for t in 0..<n { correction[order[t] * n + first + row] = Float(drift * rows[row * n + n - 1 - t]) }
        }
      }
    }
    return correction
  }

  /// R_tu / R_tt for u < t in the order of rounding, `[t, u]`.
  private static func feedback(_ factor: [Double], _ n: Int) -> [Float] {
    var feedback = [Float](repeating: 0, count: n * n)
    for t in 0..<n {
      let i = n - 1 - t
      let pivot = factor[i * n + i]
      for u in 0..<t { feedback[t * n + u] = Float(factor[(n - 1 - u) * n + i] / pivot) }
    }
    return feedback
  }
}

/// GPTQ for the weights of one site.
struct FittedGPTQ: WeightRounding {
  /// Columns in the order in which they are rounded.
  let order: [Int]
  /// The share of the error of column `order[u]` that column `order[t]` makes up for, `[t, u]`, 0 unless u < t.
  let feedback: [Float]
  /// What each weight gains from each other before it is rounded, `[weight, other]`; nil: nothing.
  let correction: [Float]?
  /// Descent from what GPTQ gives; nil: none.
  let descent: CoordinateDescent?
  /// The search for ranges; nil: they reach all weights.
  let search: ClipSearch?

  /// The BLAS puts all shares in another order for each block, which takes as long as the product of few rows.
  var rowsAtATime: Int { 64 }

  func limits(_ weights: WeightRows) -> [Float]? { search?.limits(weights) }

  var unclipped: any WeightRounding {
    FittedGPTQ(order: order, feedback: feedback, correction: correction, descent: descent, search: nil)
  }

  /// Columns whose errors are passed on one by one; those of earlier blocks are by one product.
  private static let blockSize = 64

  func round(
    _ block: WeightBlock, into values: UnsafeMutableBufferPointer<UInt8>, addingErrorTo error: inout ErrorStatistics
  ) {
    let (n, rowCount, size) = (block.columnCount, block.rowCount, FittedGPTQ.blockSize)
    precondition(order.count == n)
    let given = correction.map { correct(block, by: $0) }
    // w − ŵ in the order of rounding, and what the current block's columns make up for.
    withUnsafeTemporaryAllocation(of: Float.self, capacity: rowCount * n) { errors in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: (rowCount + size) * size) { scratch in
        feedback.withUnsafeBufferPointer { feedback in
          guard let errorBase = errors.baseAddress, let passed = scratch.baseAddress, let shares = feedback.baseAddress
          else { return }
          let columns = passed + rowCount * size
          for first in stride(from: 0, to: n, by: size) {
            let width = min(size, n - first)
            if first == 0 {
              passed.update(repeating: 0, count: rowCount * size)
            } else {
              BLAS.multiplyTransposed(
                m: rowCount, n: width, k: first, BLAS.Operand(base: errorBase, stride: n),
                BLAS.Operand(base: shares + first * n, stride: n), adds: false, into: passed, stride: size)
            }
            // The shares of one column's error, one after the other.
            for t in 0..<width {
              for u in 0..<width { columns[u * size + t] = shares[(first + t) * n + first + u] }
            }
            for row in 0..<rowCount {
              roundColumns(
                first..<first + width, of: row, block, passed: passed + row * size, columns: columns,
                errors: errorBase + row * n, into: values)
            }
          }
        }
      }
      descent?.improve(values, of: block, order: order, errors: errors)
      for row in 0..<rowCount { add(errors, row, of: block, given: given, to: &error) }
    }
  }

  /// Replaces the weights by those that make up for the drift.
  ///
  /// - Returns: the weights as they were.
  private func correct(_ block: WeightBlock, by correction: [Float]) -> [Float] {
    let n = block.columnCount
    let given = Array(block.weights)
    guard let target = block.weights.baseAddress else { return given }
    given.withUnsafeBufferPointer { given in
      correction.withUnsafeBufferPointer { correction in
        BLAS.multiplyTransposed(
          m: block.rowCount, n: n, k: n, BLAS.Operand(base: given.baseAddress, stride: n),
          BLAS.Operand(base: correction.baseAddress, stride: n), adds: true, into: target, stride: n)
      }
    }
    return given
  }

  private func roundColumns(
    _ range: Range<Int>, of row: Int, _ block: WeightBlock, passed: UnsafeMutablePointer<Float>,
    columns: UnsafePointer<Float>, errors: UnsafeMutablePointer<Float>, into values: UnsafeMutableBufferPointer<UInt8>
  ) {
    let (least, largest) = (Float(block.scheme.minimumCode), Float(block.scheme.maximumCode))
    let width = range.count
    for t in 0..<width {
      let column = order[range.lowerBound + t]
      let index = row * block.columnCount + column
      let step = block.step(row: row, column: column)
      let weight = block.weights[index]
      let zeroPoint = Float(step.zeroPoint)
      let value = ((weight + passed[t]) / step.scale).rounded(.toNearestOrEven) + zeroPoint
      // Never NaN, whatever the moments were.
      let code = value > least ? (value < largest ? value : largest) : least
      values[index] = UInt8(code)
      let error = weight - step.scale * (code - zeroPoint)
      errors[range.lowerBound + t] = error
      let shares = columns + t * FittedGPTQ.blockSize
      for later in t + 1..<max(width, t + 1) { passed[later] += shares[later] * error }
    }
  }

  private func add(
    _ errors: UnsafeMutableBufferPointer<Float>, _ row: Int, of block: WeightBlock, given: [Float]?,
    to statistics: inout ErrorStatistics
  ) {
    for (t, column) in order.enumerated() {
      let index = row * order.count + column
      let (corrected, rest) = (block.weights[index], errors[row * order.count + t])
      let weight = given?[index] ?? corrected
      let error = given == nil ? rest : rest + (weight - corrected)
      statistics.squaredError += Double(error) * Double(error)
      statistics.squares += Double(weight) * Double(weight)
      let inSteps = abs(error) / block.step(row: row, column: column).scale
      statistics.maximumErrorInSteps = max(statistics.maximumErrorInSteps, inSteps)
    }
    statistics.count += order.count
  }
}
