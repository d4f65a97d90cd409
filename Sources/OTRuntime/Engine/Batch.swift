import OTFoundation
import OTGraph

/// Tokens that go through the model together, one row each: several whole
/// sequences, which may share their beginnings, or the next pieces of some that grow.
struct Batch {
  /// The rows of one sequence.
  struct Segment {
    let rows: Range<Int>
    /// Position of the first row in its sequence.
    let firstPosition: Int
    /// The segment that has the tokens before the first row, which both sequences begin with; nil: they are in the
    /// cache already, or there are none.
    var prefix: Int?
    /// The place of the sequence in the cache.
    let place: Int
  }

  private(set) var tokenIDs: [Int] = []
  private(set) var positions: [Int] = []
  /// Of each row the tokens of its sequence, those of other batches included.
  private(set) var sequenceLengths: [Int] = []
  private(set) var tokenTypeIDs: [Int] = []
  /// 1 for tokens that may be attended to; nil where all may.
  private(set) var mask: [UInt8]?
  private(set) var segments: [Segment] = []
  /// Rows that float products take together; see `TokenSequence.productBlocks`.
  private(set) var productBlocks: [Range<Int>] = []

  var rowCount: Int { tokenIDs.count }
  /// True when a segment begins as another.
  private(set) var sharesPrefixes = false
  /// Tokens of the longest sequence.
  var longest: Int { sequenceLengths.max() ?? 0 }

  /// A batch of whole sequences.
  ///
  /// - Throws: `Refusal` with rule `run-empty`, `run-context`, `run-token-id`
  ///   or `run-input-length`.
  init(_ sequences: [TokenSequence], graph: Graph) throws {
    for sequence in sequences {
      try Batch.check(sequence.tokenIDs, firstPosition: 0, graph: graph)
      for (count, what) in [
        (sequence.tokenTypeIDs?.count, "token types"), (sequence.attentionMask?.count, "mask entries"),
      ] {
        if let count, count != sequence.tokenIDs.count {
          throw Refusal("run-input-length", "\(count) \(what) for \(sequence.tokenIDs.count) tokens")
        }
      }
      append(
        sequence.tokenIDs[...], firstPosition: 0, sequenceLength: sequence.tokenIDs.count,
        tokenTypeIDs: sequence.tokenTypeIDs)
    }
    findProductBlocks()
    guard sequences.contains(where: { $0.attentionMask != nil }) else { return }
    mask = sequences.flatMap { sequence in
      sequence.attentionMask?.map { $0 ? 1 : 0 } ?? [UInt8](repeating: 1, count: sequence.tokenIDs.count)
    }
  }

  /// A batch to be filled piece by piece.
  init() {}

  /// A sequence, or what follows the first tokens of one that another segment has.
  struct Part {
    let tokenIDs: [Int]
    /// Tokens that are not run again, and the segment that has them: a whole sequence before this one.
    let prefix: (count: Int, segment: Int)?
  }

  /// A batch of sequences that share beginnings; they have been checked.
  ///
  /// - Precondition: each has more tokens than it shares.
  init(_ parts: [Part]) {
    for part in parts {
      let count = part.prefix?.count ?? 0
      precondition(part.tokenIDs.count > count && part.prefix.map { segments[$0.segment].prefix == nil } ?? true)
      sharesPrefixes = sharesPrefixes || part.prefix != nil
      append(
        part.tokenIDs[count...], firstPosition: count, sequenceLength: part.tokenIDs.count, tokenTypeIDs: nil,
        prefix: part.prefix?.segment)
    }
    findProductBlocks()
  }

  private mutating func findProductBlocks() {
    productBlocks = TokenSequence.productBlocks(lengths: segments.map(\.rows.count)).map { block in
      segments[block.lowerBound].rows.lowerBound..<segments[block.upperBound - 1].rows.upperBound
    }
  }

  /// Takes all rows out; the memory stays.
  mutating func removeAll() {
    tokenIDs.removeAll(keepingCapacity: true)
    positions.removeAll(keepingCapacity: true)
    sequenceLengths.removeAll(keepingCapacity: true)
    tokenTypeIDs.removeAll(keepingCapacity: true)
    segments.removeAll(keepingCapacity: true)
    productBlocks.removeAll(keepingCapacity: true)
  }

  /// Adds the next piece of a growing sequence, from position `firstPosition` on of `sequenceLength` tokens.
  ///
  /// - Parameter place: the sequence's in the cache.
  mutating func append(_ tokenIDs: ArraySlice<Int>, firstPosition: Int, sequenceLength: Int, place: Int) {
    append(tokenIDs, firstPosition: firstPosition, sequenceLength: sequenceLength, tokenTypeIDs: nil, place: place)
    productBlocks.removeAll(keepingCapacity: true)
    productBlocks.append(0..<rowCount)
  }

  private mutating func append(
    _ tokens: ArraySlice<Int>, firstPosition: Int, sequenceLength: Int, tokenTypeIDs types: [Int]?,
    prefix: Int? = nil, place: Int? = nil
  ) {
    let first = tokenIDs.count
    tokenIDs += tokens
    positions += firstPosition..<firstPosition + tokens.count
    for _ in tokens { sequenceLengths.append(sequenceLength) }
    if let types {
      tokenTypeIDs += types
    } else {
      for _ in tokens { tokenTypeIDs.append(0) }
    }
    segments.append(
      Segment(
        rows: first..<tokenIDs.count, firstPosition: firstPosition, prefix: prefix, place: place ?? segments.count))
  }

  /// Checks tokens that follow `firstPosition` others.
  ///
  /// - Throws: `Refusal` with rule `run-empty`, `run-context` or `run-token-id`.
  static func check(_ tokenIDs: [Int], firstPosition: Int, graph: Graph) throws {
    guard !tokenIDs.isEmpty else { throw Refusal("run-empty", "there are no tokens to run") }
    // The BLAS counts in 32 bits.
    let longest = min(graph.contextLength ?? Int(Int32.max), Int(Int32.max))
    guard tokenIDs.count <= longest - firstPosition else {
      throw Refusal(
        "run-context", "\(firstPosition + tokenIDs.count) tokens are more than the model's \(longest)",
        remedy: "give a shorter text or cut it into pieces")
    }
    if let size = graph.vocabularySize, let index = tokenIDs.firstIndex(where: { !(0..<size).contains($0) }) {
      throw Refusal(
        "run-token-id", "token \(index) is \(tokenIDs[index]), the vocabulary has 0...\(size - 1)",
        remedy: "use the tokenizer that belongs to the model")
    }
  }
}
