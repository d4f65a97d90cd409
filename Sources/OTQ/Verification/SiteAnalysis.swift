import OTContainer
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTObservation
import OTPlatform
import OTQuantization
import OTRuntime
import OTTensor

/// Looks at every site of a packed model alone: the source's own values are given to the packed linears behind it, so that
/// no error comes from the layers before.
///
/// Left out are experts, and sites of which channels were taken apart.
package struct SiteAnalysis {
  /// The first tokens of sequences, 256 in all: values of all layers are in memory for them.
  package static func sample(of sequences: [TokenSequence]) -> [TokenSequence] {
    var left = 256
    var sample: [TokenSequence] = []
    for sequence in sequences where left > 0 {
      sample.append(sequence.prefix(left))
      left -= sequence.tokenIDs.count
    }
    return sample
  }

  private let file: PackedModel
  private let graph: Graph
  private let source: SourceModel
  private let sourceGraph: Graph
  private let threadCount: Int
  private let sites: [Observed]

  /// A site that is looked at.
  private struct Observed {
    let site: Site
    /// The source's node that has the site's value.
    let root: String
    /// The source's site.
    let origin: Site
  }

  /// Values of the source: of the roots and the linears, a matrix for each sequence.
  private typealias Values = [String: [Matrix]]

  /// - Parameter source: rotated where the file's was: `PackedModel.comparable`.
  /// - Throws: `Refusal` with rule `run-no-graph`, or as the source's graph throws.
  package init(of file: PackedModel, source: SourceModel, threadCount: Int) throws {
    guard let graph = file.graph else { throw Refusal("run-no-graph", "has no graph", file: file.path) }
    let sourceGraph = try source.graph()
    (self.file, self.graph, self.source, self.sourceGraph) = (file, graph, source, sourceGraph)
    self.threadCount = threadCount
    sites = graph.sites.compactMap { site in
      let (root, channels) = graph.origin(of: site.producer)
      guard channels == nil, let origin = sourceGraph.site(producedBy: root), origin.consumers == site.consumers,
        ([root] + site.consumers).allSatisfy({ sourceGraph.rows(of: $0) == .tokens }),
        graph.activations[site.producer] != nil
      else { return nil }
      return Observed(site: site, root: root, origin: origin)
    }
  }

  /// The figures of every site, in execution order.
  ///
  /// - Parameters:
  ///   - packed: runs the file.
  ///   - float: runs the source.
  ///   - sequences: the tokens to look at; values of all layers are in memory for all of them.
  ///   - comparesUntransformed: whether to look also at what the linears give where channels stay as they are.
  /// - Throws: as executors, the quantizer and readers throw.
  package func run(
    packed: any Executor, float: any Executor, sequences: [TokenSequence], comparesUntransformed: Bool = true,
    progress: ((_ doneCount: Int, _ count: Int) throws -> Void)? = nil
  ) throws -> [SiteFigures] {
    let wanted = Set(sites.map(\.root) + sites.flatMap(\.site.consumers))
    var values: Values = [:]
    for sequence in sequences where !sequence.tokenIDs.isEmpty {
      _ = try float.run([sequence]) { value in
        guard wanted.contains(value.name) else { return }
        values[value.name, default: []].append(
          Matrix(rowCount: value.rowCount, channelCount: value.channelCount, values: Array(value.values)))
      }
    }
    return try sites.enumerated().map { index, site in
      let figures = try figures(site, values, packed, comparesUntransformed: comparesUntransformed)
      try progress?(index + 1, sites.count)
      return figures
    }
  }

  private func figures(
    _ observed: Observed, _ values: Values, _ packed: any Executor, comparesUntransformed: Bool
  ) throws -> SiteFigures {
    let site = observed.site
    let inputs = values[observed.root] ?? []
    let transform = graph.transform(ofValue: site.producer)
    let activation = graph.activations[site.producer] ?? .float
    let method = transform.withoutZero(activation)
    var ranges = ChannelRanges(channelCount: site.size)
    for input in inputs { input.values.withUnsafeBufferPointer { ranges.add($0) } }
    let weights = site.consumers.flatMap(graph.parameterUses(of:)).filter { $0.role == .weight }
    let stored = weights.compactMap { file.container[$0.outputName] }
    var figures = SiteFigures(
      producer: site.producer, consumers: site.consumers, activationScheme: activation.storageDescription,
      weightScheme: stored.first?.storageDescription ?? "float", ranges: ranges,
      shiftedRanges: ranges.transformed(by: ChannelTransform(shift: method.shift)),
      scaledRanges: ranges.transformed(by: method), isShifted: method.shift != nil, isScaled: method.scale != nil)
    for (use, tensor) in zip(weights, stored) { try add(tensor, use, to: &figures.weight) }

    let isRotated = graph.rotation(ofValue: site.producer) != nil
    let given = isRotated ? graph[site.producer]?.inputs.first ?? site.producer : site.producer
    for (index, input) in inputs.enumerated() {
      let moved = Matrix(
        rowCount: input.rowCount, channelCount: input.channelCount, values: transform.applied(to: input.values))
      let results = try packed.run(
        [TokenSequence(length: input.rowCount)], from: [given: [moved]],
        until: site.consumers + (isRotated ? [site.producer] : []), observe: nil)
      guard let result = results.first else { continue }
      let value = isRotated ? try result.output(site.producer) : moved
      figures.activation.add(value.values, activation.rounded(value))
      for linear in site.consumers {
        let own = graph.transform(ofValue: linear)
        guard let expected = values[linear]?[index] else { continue }
        figures.output.add(expected.values, own.undone(try result.output(linear).values))
      }
    }
    if comparesUntransformed { figures.untransformed = try untransformed(observed, inputs, activation, stored.first) }
    return figures
  }

  /// The error of a weight: the file's record tells it relative to what was quantized, all rows together. A scale of the
  /// outputs, which rows have in them for what comes behind, is taken out again.
  private func add(_ tensor: StoredTensor, _ use: ParameterUse, to error: inout SiteFigures.Error) throws {
    let rows = try source.parameters.rows(of: use)
    var squares = 0.0
    let width = max(use.shape.rowElementCount, 1)
    let step = max(1, (1 << 18) / width)
    for start in stride(from: 0, to: use.shape.rowCount, by: step) {
      for (index, value) in rows.values(rows: start..<min(start + step, use.shape.rowCount)).enumerated() {
        let own = Double(value) * Double(use.output.scale?[start + index / width] ?? 1)
        squares += own * own
      }
    }
    error.squares += squares
    error.count += use.shape.elementCount
    if let decibels = tensor.error?.sqnrDecibels { error.squaredError += squares * pow(10, -decibels / 10) }
  }

  /// What the linears give of the source's own values with a scale per token, each weight to the nearest value.
  private func untransformed(
    _ observed: Observed, _ inputs: [Matrix], _ activation: ActivationQuantization, _ weight: StoredTensor?
  ) throws -> SiteFigures.Error? {
    guard let rows = KeptRows(inputs) else { return nil }
    var observations = SiteObservations()
    observations.rows = rows
    let plan = WeightPlan(scheme: weight?.scheme)
    let context = SiteContext(
      observed.origin, in: sourceGraph,
      request: SiteRequest(activationBits: activation.bits ?? 16, weight: plan), observed: observations,
      parameters: source.parameters, threadCount: threadCount)
    let dynamic: ActivationQuantization =
      if case .static(let bits, _) = activation { .dynamic(bits: bits) } else { activation }
    let found = try context.trial.error(of: SitePlan(activation: dynamic, weight: plan))
    var error = SiteFigures.Error()
    (error.squaredError, error.squares) = (found.squaredError, found.squares)
    error.count =
      rows.places.count * observed.site.consumers.reduce(0) { $0 + (sourceGraph.channelCount(of: $1) ?? 0) }
    return error
  }
}

extension ChannelRanges {
  /// The ranges of (x − z) ⊘ s; scales are positive.
  fileprivate func transformed(by transform: ChannelTransform) -> ChannelRanges {
    ChannelRanges(minima: transform.applied(to: minima), maxima: transform.applied(to: maxima))
  }
}

extension ChannelTransform {
  /// The transform without what a static range's own code of 0 has added to its shift.
  fileprivate func withoutZero(_ activation: ActivationQuantization) -> ChannelTransform {
    guard case .static(_, let zero) = activation, zero != 0, let shift, let scale else { return self }
    let own = zip(shift, scale).map { $0 + Float(zero) * $1 }
    // A hundredth of a step is what rounding leaves of no shift.
    let isShifted = zip(own, scale).contains { abs($0) > 0.01 * $1 }
    return ChannelTransform(shift: isShifted ? own : nil, scale: scale)
  }

  /// Rows of u ⊙ s + z.
  fileprivate func undone(_ values: [Float]) -> [Float] {
    guard let channelCount = (shift ?? scale)?.count, channelCount > 0 else { return values }
    var values = values
    for start in stride(from: 0, to: values.count, by: channelCount) {
      for channel in 0..<channelCount {
        values[start + channel] = values[start + channel] * (scale?[channel] ?? 1) + (shift?[channel] ?? 0)
      }
    }
    return values
  }
}

extension ActivationQuantization {
  /// The values that the codes of a site's rows stand for, by the kernels that run it.
  fileprivate func rounded(_ values: Matrix) -> [Float] {
    let kernels = Kernels.current
    let width = values.channelCount
    var result = [Float](repeating: 0, count: values.values.count)
    var codes = [Int8](repeating: 0, count: width)
    let groups = UnsafeMutableBufferPointer<CodeRow>.allocate(capacity: max(1, width))
    let zeros = UnsafeMutableBufferPointer<Int32>.allocate(capacity: max(1, width))
    defer {
      groups.deallocate()
      zeros.deallocate()
    }
    for row in 0..<values.rowCount {
      let start = row * width
      Array(values[row]).withUnsafeBufferPointer { values in
        codes.withUnsafeMutableBufferPointer { codes in
          func write(_ scale: (Int) -> Float, zero: (Int) -> Int32 = { _ in 0 }) {
            for channel in 0..<width {
              result[start + channel] = scale(channel) * Float(Int32(codes[channel]) - zero(channel))
            }
          }
          switch self {
          case .float: for channel in 0..<width { result[start + channel] = values[channel] }
          case .static(let bits, _):
            _ = kernels.quantizeStatically(values, bits: bits, into: codes)
            write { _ in 1 }
          case .asymmetric(let bits, nil):
            let meaning = kernels.quantizeAsymmetrically(values, bits: bits, into: codes)
            write({ _ in meaning.scale }, zero: { _ in meaning.zero })
          case .asymmetric(let bits, let size?):
            kernels.quantizeGroupsAsymmetrically(
              values, bits: bits, groupSize: size, into: codes, groups: groups, zeros: zeros)
            write({ groups[$0 / size].scale }, zero: { zeros[$0 / size] })
          case .dynamic(let bits, nil):
            let meaning = kernels.quantizeDynamically(values, bits: bits, into: codes)
            write { _ in meaning.scale }
          case .dynamic(let bits, let size?):
            kernels.quantizeGroups(values, bits: bits, groupSize: size, into: codes, groups: groups)
            write { groups[$0 / size].scale }
          }
        }
      }
    }
    return result
  }
}
