/// Gives the values of a program their buffers: those that are not needed at the same time share one.
///
/// A buffer is free again after the stage that reads its value last, and not
/// within a stage, so that what a stage wrote is there when it is over; one that holds the rows of all threads
/// not within a section, through which threads go at their own pace.
struct BufferPlanner {
  static func place(_ program: inout Program) {
    let count = program.stages.count
    var lastUse = [Int](repeating: -1, count: program.values.count)
    var lastQuantizedUse = [Int](repeating: -1, count: program.quantizedValues.count)
    var regions = [Program.Region](repeating: .tokens, count: program.values.count)
    for (index, placed) in program.stages.enumerated() {
      for value in placed.stage.written {
        lastUse[value] = index
        regions[value] = program.values[value].rows.router == nil ? placed.region : .experts
      }
      for value in placed.stage.read {
        // The tail runs several times over what comes before it.
        lastUse[value] = placed.region == .tail && regions[value] == .tokens ? count : max(lastUse[value], index)
      }
      for id in placed.stage.quantized {
        program.quantizedValues[id].region = placed.rows.router == nil ? placed.region : .experts
        lastQuantizedUse[id] = index
      }
      for id in placed.stage.readQuantized {
        lastQuantizedUse[id] = placed.region == .tail && program.quantizedValues[id].region == .tokens ? count : index
      }
    }
    for value in program.outputs.values { lastUse[value] = count }
    for section in program.sections where section.isRowwise {
      for index in section.stages {
        let stage = program.stages[index].stage
        for value in stage.written where lastUse[value] < section.stages.upperBound { regions[value] = .section }
        for id in stage.quantized where lastQuantizedUse[id] < section.stages.upperBound {
          program.quantizedValues[id].region = .section
        }
      }
      let last = section.stages.upperBound - 1
      for value in regions.indices where regions[value] != .section && section.stages.contains(lastUse[value]) {
        lastUse[value] = last
      }
      for id in program.quantizedValues.indices
      where program.quantizedValues[id].region != .section && section.stages.contains(lastQuantizedUse[id]) {
        lastQuantizedUse[id] = last
      }
    }
    for (index, placed) in program.stages.enumerated() {
      guard placed.stage is RowChain else { continue }
      for value in placed.stage.written where lastUse[value] == index && !placed.shown.contains(value) {
        regions[value] = .chain
      }
    }
    program.regions = regions

    // In the order of values, so that buffers do not depend on more than the program.
    var (ends, quantizedEnds) = ([[Int]](repeating: [], count: count), [[Int]](repeating: [], count: count))
    for (value, end) in lastUse.enumerated() where ends.indices.contains(end) { ends[end].append(value) }
    for (id, end) in lastQuantizedUse.enumerated() where ends.indices.contains(end) { quantizedEnds[end].append(id) }
    var floats = Pool()
    var bytes = Pool()
    for (index, placed) in program.stages.enumerated() {
      for value in placed.stage.written {
        program.values[value].buffer = floats.take(program.values[value].channelCount, regions[value])
      }
      for id in placed.stage.quantized {
        program.quantizedValues[id].buffer = bytes.take(
          program.quantizedValues[id].bytesPerRow, program.quantizedValues[id].region)
      }
      for value in ends[index] { floats.give(back: program.values[value].buffer) }
      for id in quantizedEnds[index] { bytes.give(back: program.quantizedValues[id].buffer) }
    }
    program.bufferSizes = floats.buffers.map { ($0.size, $0.region) }
    program.quantizedBuffers = bytes.buffers.map { ($0.size, $0.region) }
    placeTables(&program)
  }

  /// Gives routers tables: those that are not needed at the same time share one.
  private static func placeTables(_ program: inout Program) {
    var lastUse = [Int](repeating: -1, count: program.routers.count)
    for (index, placed) in program.stages.enumerated() {
      if let router = placed.rows.router { lastUse[router] = index }
    }
    for value in program.outputs.values {
      if let router = program.values[value].rows.router { lastUse[router] = program.stages.count }
    }
    var freeAfter: [Int] = []
    for (index, placed) in program.stages.enumerated() {
      guard let router = (placed.stage as? RoutingTableStage)?.router else { continue }
      let routing = program.routers[router].routing
      let table = freeAfter.firstIndex { $0 < index } ?? freeAfter.count
      if table == freeAfter.count {
        freeAfter.append(0)
        program.routingTables.append((0, 0))
      }
      freeAfter[table] = max(lastUse[router], index)
      program.routers[router].table = table
      let size = program.routingTables[table]
      program.routingTables[table] = (
        max(size.expertCount, routing.expertCount), max(size.chosenCount, routing.chosenCount)
      )
    }
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
