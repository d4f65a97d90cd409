import OTCheckpoint
import OTFoundation
import OTGraph
import OTTensor

extension SourceModel {
  /// The model with parameters that are rotated offline, which computes the same function: rotated in float64, kept as
  /// float32 in a file without a name.
  ///
  /// - Parameter folder: has room for the linears' weights as float32.
  /// - Throws: `Refusal` with rule `rotation-stream`, as the family builds the graph, as parameters are read, or as the
  ///   file is written.
  package func rotated(by rotation: OfflineRotation, in folder: String) throws -> SourceModel {
    try Refusal.naming(checkpoint.files.first?.path) {
      let source = try graph()
      let rotated = try source.rotated(by: rotation)
      let parameters = RotatedParameters(source, parameters, rotation, rotated)
      let tensors = try checkpoint.adding(parameters.entries, in: folder) { name in try parameters.values(of: name) }
      let used = Set(rotated.graph.parameterUses.compactMap(\.tensor?.name))
      let dropped = Set(source.parameterUses.compactMap(\.tensor?.name)).subtracting(used)
      return SourceModel(
        self, checkpoint: try tensors.removing(dropped), graph: rotated.graph, warnings: try warnings())
    }
  }
}

/// The parameters of a rotated graph.
private struct RotatedParameters {
  private let source: Graph
  private let reader: ParameterReader
  private var uses: [String: (use: ParameterUse, linear: RotatedLinear)] = [:]
  private var names: [String] = []
  /// R₁ and R₂ by their sizes.
  private var streams: [Int: OrthogonalMatrix] = [:]
  private var heads: [Int: OrthogonalMatrix] = [:]

  init(_ source: Graph, _ reader: ParameterReader, _ rotation: OfflineRotation, _ rotated: RotatedGraph) {
    (self.source, self.reader) = (source, reader)
    for linear in rotated.linears {
      if linear.origin != .source, let size = rotated.graph.channelCount(of: linear.node) {
        streams[size] = OrthogonalMatrix(size: size, seed: rotation.seed)
      }
      if let size = linear.inputHeadSize, heads[size] == nil {
        heads[size] = OrthogonalMatrix(size: size, seed: rotation.seed ^ 0x6F74_712D_6865_6164)
      }
    }
    for linear in rotated.linears {
      for use in rotated.graph.parameterUses(of: linear.node) {
        uses[use.outputName] = (use, linear)
        names.append(use.outputName)
      }
    }
  }

  var entries: [SafetensorsWriter.Entry] {
    names.compactMap { name in uses[name].map { .init(name: name, elementType: .f32, shape: $0.use.shape) } }
  }

  /// The elements of a parameter, row-major.
  func values(of name: String) throws -> [Float] {
    guard let (use, linear) = uses[name] else { return [] }
    return use.role == .weight ? try weight(use, linear) : try bias(use, linear)
  }

  private func vector(_ role: ParameterUse.Role, of node: String) throws -> [Double]? {
    try source.parameterUses(of: node).first { $0.role == role }.map { use in
      try reader.vector(use, rows: 0..<use.shape.rowCount).map { Double($0) }
    }
  }

  private func sourceWeight(_ node: String) throws -> [Double] {
    guard let use = source.parameterUses(of: node).first(where: { $0.role == .weight }) else { return [] }
    let rows = try reader.rows(of: use)
    defer { rows.view.release(0..<use.shape.rowCount) }
    return rows.values(rows: 0..<use.shape.rowCount).map { Double($0) }
  }

  private func weight(_ use: ParameterUse, _ linear: RotatedLinear) throws -> [Float] {
    let (rowCount, columnCount) = (use.shape.rowCount, use.shape.rowElementCount)
    var values: [Double]
    switch linear.origin {
    case .source: values = try sourceWeight(linear.node)
    case .entry, .exit:
      values = (0..<rowCount * columnCount).map { $0 / columnCount == $0 % columnCount ? 1 : 0 }
    }
    var (reads, writes, isCentered) = (linear.reads, linear.writes, linear.isCentered)
    switch linear.origin {
    case .source: break
    case .entry(let centered): (writes, isCentered) = (true, centered)
    case .exit: reads = true
    }
    let gain = try linear.norm.flatMap { try vector(.gamma, of: $0) }
    // Along rows: what it reads.
    let stream = reads ? streams[columnCount] : nil
    let head = linear.inputHeadSize.flatMap { heads[$0] }
    for row in 0..<rowCount {
      let range = row * columnCount..<(row + 1) * columnCount
      var x = Array(values[range])
      if let gain {
        // Behind the last norm the gain comes after the rotation back.
        if linear.origin == .exit {
          for i in x.indices { x[i] *= gain[row] }
        } else {
          for i in x.indices { x[i] *= gain[i] }
        }
      }
      if let stream { stream.apply(&x) }
      if let head {
        for start in stride(from: 0, to: columnCount, by: head.size) {
          var part = Array(x[start..<start + head.size])
          head.apply(&part)
          x.replaceSubrange(start..<start + head.size, with: part)
        }
      }
      values.replaceSubrange(range, with: x)
    }
    // Along columns: what it gives.
    if writes || !linear.outputHeads.isEmpty {
      for column in 0..<columnCount {
        var y = (0..<rowCount).map { values[$0 * columnCount + column] }
        turn(&y, writes: writes, isCentered: isCentered, linear)
        for row in 0..<rowCount { values[row * columnCount + column] = y[row] }
      }
    }
    return values.map { Float($0) }
  }

  /// Rᵀy.
  private func turn(_ y: inout [Double], writes: Bool, isCentered: Bool, _ linear: RotatedLinear) {
    if let first = linear.outputHeads.first, let matrix = heads[first.count] {
      for rows in linear.outputHeads {
        var part = rows.map { y[$0] }
        matrix.apply(&part)
        for (row, value) in zip(rows, part) { y[row] = value }
      }
    }
    guard writes else { return }
    if isCentered {
      let mean = y.reduce(0, +) / Double(y.count)
      for index in y.indices { y[index] -= mean }
    }
    streams[y.count]?.apply(&y)
  }

  private func bias(_ use: ParameterUse, _ linear: RotatedLinear) throws -> [Float] {
    var values = [Double](repeating: 0, count: use.shape.rowCount)
    if linear.origin == .source, let own = try vector(.bias, of: linear.node) { values = own }
    if let offset = try linear.norm.flatMap({ try vector(.beta, of: $0) }) {
      if linear.origin == .exit {
        values = offset
      } else {
        let weight = try sourceWeight(linear.node)
        for row in values.indices {
          for column in offset.indices { values[row] += weight[row * offset.count + column] * offset[column] }
        }
      }
    }
    turn(&values, writes: linear.writes, isCentered: linear.isCentered, linear)
    return values.map { Float($0) }
  }
}
