import OTFoundation
import OTJSON

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The distance of a node's values in one model from those in another, on the
/// same tokens: y in the reference, ŷ in the model.
///
/// All sums are float64. They do not depend on the number of threads.
package struct OutputError: Sendable, Hashable {
  /// Rows (tokens) that have been compared.
  package private(set) var rowCount = 0
  /// Σ(y − ŷ)² of each channel.
  package private(set) var squaredErrors: [Double]
  /// Σy² of each channel.
  package private(set) var squares: [Double]
  private var modelSquares = 0.0
  private var products = 0.0

  /// Nothing compared yet.
  package init(channelCount: Int) {
    squaredErrors = [Double](repeating: 0, count: channelCount)
    squares = squaredErrors
  }

  /// Adds rows of values.
  ///
  /// - Parameters:
  ///   - model: `[rows, channels]`, row-major: ŷ as the model has it, (ŷ − z) ⊘ s.
  ///   - reference: y, of the same shape.
  ///   - restoring: what becomes of a value of the model: channel c's is
  ///     multiplied by `scale[c]`, then `shift[c]` is added; nil: ones, zeros.
  /// - Precondition: both have whole rows of this error's channels.
  /// - Complexity: O(rows · channels).
  package mutating func add(
    model: UnsafeBufferPointer<Float>, reference: UnsafeBufferPointer<Float>,
    restoring transform: (shift: [Float]?, scale: [Float]?) = (nil, nil), threadCount: Int = 1
  ) throws {
    let channelCount = squares.count
    precondition(model.count == reference.count && channelCount > 0 && model.count % channelCount == 0)
    let rows = model.count / channelCount
    let width = OutputError.blockChannelCount
    nonisolated(unsafe) let (model, reference) = (model, reference)
    let blocks = try mapBlocks((channelCount + width - 1) / width, threadCount: threadCount) { block in
      let channels = block * width..<min(channelCount, (block + 1) * width)
      var sums = Sums(channelCount: channels.count)
      let scale = transform.scale.map { Array($0[channels]) } ?? [Float](repeating: 1, count: channels.count)
      let shift = transform.shift.map { Array($0[channels]) } ?? [Float](repeating: 0, count: channels.count)
      for row in 0..<rows {
        let start = row * channelCount + channels.lowerBound
        for index in 0..<channels.count {
          let expected = Double(reference[start + index])
          let actual = Double(model[start + index]) * Double(scale[index]) + Double(shift[index])
          let difference = expected - actual
          sums.squaredErrors[index] += difference * difference
          sums.squares[index] += expected * expected
          sums.modelSquares += actual * actual
          sums.products += expected * actual
        }
      }
      return sums
    }
    for (block, sums) in blocks.enumerated() {
      for index in sums.squares.indices {
        squaredErrors[block * width + index] += sums.squaredErrors[index]
        squares[block * width + index] += sums.squares[index]
      }
      modelSquares += sums.modelSquares
      products += sums.products
    }
    rowCount += rows
  }

  /// Adds rows that were compared after these.
  ///
  /// - Precondition: both have the same number of channels.
  mutating func add(_ next: OutputError) {
    precondition(squares.count == next.squares.count)
    for channel in squares.indices {
      squaredErrors[channel] += next.squaredErrors[channel]
      squares[channel] += next.squares[channel]
    }
    modelSquares += next.modelSquares
    products += next.products
    rowCount += next.rowCount
  }

  private static let blockChannelCount = 128

  private struct Sums: Sendable {
    var squaredErrors: [Double]
    var squares: [Double]
    var modelSquares = 0.0
    var products = 0.0

    init(channelCount: Int) {
      squaredErrors = [Double](repeating: 0, count: channelCount)
      squares = squaredErrors
    }
  }
}

// MARK: - In the file of a part

extension OutputError {
  var json: JSONValue {
    .object([
      "rows": .integer(rowCount), "squaredErrors": .bits(of: squaredErrors), "squares": .bits(of: squares),
      "sums": .bits(of: [modelSquares, products]),
    ])
  }

  /// Nil where it is damaged.
  init?(_ json: JSONValue) {
    guard let rowCount = json["rows"]?.count, let errors = json["squaredErrors"]?.bits(as: Double.self),
      let squares = json["squares"]?.bits(as: Double.self), errors.count == squares.count, !squares.isEmpty,
      let sums = json["sums"]?.bits(as: Double.self), sums.count == 2
    else { return nil }
    (self.rowCount, squaredErrors, self.squares) = (rowCount, errors, squares)
    (modelSquares, products) = (sums[0], sums[1])
  }
}

// MARK: - Figures

extension OutputError {
  private var squaredError: Double { squaredErrors.reduce(0, +) }
  private var square: Double { squares.reduce(0, +) }

  /// The mean of (y − ŷ)² over all rows and channels; 0 of none.
  package var meanSquaredError: Double { rowCount == 0 ? 0 : squaredError / (Double(rowCount) * Double(squares.count)) }

  /// ‖y − ŷ‖ / ‖y‖ over all rows and channels: 0 where both are 0, infinite
  /// where y alone is, NaN where a value is.
  package var relativeError: Double {
    let error = squaredError
    return error == 0 ? 0 : (error / square).squareRoot()
  }

  /// The cosine of the angle between y and ŷ, as one vector each: 1 where both
  /// are 0, 0 where one is.
  package var cosine: Double {
    if square == 0, modelSquares == 0 { return 1 }
    if square == 0 || modelSquares == 0 { return 0 }
    // The root of each, since a product of squares can overflow.
    let value = products / (square.squareRoot() * modelSquares.squareRoot())
    return value.isNaN ? value : min(max(value, -1), 1)
  }

  /// Signal to quantization noise, 10 · log₁₀(Σy² / Σ(y − ŷ)²); infinite where
  /// nothing differs.
  package var sqnrDecibels: Double {
    let error = squaredError
    return error == 0 ? .infinity : 10 * log10(square / error)
  }

  /// The channel that is worst off; nil where nothing has been compared.
  ///
  /// Its error is relative to its own norm, or to a tenth of the root mean
  /// square of the channels' norms where that is more: channels with little
  /// energy are measured against the average channel.
  package var worstChannel: (index: Int, relativeError: Double)? {
    guard rowCount > 0 else { return nil }
    let floor = square / Double(squares.count) / 100
    var worst: (index: Int, relativeError: Double)?
    for index in squares.indices {
      let error = squaredErrors[index]
      let relative = error == 0 ? 0 : (error / max(squares[index], floor)).squareRoot()
      // A channel with a NaN is worse than any number.
      if worst.map({ !(relative <= $0.relativeError) && !$0.relativeError.isNaN }) ?? true {
        worst = (index, relative)
      }
    }
    return worst
  }
}
