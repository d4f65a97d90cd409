import OTContainer
import OTFoundation
import OTGraph
import OTJSON
import OTKernels
import OTModel
import OTObservation
import OTRuntime
import OTTensor

/// What weights lose of their linears' outputs on text, beside what the nearest values of the same scales lose.
///
/// Rules that let weights make up for each other's errors move them away from their own values, so that distance says
/// little of them. They lessen (W' − Ŵ) H (W' − Ŵ)ᵀ, which is Σ‖(W' − Ŵ)û‖² over the values û that the linears of the
/// packed network read (and, where they make up for the drift, Σ‖W'u − Ŵû‖², u the source's own): that is what this
/// measures, on text that calibration need not have seen.
package struct OutputComparison {
  /// Σ of squares over tokens and outputs.
  package struct Errors: Sendable, Hashable {
    /// Of the stored weights.
    package var stored = 0.0
    /// Of the nearest values of the same scales.
    package var nearest = 0.0

    /// As the file of a part has them.
    package var json: JSONValue { .bits(of: [stored, nearest]) }

    /// Nothing compared yet.
    init() {}

    /// Errors that a part's file has; nil where it is damaged.
    package init?(_ json: JSONValue) {
      guard let sums = json.bits(as: Double.self), sums.count == 2 else { return nil }
      (stored, nearest) = (sums[0], sums[1])
    }

    fileprivate mutating func add(_ other: Errors) {
      stored += other.stored
      nearest += other.nearest
    }

    /// The root of the first by the second: below 1 where the rule was worth it; 1 where neither loses anything.
    package var ratio: Double { stored == nearest ? 1 : (stored / nearest).squareRoot() }
  }

  /// A weight that is looked at.
  private struct Weight {
    let tensor: StoredTensor
    let rows: TransformedRows
    let scales: [Float]
    let zeroPoints: [UInt8]
  }

  private let file: PackedModel
  private let graph: Graph
  private let threadCount: Int
  private let sites: [String: [Weight]]
  private let makesUpForDrift: Bool

  /// Nil where no weight was rounded by such a rule.
  ///
  /// - Parameter source: rotated where the file's was: `PackedModel.comparable`.
  /// - Throws: as readers throw.
  package init?(of file: PackedModel, source: SourceModel, threadCount: Int) throws {
    guard let graph = file.graph else { return nil }
    self.file = file
    self.graph = graph
    self.threadCount = threadCount
    makesUpForDrift = (file.container.metadata["method"]?["rounding"]?["drift"]?.double ?? 0) > 0
    var sites: [String: [Weight]] = [:]
    // The two networks send other tokens to an expert.
    for site in graph.sites where graph.rows(of: site.producer) == .tokens {
      for use in site.consumers.flatMap(graph.parameterUses(of:)) where use.role == .weight {
        guard let tensor = file.container[use.outputName], tensor.rounding == .gptq, tensor.shape.elementCount > 0
        else { continue }
        sites[site.producer, default: []].append(
          Weight(
            tensor: tensor, rows: try source.parameters.rows(of: use),
            scales: try file.container.scales(of: tensor), zeroPoints: try file.container.zeroPoints(of: tensor)))
      }
    }
    guard !sites.isEmpty else { return nil }
    self.sites = sites
  }

  /// The errors of each weight, by the tensor's name.
  ///
  /// - Parameters:
  ///   - sequences: the tokens to look at; where weights make up for the drift, values of all sites are in memory for all
  ///     of them.
  ///   - share: whose weights are looked at; nil: all.
  /// - Throws: as executors and readers throw.
  package func run(
    packed: any Executor, float: any Executor, sequences: [TokenSequence], share: WorkShare? = nil,
    progress: ((_ doneCount: Int, _ count: Int) throws -> Void)? = nil
  ) throws -> [String: Errors] {
    let sites = share.map(shared) ?? self.sites
    guard !sites.isEmpty else { return [:] }
    try BLAS.load(threadCount: threadCount)
    let sequences = sequences.filter { !$0.tokenIDs.isEmpty }
    let count = sites.count * sequences.count
    var doneCount = 0
    var errors: [String: Errors] = [:]
    for sequence in sequences {
      let own = makesUpForDrift ? try ownValues(float, sequence) { try progress?(doneCount, count) } : [:]
      _ = try packed.run([sequence]) { value in
        try progress?(doneCount, count)
        guard let weights = sites[value.name] else { return }
        doneCount += 1
        for weight in weights {
          let found = try compare(weight, value, own: own[value.name])
          errors[weight.tensor.name, default: Errors()].add(found)
        }
      }
    }
    return errors
  }

  /// The sites with those weights that are in a share.
  private func shared(_ share: WorkShare) -> [String: [Weight]] {
    let counts = sites.values.joined().reduce(into: [String: Int]()) {
      $0[$1.tensor.name] = $1.tensor.shape.elementCount
    }.sorted { $0.key < $1.key }
    let own = Set(counts[share.range(of: counts.map(\.value))].map(\.key))
    return sites.mapValues { $0.filter { own.contains($0.tensor.name) } }.filter { !$0.value.isEmpty }
  }

  /// What the linears would read if the source gave it, by the site's producer.
  ///
  /// - Parameter check: called all the while; what it throws ends the run.
  private func ownValues(
    _ float: any Executor, _ sequence: TokenSequence, check: @escaping () throws -> Void
  ) throws -> [String: [Float]] {
    var producers: [String: [String]] = [:]
    for producer in sites.keys {
      let unrotated = graph.rotation(ofValue: producer) == nil ? producer : graph[producer]?.inputs.first ?? producer
      producers[graph.origin(of: unrotated).name, default: []].append(producer)
    }
    var own: [String: [Float]] = [:]
    _ = try float.run([sequence]) { value in
      try check()
      for producer in producers[value.name] ?? [] { own[producer] = transformed(value, for: producer) }
    }
    return own
  }

  /// The source's value as the linears of a site would read it.
  private func transformed(_ value: NodeValue, for producer: String) -> [Float] {
    let rotation = graph.rotation(ofValue: producer)
    let unrotated = rotation == nil ? producer : graph[producer]?.inputs.first ?? producer
    var values = Array(value.values)
    if let channels = graph.origin(of: unrotated).channels {
      values = stride(from: 0, to: values.count, by: max(value.channelCount, 1)).flatMap { row in
        channels.map { value.values[row + $0] }
      }
    }
    values = graph.transform(ofValue: producer).applied(to: values)
    guard let rotation else { return values }
    return [Float](unsafeUninitializedCapacity: values.count) { target, count in
      let target = UnsafeMutableBufferPointer(rebasing: target[..<values.count])
      values.withUnsafeBufferPointer { Kernels.current.hadamard($0, blockSize: rotation.blockSize, into: target) }
      count = values.count
    }
  }

  /// Rows of tiles together, so that their products with all tokens stay small.
  private static let tilesAtATime = 16

  private func compare(_ weight: Weight, _ value: NodeValue, own: [Float]?) throws -> Errors {
    let layout = weight.tensor.layout
    guard layout.columnCount == value.channelCount, own.map({ $0.count == value.values.count }) ?? true else {
      return Errors()
    }
    nonisolated(unsafe) let values = value.values
    let rowCount = value.rowCount
    let size = OutputComparison.tilesAtATime
    let blocks = try mapBlocks((layout.rowTileCount + size - 1) / size, threadCount: threadCount) { block in
      try compare(
        weight, values, own: own, rowCount: rowCount,
        tiles: block * size..<min((block + 1) * size, layout.rowTileCount))
    }
    weight.rows.view.release(0..<layout.rowCount)
    return blocks.reduce(into: Errors()) { $0.add($1) }
  }

  private func compare(
    _ weight: Weight, _ values: UnsafeBufferPointer<Float>, own: [Float]?, rowCount: Int, tiles: Range<Int>
  ) throws -> Errors {
    guard let scheme = weight.tensor.scheme else { return Errors() }
    let layout = weight.tensor.layout
    let rows = layout.rows(of: tiles)
    let source = weight.rows.values(rows: rows)
    var stored = try file.container.dequantized(
      weight.tensor, rowTiles: tiles, scales: weight.scales, zeroPoints: weight.zeroPoints)
    var nearest = [Float](repeating: 0, count: source.count)
    let groupCount = scheme.groupCount(columnCount: layout.columnCount)
    let groupSize = scheme.groupSize(columnCount: layout.columnCount)
    for index in source.indices {
      let (row, column) = (rows.lowerBound + index / layout.columnCount, index % layout.columnCount)
      let step = scheme.granularity == .perTensor ? 0 : row * groupCount + column / groupSize
      let scale = weight.scales[step]
      let zeroPoint = Float(weight.zeroPoints[step])
      let code = (source[index] / scale).rounded(.toNearestOrEven) + zeroPoint
      nearest[index] = scale * (min(max(code, Float(scheme.minimumCode)), Float(scheme.maximumCode)) - zeroPoint)
    }
    // Without the source's own values the outputs differ by what the weights alone do.
    var wanted = [Float](repeating: 0, count: rowCount * rows.count)
    if let own {
      wanted = own.withUnsafeBufferPointer { product(source, $0, rowCount: rowCount, layout.columnCount) }
    } else {
      for index in source.indices {
        stored[index] -= source[index]
        nearest[index] -= source[index]
      }
    }
    func squaredError(_ weights: [Float]) -> Double {
      zip(product(weights, values, rowCount: rowCount, layout.columnCount), wanted).reduce(0) { sum, pair in
        let difference = Double(pair.0) - Double(pair.1)
        return sum + difference * difference
      }
    }
    var errors = Errors()
    (errors.stored, errors.nearest) = (squaredError(stored), squaredError(nearest))
    return errors
  }

  /// Values `[rowCount, columnCount]` times the transpose of weights `[…, columnCount]`.
  private func product(
    _ weights: [Float], _ values: UnsafeBufferPointer<Float>, rowCount: Int, _ columnCount: Int
  ) -> [Float] {
    let count = weights.count / columnCount
    return [Float](unsafeUninitializedCapacity: rowCount * count) { target, initializedCount in
      if let base = target.baseAddress {
        weights.withUnsafeBufferPointer {
          BLAS.multiplyTransposed(
            m: rowCount, n: count, k: columnCount, BLAS.Operand(base: values.baseAddress, stride: columnCount),
            BLAS.Operand(base: $0.baseAddress, stride: columnCount), adds: false, into: base, stride: count)
        }
      }
      initializedCount = rowCount * count
    }
  }
}
