import OTGraph

/// A program, stage by stage: the values that each stage reads and writes, and the buffers in which they lie.
package struct ProgramListing: Sendable {
  /// A value, or the integers that are made of one.
  package struct Item: Hashable, Sendable {
    /// The node whose value it is; nil for a part of what a node does.
    package let node: String?
    /// Its number among values, or among integers.
    package let number: Int
    /// True when it is integers.
    package let isCodes: Bool
    /// Its buffer, among those of values or those of integers.
    package let buffer: Int
    /// Channels of a value, bytes of a row of integers.
    package let size: Int
    /// True where each thread has a place for the rows that it takes through a section or a chain.
    package let isOfThread: Bool
  }

  /// The work of one step.
  package struct Step: Sendable {
    /// The items it reads.
    package let reads: [Item]
    /// The items it writes.
    package let writes: [Item]
  }

  /// The work that is done on all rows before the next stage begins.
  package struct Stage: Sendable {
    /// One step, or those of a chain, in order.
    package let steps: [Step]
    /// The names of the weights, for linears.
    package let weights: [String]
    /// True when it is attention.
    package let isAttention: Bool
    /// True when it runs for some rows at a time, over and over.
    package let isTail: Bool
    /// True when it is a chain of steps, which takes a few rows at a time.
    package let isChain: Bool
    /// The items that observers are shown after it.
    package let shown: [Item]
  }

  /// The stages that a thread may take some rows through while others are elsewhere: those that follow each other, or one.
  package let sections: [Range<Int>]

  /// The stages, in order.
  package let stages: [Stage]
  /// The items that are read when all has been run.
  package let outputs: [String: Item]
  /// Channels of each buffer of values.
  package let bufferSizes: [Int]
  /// Bytes of a row of each buffer of integers.
  package let codeBufferSizes: [Int]

  init(_ program: Program) {
    func value(_ id: Program.ValueID) -> Item {
      let value = program.values[id]
      return Item(
        node: value.node, number: id, isCodes: false, buffer: value.buffer, size: value.channelCount,
        isOfThread: [.section, .chain].contains(program.regions[id]))
    }
    func quantized(_ id: Program.QuantizedID) -> Item {
      let quantized = program.quantizedValues[id]
      return Item(
        node: program.values[quantized.value].node, number: id, isCodes: true, buffer: quantized.buffer,
        size: quantized.bytesPerRow, isOfThread: quantized.region == .section)
    }
    func steps(_ stage: any OTRuntime.Stage) -> [Step] {
      if let chain = stage as? RowChain {
        return chain.steps.map { step in
          let writes = [step.written.map(value), step.quantized.map(quantized)].compactMap { $0 }
          return Step(reads: step.read.map(value), writes: writes)
        }
      }
      return [
        Step(
          reads: stage.read.map(value) + stage.readQuantized.map(quantized),
          writes: stage.written.map(value) + stage.quantized.map(quantized))
      ]
    }
    sections = program.sections.map(\.stages)
    stages = program.stages.map { placed in
      Stage(
        steps: steps(placed.stage),
        weights: (placed.stage as? ProductStage)?.products.map(\.linear.weight.name) ?? [],
        isAttention: placed.stage is AttentionStage, isTail: placed.region == .tail,
        isChain: placed.stage is RowChain, shown: placed.shown.map(value))
    }
    outputs = program.outputs.mapValues(value)
    bufferSizes = program.bufferSizes.map(\.channelCount)
    codeBufferSizes = program.quantizedBuffers.map(\.byteCount)
  }
}
