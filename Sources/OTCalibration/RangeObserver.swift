import OTFoundation
import OTGraph
import OTKernels
import OTRuntime

/// Gathers the ranges of sites while an executor runs, on its calling thread.
final class RangeObserver {
  private let sizes: [String: Int]
  private(set) var sites: [String: SiteRange] = [:]

  init(_ graph: Graph) {
    sizes = Dictionary(uniqueKeysWithValues: graph.sites.map { ($0.producer, $0.size) })
  }

  /// Adds the value of a node for several samples, one after the other.
  ///
  /// - Parameter lengths: rows of each sample.
  /// - Throws: `Refusal` with rule `calibration-not-finite`.
  func add(_ value: NodeValue, lengths: [Int]) throws {
    let (node, values, channelCount) = (value.name, value.values, value.channelCount)
    guard sizes[node] == channelCount else { return }
    precondition(values.count == channelCount * lengths.reduce(0, +), "a row per token")
    if let index = Kernels.current.range(values).firstNonFinite {
      throw Refusal(
        "calibration-not-finite",
        "the model's activation '\(node)' is \(values[index]) at channel \(index % channelCount)",
        remedy: "calibrate on another text, or repair the checkpoint")
    }
    var row = 0
    for length in lengths where length > 0 {
      let part = UnsafeBufferPointer(rebasing: values[row * channelCount..<(row + length) * channelCount])
      let range = RangeObserver.range(of: part, channelCount: channelCount)
      sites[node] = sites[node]?.merged(with: range) ?? range
      row += length
    }
  }

  /// The range of one sample `[tokens, channels]`, at least one token.
  private static func range(of values: UnsafeBufferPointer<Float>, channelCount: Int) -> SiteRange {
    var minimum = Array(values[..<channelCount])
    var maximum = minimum
    minimum.withUnsafeMutableBufferPointer { minimum in
      maximum.withUnsafeMutableBufferPointer { maximum in
        for start in stride(from: channelCount, to: values.count, by: channelCount) {
          for channel in 0..<channelCount {
            let value = values[start + channel]
            minimum[channel] = value < minimum[channel] ? value : minimum[channel]
            maximum[channel] = value > maximum[channel] ? value : maximum[channel]
          }
        }
      }
    }
    return SiteRange(
      minimum: minimum, maximum: maximum, midpointSum: zip(minimum, maximum).map { (Double($0) + Double($1)) / 2 },
      sampleCount: 1)
  }
}
