import OTGraph
import OTRuntime
import Testing
import _OTTestSupport

/// Operations of decoders beside attention, against float64 loops on random weights.
@Suite struct DecoderOperationsTests {
  private static let width = 32

  private func linear(_ name: String, _ input: String, _ from: Int, _ to: Int) -> Node {
    Node(
      name,
      .linear(
        Linear(weight: "\(name).weight", bias: "\(name).bias", inFeatures: from, outFeatures: to, role: .block)),
      inputs: [input])
  }

  private func expectAgreement(_ nodes: [Node]) throws {
    var generator = SeededGenerator()
    let table = Embedding(table: "table", rowCount: FloatExecutorTests.vocabulary, size: Self.width)
    let graph = try Graph(
      family: "test",
      nodes: [Node("ids", .tokenIDs), Node("x", .embedding(table), inputs: ["ids"])] + nodes,
      outputs: ["hidden": nodes[nodes.count - 1].name], vocabularySize: FloatExecutorTests.vocabulary)
    let parameters = try FloatExecutorTests.parameters(graph, seed: generator.seed)
    let tokens = (0..<21).map { _ in Int.random(in: 0..<FloatExecutorTests.vocabulary, using: &generator) }
    try FloatExecutorTests.expectAgreement(graph, parameters, tokens, seed: generator.seed)
  }

  @Test func boundsAgree() throws {
    try expectAgreement([
      linear("first", "x", Self.width, 24), Node("bounded", .clamp(Clamp(bound: 0.25)), inputs: ["first"]),
      linear("last", "bounded", 24, 8),
    ])
  }

  /// Groups of three heads of queries beside one of keys and one of values: 5 parts of 4 channels.
  @Test(arguments: [0, 1, 2]) func slicesOfSeveralPartsAgree(_ first: Int) throws {
    let slice = ChannelSlice(part: first, partCount: 5, blockSize: 4, width: 3)
    let channels = (0..<12).map { slice.inputChannel(of: $0) }
    #expect(channels == Array(4 * first..<4 * first + 12))
    #expect(slice.inputChannel(of: 12) == 4 * first + 20)
    try expectAgreement([
      linear("fused", "x", Self.width, 40), Node("queries", .channelSlice(slice), inputs: ["fused"]),
      linear("last", "queries", 24, 8),
    ])
  }

  @Test(arguments: [true, false]) func normsWithGainsOfEachHeadAgree(_ isCentered: Bool) throws {
    let norm = Norm(gamma: "gains", beta: "offsets", epsilon: 1e-5, size: 24, groupSize: 8, hasOwnGains: true)
    try expectAgreement([
      linear("first", "x", Self.width, 24),
      Node("normed", isCentered ? .layerNorm(norm) : .rmsNorm(norm), inputs: ["first"]),
      linear("last", "normed", 24, 8),
    ])
  }

  @Test func gainsInTensorsOfTheirOwnAgree() throws {
    let norm = Norm(
      gamma: nil, beta: nil, epsilon: 1e-5, size: 24, groupSize: 8, hasOwnGains: true,
      groupGains: ["third", "second", "first gain"])
    try expectAgreement([
      linear("first", "x", Self.width, 24), Node("normed", .layerNorm(norm), inputs: ["first"]),
      linear("last", "normed", 24, 8),
    ])
  }

  /// Multi-head latent attention: the rotated channels of keys are the same in all heads, those of values are others.
  @Test(arguments: [(1, 6, 4, 10), (3, 8, 6, 5), (2, 4, 4, 40)]) func headsSideBySideAgree(
    _ heads: Int, _ plain: Int, _ rotated: Int, _ valueSize: Int
  ) throws {
    let attention = Attention(
      headCount: heads, keyValueHeadCount: heads, headSize: plain + rotated, valueSize: valueSize, isCausal: true,
      positions: .rotary(Rotary(theta: 100, dimensions: rotated, isInterleaved: true)))
    let sides = OTGraph.Operation.headConcatenation(HeadConcatenation(headCount: heads, sizes: [rotated, plain]))
    try expectAgreement([
      linear("query rotated", "x", Self.width, heads * rotated), linear("query", "x", Self.width, heads * plain),
      Node("queries", sides, inputs: ["query rotated", "query"]), linear("key rotated", "x", Self.width, rotated),
      linear("key", "x", Self.width, heads * plain), Node("keys", sides, inputs: ["key rotated", "key"]),
      linear("values", "x", Self.width, heads * valueSize),
      Node("mixed", .attention(attention), inputs: ["queries", "keys", "values"]),
      linear("last", "mixed", heads * valueSize, 8),
    ])
  }

  /// The square of ReLU: a value that one node reads twice.
  @Test func squaresAgree() throws {
    try expectAgreement([
      linear("first", "x", Self.width, 24), Node("positive", .activation(.relu), inputs: ["first"]),
      Node("squared", .multiply, inputs: ["positive", "positive"]), linear("last", "squared", 24, 8),
    ])
  }

  /// Halfway between two bfloat16 numbers to the even one, above it up; powers of 2 and what is too small stay.
  @Test(
    arguments: [
      (1.0, 1.0), (1.00390625, 1.0), (1.01171875, 1.015625), (1.004, 1.0078125), (257.0, 256.0), (259.0, 260.0),
      (-0.3, -0.30078125), (0, 0),
    ] as [(Float, Float)])
  func bfloat16(_ number: Float, _ rounded: Float) {
    #expect(number.roundedToBFloat16 == rounded)
  }
}
