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

    private mutating func run(_ stages: ArraySlice<ProgramListing.Stage>, _ place: String) {
      var used = Set<Slot>()
      for stage in stages {
        // What is of a thread is overwritten when its stage is over.
        var usedInStage = Set<Slot>()
        for step in stage.steps {
          for item in step.reads {
            read(item, place)
            used.insert(Slot(item))
            usedInStage.insert(Slot(item))
          }
          for item in step.writes {
            // Threads take rows at their own pace: within a section nothing of all is written over.
            let isNew = usedInStage.insert(Slot(item)).inserted
            let isNewInSection = used.insert(Slot(item)).inserted
            if !(item.isOfThread ? isNew : isNewInSection) {
              faults.append("\(place): \(item) takes a place in use")
            }
            held[Slot(item)] = item.number
          }
        }
        for item in stage.shown { read(item, place) }
      }
      // The next section's rows are not those of the threads.
      for stage in stages {
        for item in stage.steps.flatMap(\.writes) where item.isOfThread { held[Slot(item)] = nil }
      }
    }

    /// The stages before the tail, and the tail again and again.
    init(_ program: ProgramListing) {
      let sections = program.sections.map { program.stages[$0] }
      for stages in sections where stages.allSatisfy({ !$0.isTail }) { run(stages, "stages \(stages.indices)") }
      for round in 1...3 {
        for stages in sections where stages.allSatisfy(\.isTail) {
          run(stages, "stages \(stages.indices), round \(round)")
        }
        for (name, item) in program.outputs { read(item, "output \(name), round \(round)") }
      }
    }
  }

  private func expectSound(_ program: ProgramListing, _ comment: String) {
    #expect(
      program.sections.flatMap { $0 } == Array(program.stages.indices), "\(comment): every stage is in one section")
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

  // MARK: Sections

  /// Linears and the steps between them go together from one attention to the next, where their weights are integers and
  /// nobody looks on.
  @Test(arguments: Fixture.allCases, Form.allCases)
  func whatLiesBetweenAttentionsIsOneSection(_ fixture: Fixture, _ form: Form) throws {
    let executor = try Self.executor(fixture, form)
    func linearCounts(fuses: Bool) throws -> [Int] {
      let program = try executor.listing(from: [], until: [], fuses: fuses)
      return program.sections.map { program.stages[$0].flatMap(\.weights).count }
    }
    // Those of queries, keys and values, which BLOOM has in one.
    let ofAttention = fixture == .bloom ? 1 : 3
    #expect(try linearCounts(fuses: false).max() == ofAttention)
    // Output, two or three of the MLP, and those of the next attention.
    let ofMLP = fixture == .llama ? 3 : 2
    #expect(try linearCounts(fuses: true).max() == (form == .float ? ofAttention : 1 + ofMLP + ofAttention))
  }

  /// Sequences that go together are many rows, which threads take through sections; alone they are few, of which threads
  /// share the channels.
  @Test(arguments: Fixture.allCases, [Form.perToken, .weightsOnly])
  func manyRowsGiveWhatFewGive(_ fixture: Fixture, _ form: Form) throws {
    var random = SeededGenerator()
    let sequences = (0..<11).map { _ in
      TokenSequence((0..<Int.random(in: 1...30, using: &random)).map { _ in Int.random(in: 0..<1000, using: &random) })
    }
    let file = try fixture.packed(form == .perToken ? .perToken : nil) { $0.embeddingBits = 8 }
    for threadCount in [1, 2] {
      let executor = try QuantizedExecutor(
        graph: #require(file.graph), container: file.container, threadCount: threadCount)
      let together = try executor.run(sequences, observe: nil)
      for (sequence, result) in zip(sequences, together) {
        let alone = try executor.run([sequence], observe: nil)[0]
        #expect(result.outputs == alone.outputs, "\(threadCount) threads, seed \(random.seed)")
      }
    }
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
