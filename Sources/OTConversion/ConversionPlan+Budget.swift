import OTCheckpoint
import OTContainer
import OTExport
import OTFoundation
import OTGraph
import OTKernels
import OTModel
import OTObservation
import OTQuantization
import OTRuntime
import OTTensor

/// Bits for every site, so that a file stays within a budget.
extension ConversionPlan {
  /// The bits that a site may have.
  private static let bits = 3...8
  /// Tokens that the sensitivity of sites is measured on, and samples that they come from.
  private static let probe = (tokenCount: 128, sampleCount: 2)
  /// The share of a budget that is left free: other rounding gives values that compress a little less.
  private static let margin = 0.003
  /// Blocks of a weight that are quantized with every number of bits, evenly over all.
  private static let blockCount = 16

  /// The plan with bits for each site whose total cost is the least under a budget.
  ///
  /// A site's cost with b bits is d₄ · e_b / e₄: d₄ the distance that the model's outputs move when the site alone
  /// has 4 bits (`BitSensitivity`; 1 where there are no samples), e_b = Σ(w − ŵ)² / Σw² of its weights. Its bytes are
  /// those of encoded blocks. Linears that `--bits-for` or `--exclude` name keep what these say.
  /// - Parameter samples: token IDs; nil where the model is not run on text.
  /// - Throws: `Refusal` with rule `budget-small` where even 3 bits take more, `budget-no-graph` for a model of an
  ///   unknown family; as quantizers and executors throw.
  package func within(
    _ budget: BitBudget, samples: [TokenSequence]?, progress: BitSensitivity.Progress? = nil
  ) throws -> ConversionPlan {
    guard let graph else {
      throw Refusal(
        "budget-no-graph", "is of no known family, so its layers cannot have bits of their own",
        file: checkpoint.files.first?.path, remedy: "leave out --budget and choose --bits")
    }
    let sites = graph.sites.map { site in
      tensors.filter { tensor in
        guard let use = tensor.use, case .quantized = tensor.treatment else { return false }
        return tensor.isBlockWeight && site.consumers.contains(use.node)
      }
    }
    let distances = try samples.map { samples in
      try BitSensitivity(
        graph: graph, parameters: model.parameters, weights: recipe.weights, threadCount: options.threadCount
      ).run(ConversionPlan.probe(samples), progress: progress)
    }
    let expertDistances = graph.sites.compactMap { site in isExpert(site, of: graph) ? distances?[site.producer] : nil }
      .filter { $0 > 0 }
    /// An expert that none of the few samples reaches moves nothing there: it costs what experts cost in the mean.
    func distance(_ site: Site) -> Double? {
      guard let found = distances?[site.producer], found == 0, isExpert(site, of: graph), !expertDistances.isEmpty
      else {
        return distances?[site.producer]
      }
      return expertDistances.reduce(0, +) / Double(expertDistances.count)
    }
    var parts: [[BitAllocation.Option]] = []
    var members: [[PlannedTensor]] = []
    for (site, weights) in zip(graph.sites, sites) where !weights.isEmpty {
      members.append(weights)
      let isFixed = options.bitsFor.contains { rule in site.consumers.contains(where: rule.pattern.matches) }
      parts.append(try optionsOf(weights, distance: distance(site), isFixed: isFixed))
    }
    let weightCount = members.joined().reduce(0) { $0 + $1.shape.elementCount }
    let linearByteCount: Double
    switch budget {
    case .bitsPerWeight(let bits): linearByteCount = bits * Double(weightCount) / 8
    case .byteCount(let count):
      linearByteCount = Double(count) - (try byteCount(without: Set(members.joined().map(\.outputName))))
    }
    guard let chosen = BitAllocation.choice(among: parts, byteCount: linearByteCount * (1 - ConversionPlan.margin))
    else {
      let least = parts.reduce(0) { $0 + ($1.map(\.byteCount).min() ?? 0) } / (1 - ConversionPlan.margin)
      let needed =
        switch budget {
        case .bitsPerWeight: "\((least * 800 / Double(max(weightCount, 1))).rounded(.up) / 100) bits per weight"
        case .byteCount(let count): "\(Int((Double(count) - linearByteCount + least).rounded(.up))) bytes"
        }
      // Bits per weight are those of linears; embeddings take bytes of the file.
      let hasLargeEmbeddings = if case .byteCount = budget { options.embeddingBits > 8 } else { false }
      throw Refusal(
        "budget-small", "the linears alone need more: with the fewest bits they bring the file to \(needed)",
        file: checkpoint.files.first?.path,
        remedy: "raise --budget" + (options.exclude.isEmpty ? "" : ", or exclude fewer layers")
          + (hasLargeEmbeddings ? "; --embedding-bits 8 is smaller than 16" : ""))
    }
    var bits: [String: Int] = [:]
    for (index, option) in chosen.enumerated() {
      for weight in members[index] { if let use = weight.use { bits[use.node] = parts[index][option].bits } }
    }
    return try ConversionPlan(
      model: model, recipe: recipe.with(bits: bits), options: options, foreign: foreign, warnings: warnings)
  }

  /// A warning where a file takes more than its budget, which sampled blocks foretold wrongly.
  package func budgetWarning(of file: PackedModel) -> String? {
    guard let budget = options.budget else { return nil }
    switch budget {
    case .bitsPerWeight(let bits):
      let found = file.linearBitsPerWeight
      return found <= bits ? nil : "the file's linears take \(found) bits per weight: lower --budget by as much"
    case .byteCount(let count):
      let found = file.container.file.byteCount
      return found <= count ? nil : "the file takes \(found - count) bytes too many: lower --budget by as much"
    }
  }

  /// The beginnings of some samples, evenly over all.
  private static func probe(_ samples: [TokenSequence]) -> [TokenSequence] {
    let count = min(probe.sampleCount, samples.count)
    return (0..<count).map { samples[(2 * $0 + 1) * samples.count / (2 * count)].prefix(probe.tokenCount) }
  }

  // MARK: Sizes and errors

  private func isExpert(_ site: Site, of graph: Graph) -> Bool {
    if case .expert? = graph.rows(of: site.producer) { true } else { false }
  }

  private func optionsOf(_ weights: [PlannedTensor], distance: Double?, isFixed: Bool) throws -> [BitAllocation.Option]
  {
    var made: [(bits: Int, byteCount: Double, error: Double)] = []
    var probeError = 0.0
    for bits in ConversionPlan.bits {
      var total = (byteCount: 0.0, error: ErrorStatistics())
      for weight in weights {
        guard case .quantized(let scheme) = weight.treatment, let tried = scheme.with(bits: bits) else { continue }
        let found = try measured(weight, tried)
        total.byteCount += found.byteCount
        total.error = total.error.merged(with: found.error)
      }
      let error = total.error.squares > 0 ? total.error.squaredError / total.error.squares : 0
      made.append((bits, total.byteCount, error))
      if bits == BitSensitivity.probeBits { probeError = error }
    }
    if isFixed, case .quantized(let scheme)? = weights.first?.treatment {
      made.removeAll { $0.bits != scheme.bits }
      if made.isEmpty {
        made = [(scheme.bits, try weights.reduce(0) { $0 + (try measured($1, scheme).byteCount) }, 0)]
      }
    }
    return made.map { option in
      // Weights without an error need no more bits.
      let cost = distance.map { probeError > 0 ? $0 * option.error / probeError : 0 } ?? option.error
      return BitAllocation.Option(bits: option.bits, byteCount: option.byteCount, cost: cost)
    }
  }

  /// Bytes and error of a tensor in a scheme, from blocks evenly over all.
  private func measured(
    _ tensor: PlannedTensor, _ scheme: QuantizationScheme
  ) throws -> (byteCount: Double, error: ErrorStatistics) {
    guard let view = tensor.view else { return (0, ErrorStatistics()) }
    let quantizer = try WeightQuantizer(
      tensor.rows(of: view), scheme: scheme, inputZero: tensor.use?.inputZero ?? 0, threadCount: options.threadCount)
    let (rowCount, columnCount) = (tensor.shape.rowCount, tensor.shape.rowElementCount)
    let layout = TileLayout(rowCount: rowCount, columnCount: columnCount)
    let step = ChunkEncoder.rowTilesPerChunk(layout) * TileLayout.tileRowCount
    let blocks = stride(from: 0, to: rowCount, by: step).map { $0..<min($0 + step, rowCount) }
    let count = min(ConversionPlan.blockCount, blocks.count)
    let chosen = (0..<count).map { blocks[(2 * $0 + 1) * blocks.count / (2 * count)] }
    let encoder = ChunkEncoder(options.compression)
    let found = try mapBlocks(count, threadCount: options.threadCount) { index in
      let rows = try quantizer.quantize(rows: chosen[index])
      view.release(chosen[index])
      return (
        try encoder.encode(rows: rows.values, columnCount: columnCount, bits: scheme.bits).byteCount, rows.statistics
      )
    }
    let sampled = chosen.reduce(0) { $0 + $1.count }
    let scales = scheme.scaleCount(rowCount: rowCount, columnCount: columnCount) * (scheme.isSymmetric ? 4 : 5)
    let byteCount = Double(found.reduce(0) { $0 + $1.0 }) * Double(rowCount) / Double(max(sampled, 1))
    return (byteCount + Double(scales), found.reduce(ErrorStatistics()) { $0.merged(with: $1.1) })
  }

  /// Bytes of the file without some tensors: all others, the files that go with the model, and the index.
  private func byteCount(without names: Set<String>) throws -> Double {
    var total = 0.0
    for tensor in tensors where !names.contains(tensor.outputName) {
      guard case .quantized(let scheme) = tensor.treatment else {
        total += Double(tensor.storedByteCount(options.compression))
        continue
      }
      total += try measured(tensor, scheme).byteCount
    }
    let encoder = ChunkEncoder(options.compression)
    for kind in ModelAttachments.Kind.allCases {
      guard let file = try checkpoint.attachments.file(kind) else { continue }
      total += Double(try encoder.encode(plane: file.bytes).reduce(0) { $0 + $1.byteCount })
    }
    return total + Double(tensors.count * ConversionPlan.indexByteCountOfTensor)
  }

  /// Bytes that a tensor takes in a file's index and in its graph, before these are compressed.
  private static let indexByteCountOfTensor = 1500
}
