import OTFoundation
import OTGraph
import OTRuntime
import Testing
import _OTModelSupport
import _OTTestSupport

/// What the compiler makes of graphs, and where the planner puts the values.
@Suite struct ProgramTests {
  enum Form: String, CaseIterable, Sendable { case float, perToken, weightsOnly }

  private static func executor(_ fixture: Fixture, _ form: Form) throws -> any Executor {
    switch form {
    case .float: try fixture.floatExecutor()
    case .perToken: try fixture.executor(.perToken) { $0.embeddingBits = 8 }
    case .weightsOnly: try fixture.executor(nil) { $0.embeddingBits = 8 }
    }
  }

  // MARK: Buffers

  /// Runs the stages with nothing but the names of what lies in each buffer.
  struct Machine {
    struct Slot: Hashable {
      let isCodes: Bool
      let buffer: Int

      init(_ item: ProgramListing.Item) { (isCodes, buffer) = (item.isCodes, item.buffer) }
    }
    private(set) var faults: [String] = []
    private var held: [Slot: Int] = [:]

    private mutating func read(_ item: ProgramListing.Item, _ place: String) {
      if held[Slot(item)] != item.number { faults.append("\(place): \(item) is gone") }
    }

    private mutating func run(_ stage: ProgramListing.Stage, _ place: String) {
      var used = Set<Slot>()
      for step in stage.steps {
        for item in step.reads {
          read(item, place)
          used.insert(Slot(item))
        }
        for item in step.writes {
          // Threads take rows at their own pace: within a stage nothing is written over.
          if !used.insert(Slot(item)).inserted { faults.append("\(place): \(item) takes a place in use") }
          held[Slot(item)] = item.number
        }
      }
      for item in stage.shown { read(item, place) }
    }

    /// The stages before the tail, and the tail again and again.
    init(_ program: ProgramListing) {
      for (index, stage) in program.stages.enumerated() where !stage.isTail { run(stage, "stage \(index)") }
      for round in 1...3 {
        for (index, stage) in program.stages.enumerated() where stage.isTail {
          run(stage, "stage \(index), round \(round)")
        }
        for (name, item) in program.outputs { read(item, "output \(name), round \(round)") }
      }
    }
  }

  private func expectSound(_ program: ProgramListing, _ comment: String) {
    let faults = Machine(program).faults
    #expect(faults.isEmpty, "\(comment): \(faults.prefix(3))")
    let items = program.stages.flatMap { $0.steps.flatMap(\.writes) }
    for item in items {
      let sizes = item.isCodes ? program.codeBufferSizes : program.bufferSizes
      #expect(sizes[item.buffer] >= item.size, "\(comment): \(item)")
    }
    // Without sharing there would be as many buffers as values.
    #expect(program.bufferSizes.count <= items.count { !$0.isCodes })
  }

  @Test(arguments: Fixture.allCases, Form.allCases)
  func noTwoLiveValuesShareABuffer(_ fixture: Fixture, _ form: Form) throws {
    let executor = try Self.executor(fixture, form)
    for fuses in [true, false] {
      let program = try executor.listing(from: [], until: [], fuses: fuses)
      expectSound(program, "fuses: \(fuses)")
      let values = program.stages.flatMap { $0.steps.flatMap(\.writes) }.filter { !$0.isCodes }
      #expect(program.bufferSizes.count < values.count / 3, "values share buffers")
    }
  }

  /// Parts of the graph, from and to wherever.
  @Test(arguments: Fixture.allCases, Form.allCases)
  func noTwoLiveValuesOfAPartShareABuffer(_ fixture: Fixture, _ form: Form) throws {
    let executor = try Self.executor(fixture, form)
    let graph = executor.graph
    let nodes = graph.nodes.map(\.name).filter { (graph.channelCount(of: $0) ?? 0) > 0 }
    var random = SeededGenerator()
    var madeCount = 0
    for _ in 0..<60 {
      let given = Set(
        (0..<Int.random(in: 0...3, using: &random)).compactMap { _ in nodes.randomElement(using: &random) })
      let wanted = (1...Int.random(in: 1...4, using: &random)).compactMap { _ in nodes.randomElement(using: &random) }
      do {
        let fuses = Bool.random(using: &random)
        expectSound(try executor.listing(from: given, until: wanted, fuses: fuses), "seed \(random.seed)")
        madeCount += 1
      } catch let refusal as Refusal {
        // Not everything is a part: what is given may have no influence on what is wanted.
        #expect(refusal.rule == "graph-part", "seed \(random.seed)")
      }
    }
    #expect(madeCount > 5, "seed \(random.seed)")
  }

  // MARK: Stages

  /// For observers every node has a value, written once; for speed some are done with others.
  @Test(arguments: Fixture.allCases, Form.allCases)
  func everyNodeIsRunOnce(_ fixture: Fixture, _ form: Form) throws {
    let executor = try Self.executor(fixture, form)
    let graph = executor.graph
    let nodes = graph.nodes.map(\.name).filter { (graph.channelCount(of: $0) ?? 0) > 0 }
    func written(fuses: Bool) throws -> [String] {
      try executor.listing(from: [], until: [], fuses: fuses).stages.flatMap { $0.steps.flatMap(\.writes) }
        .filter { !$0.isCodes }.compactMap(\.node)
    }
    let all = try written(fuses: false)
    #expect(all.sorted() == nodes.sorted())
    let some = try written(fuses: true)
    #expect(Set(some).count == some.count && Set(some).isSubset(of: all) && some.count < all.count)
    #expect(Set(some).isSuperset(of: graph.outputs.values))
  }

  /// Linears that read one value are one stage, so that its integers are made once.
  @Test(arguments: Fixture.allCases, Form.allCases)
  func linearsOfOneValueAreOneStage(_ fixture: Fixture, _ form: Form) throws {
    let executor = try Self.executor(fixture, form)
    var readers: [String: Set<String>] = [:]
    for node in executor.graph.nodes {
      guard case .linear(let linear) = node.operation else { continue }
      readers[node.inputs[0], default: []].insert(linear.weight.name)
    }
    for fuses in [true, false] {
      let program = try executor.listing(from: [], until: [], fuses: fuses)
      let stages = program.stages.map(\.weights).filter { !$0.isEmpty }
      #expect(stages.allSatisfy { Set($0).count == $0.count })
      #expect(Set(stages.map(Set.init)) == Set(readers.values))
      #expect(stages.count == readers.count)
      let codes = program.stages.flatMap { $0.steps.flatMap(\.writes) }.filter(\.isCodes)
      // Each value that packed weights read becomes integers once.
      #expect(codes.count == (form == .float ? 0 : readers.count))
      #expect(Set(codes.map(\.number)).count == codes.count)
    }
  }

  /// What follows the last attention is run for the rows that are wanted alone.
  @Test(arguments: Fixture.allCases) func theTailFollowsTheLastAttention(_ fixture: Fixture) throws {
    let executor = try Self.executor(fixture, .float)
    let program = try executor.listing(from: [], until: [], fuses: true)
    let last = try #require(program.stages.lastIndex { $0.isAttention })
    #expect(program.stages.map(\.isTail) == program.stages.indices.map { $0 > last })
    let site = try #require(executor.graph.sites.last)
    let part = try executor.listing(from: [], until: [site.consumers[0]], fuses: true)
    #expect(!part.stages.contains { $0.isTail }, "all rows of a part are wanted")
  }
}
