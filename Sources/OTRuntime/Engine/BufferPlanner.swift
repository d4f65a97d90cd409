/// Gives the values of a program their buffers: those that are not needed at the same time share one.
///
/// A buffer is free again after the stage that reads its value last, and not
/// within a stage, so that what a stage wrote is there when it is over.
struct BufferPlanner {
  static func place(_ program: inout Program) {
    let count = program.stages.count
    var lastUse = [Int](repeating: -1, count: program.values.count)
    var lastCodeUse = [Int](repeating: -1, count: program.codes.count)
    var regions = [Program.Region](repeating: .tokens, count: program.values.count)
    for (index, placed) in program.stages.enumerated() {
      for value in placed.stage.written {
        lastUse[value] = index
        regions[value] = placed.region
      }
      for value in placed.stage.read(codes: program.codes) {
        // The tail runs several times over what comes before it.
        lastUse[value] = placed.region == .tail && regions[value] == .tokens ? count : max(lastUse[value], index)
      }
      for case .quantize(let id) in placed.stage.steps { program.codes[id].region = placed.region }
      for id in placed.stage.usedCodes {
        lastCodeUse[id] = placed.region == .tail && program.codes[id].region == .tokens ? count : index
      }
    }
    for value in program.outputs.values { lastUse[value] = count }
    for (index, placed) in program.stages.enumerated() {
      guard case .rows = placed.stage else { continue }
      for value in placed.stage.written where lastUse[value] == index && !placed.shown.contains(value) {
        regions[value] = .chain
      }
    }
    program.regions = regions

    var floats = Pool()
    var bytes = Pool()
    for (index, placed) in program.stages.enumerated() {
      for value in placed.stage.written {
        program.values[value].buffer = floats.take(program.values[value].channelCount, regions[value])
      }
      for case .quantize(let id) in placed.stage.steps {
        program.codes[id].buffer = bytes.take(program.codes[id].bytesPerRow, placed.region)
      }
      for value in program.values.indices where lastUse[value] == index {
        floats.give(back: program.values[value].buffer)
      }
      for id in program.codes.indices where lastCodeUse[id] == index { bytes.give(back: program.codes[id].buffer) }
    }
    program.bufferSizes = floats.buffers.map { ($0.size, $0.region) }
    program.codeBuffers = bytes.buffers.map { ($0.size, $0.region) }
  }

  private struct Pool {
    struct Buffer {
      var size: Int
      let region: Program.Region
      var isFree: Bool
    }
    var buffers: [Buffer] = []

    /// The free buffer that fits best: the smallest that is large enough, else the largest, which grows.
    mutating func take(_ size: Int, _ region: Program.Region) -> Int {
      let free = buffers.indices.filter { buffers[$0].isFree && buffers[$0].region == region }
      let fitting = free.filter { buffers[$0].size >= size }.min { buffers[$0].size < buffers[$1].size }
      if let index = fitting ?? free.max(by: { buffers[$0].size < buffers[$1].size }) {
        buffers[index].isFree = false
        buffers[index].size = max(buffers[index].size, size)
        return index
      }
      buffers.append(Buffer(size: size, region: region, isFree: false))
      return buffers.count - 1
    }

    mutating func give(back index: Int) { buffers[index].isFree = true }
  }
}

extension Program.Codes {
  /// Codes, a scale, and the sums of each run of columns.
  var bytesPerRow: Int {
    form.digitCount * (paddedChannelCount + 4 * partitions.reduce(0) { $0 + $1.count }) + 4
  }
}

extension Program.RowStep {
  var written: Program.ValueID? {
    switch self {
    case .layerNorm(_, _, _, _, let to), .rmsNorm(_, _, _, _, let to), .activate(_, _, let to),
      .add(_, _, let to), .multiply(_, _, let to), .affine(_, _, _, let to), .slice(_, _, let to),
      .rotate(_, _, _, let to):
      return to
    case .quantize: return nil
    }
  }

  func read(codes: [Program.Codes]) -> [Program.ValueID] {
    switch self {
    case .layerNorm(_, _, _, let from, _), .rmsNorm(_, _, _, let from, _), .activate(_, let from, _),
      .affine(_, _, let from, _), .slice(_, let from, _), .rotate(_, _, let from, _):
      return [from]
    case .add(let a, let b, _), .multiply(let a, let b, _): return [a, b]
    case .quantize(let id): return [codes[id].value]
    }
  }
}

extension Program.Stage {
  var steps: [Program.RowStep] {
    if case .rows(let steps) = self { return steps }
    return []
  }

  /// Values that the stage computes, in order.
  var written: [Program.ValueID] {
    switch self {
    case .copyGiven(_, let to): [to]
    case .lookUp(let lookup): [lookup.to]
    case .rows(let steps): steps.compactMap(\.written)
    case .products(let products): products.map(\.to)
    case .mix(let mixing): [mixing.to]
    case .firstRows(_, let to): [to]
    }
  }

  /// Values that the stage reads.
  func read(codes: [Program.Codes]) -> [Program.ValueID] {
    switch self {
    case .copyGiven, .lookUp: return []
    case .rows(let steps): return steps.flatMap { $0.read(codes: codes) }
    case .products(let products):
      return products.flatMap { product -> [Program.ValueID] in
        var values: [Program.ValueID] = []
        if case .float = product.weights { values.append(product.from) }
        if case .add(let other) = product.finish { values.append(other) }
        return values
      }
    case .mix(let mixing): return [mixing.queries, mixing.keys, mixing.values]
    case .firstRows(let from, _): return [from]
    }
  }

  /// Codes that the stage makes or reads.
  var usedCodes: [Program.CodesID] {
    switch self {
    case .rows(let steps):
      return steps.compactMap { step in
        if case .quantize(let id) = step { return id }
        return nil
      }
    case .products(let products):
      return products.compactMap { product in
        if case .packed(_, let id, _) = product.weights { return id }
        return nil
      }
    default: return []
    }
  }
}
