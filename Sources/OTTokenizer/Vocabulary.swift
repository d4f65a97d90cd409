/// Text as the key of a look-up: equal only when every byte is.
///
/// Swift's String takes U+00E9 and U+0065 U+0301 for the same key; in a
/// vocabulary they are two tokens.
struct TokenText: Hashable {
  let bytes: [UInt8]

  init(bytes: [UInt8]) { self.bytes = bytes }

  init(_ text: String) { bytes = Array(text.utf8) }

  init(_ scalars: some Sequence<Unicode.Scalar>) {
    var bytes: [UInt8] = []
    for scalar in scalars { bytes.append(contentsOf: scalar.utf8) }
    self.bytes = bytes
  }

  func hash(into hasher: inout Hasher) {
    bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
  }
}

/// The tokens of a model: text to id and back.
///
/// A vocabulary has up to some hundred thousand of them, so they lie in a few
/// arrays: a String and a key of a dictionary for each take several times as much.
struct Vocabulary {
  /// The tokens' UTF-8 one after the other, by rising id; of tokens that
  /// share an id, in the order of the file.
  private var bytes: [UInt8] = []
  /// The start of each token, and the end of the last one.
  private var starts = [0]
  private var ids: [Int32] = []
  /// A hash table with open addressing: places in `ids`, −1 where there is none.
  private var slots: [Int32]
  /// Ids of the tokens that are one Unicode scalar, the first look-up of BPE.
  private(set) var scalarIDs: [Unicode.Scalar: Int] = [:]
  /// Length of the longest token, in scalars.
  private(set) var longestTokenLength = 0

  /// Reads the member `vocab` of a model: `{token: id}`.
  init(_ model: TokenizerSection) throws {
    let members = try model.object("vocab").members
    self.init(
      try members.map { member in
        guard let id = member.value.integer, (0...Int(Int32.max)).contains(id) else {
          throw model.refusal("tokenizer-vocabulary", "token '\(member.key.prefix(80))' has no valid id")
        }
        return (member.key, Int32(id))
      })
  }

  /// Takes tokens with ids that are not negative; a text that occurs twice stands for its last id.
  init(_ members: [(text: String, id: Int32)]) {
    let tokens = members.enumerated().map { (id: $1.id, place: $0) }.sorted { $0 < $1 }
    // Half of the slots at least stay empty: a search ends soon.
    var slotCount = 2
    while slotCount < 2 * tokens.count { slotCount *= 2 }
    slots = [Int32](repeating: -1, count: slotCount)
    bytes.reserveCapacity(members.reduce(0) { $0 + $1.text.utf8.count })
    starts.reserveCapacity(tokens.count + 1)
    ids.reserveCapacity(tokens.count)
    for (id, place) in tokens {
      let text = members[place].text
      bytes.append(contentsOf: text.utf8)
      starts.append(bytes.count)
      ids.append(id)
      slots[slot(of: ids.count - 1)] = Int32(ids.count - 1)
      let scalars = text.unicodeScalars
      longestTokenLength = max(longestTokenLength, scalars.count)
      if scalars.count == 1, let scalar = scalars.first { scalarIDs[scalar] = Int(id) }
    }
  }

  /// Number of tokens.
  var count: Int { ids.count }

  var largestID: Int { ids.last.map { Int($0) } ?? -1 }

  subscript(text: TokenText) -> Int? { self[ArraySlice(text.bytes)] }

  /// The id of a token in UTF-8.
  subscript(text: ArraySlice<UInt8>) -> Int? {
    text.withUnsafeBytes { wanted in
      let place = Int(slots[slot(of: wanted)])
      return place < 0 ? nil : Int(ids[place])
    }
  }

  /// The token of an id; where two share it, the first.
  func text(_ id: Int) -> String? {
    var (low, high) = (0, ids.count)
    while low < high {
      let middle = (low + high) / 2
      if Int(ids[middle]) < id { low = middle + 1 } else { high = middle }
    }
    guard low < ids.count, Int(ids[low]) == id else { return nil }
    return String(decoding: bytes[starts[low]..<starts[low + 1]], as: UTF8.self)
  }

  private func slot(of place: Int) -> Int {
    bytes.withUnsafeBytes { slot(of: UnsafeRawBufferPointer(rebasing: $0[starts[place]..<starts[place + 1]])) }
  }

  /// The slot of a text, or the empty one where it would be.
  private func slot(of text: UnsafeRawBufferPointer) -> Int {
    // Seeded at random: no file can make texts collide.
    var hasher = Hasher()
    hasher.combine(bytes: text)
    var slot = hasher.finalize() & (slots.count - 1)
    while slots[slot] >= 0 {
      let place = Int(slots[slot])
      let isEqual = bytes.withUnsafeBytes { $0[starts[place]..<starts[place + 1]].elementsEqual(text) }
      if isEqual { break }
      slot = (slot + 1) & (slots.count - 1)
    }
    return slot
  }
}

/// The tokens of a vocabulary in the order of their bytes, so that those that begin alike lie together.
struct TokenPrefixes {
  private let vocabulary: Vocabulary
  /// Places of the tokens in the vocabulary; of equal ones, the last comes last.
  private let order: [Int32]
  /// Where in `order` the tokens lie that begin with each byte.
  private let firsts: [Range<Int>]

  init(_ vocabulary: Vocabulary) {
    let order = vocabulary.sortedPlaces()
    var counts = [Int](repeating: 0, count: 256)
    var emptyCount = 0
    for place in order {
      let token = vocabulary.range(of: place)
      if token.isEmpty { emptyCount += 1 } else { counts[Int(vocabulary.byte(token.lowerBound))] += 1 }
    }
    var start = emptyCount
    firsts = counts.map { count in
      defer { start += count }
      return start..<start + count
    }
    self.order = order
    self.vocabulary = vocabulary
  }

  /// Calls `body` with id and length in bytes of every token that the text from `start` on begins with,
  /// the shortest first.
  ///
  /// - Complexity: O(l log n) for the longest token's length l and n tokens.
  func forEachPrefix(of text: [UInt8], from start: Int, _ body: (_ id: Int, _ length: Int) -> Void) {
    guard start < text.count else { return }
    var range = firsts[Int(text[start])]
    var depth = 1
    while let first = range.first {
      let token = vocabulary.range(of: order[first])
      if token.count == depth {
        // Of equal tokens the last counts.
        var last = first
        while last + 1 < range.upperBound, vocabulary.range(of: order[last + 1]).count == depth { last += 1 }
        body(vocabulary.id(of: order[last]), depth)
        range = last + 1..<range.upperBound
      }
      guard start + depth < text.count else { return }
      let byte = text[start + depth]
      let low = partition(range) { vocabulary.byte(vocabulary.range(of: $0).lowerBound + depth) >= byte }
      let high = partition(low..<range.upperBound) {
        vocabulary.byte(vocabulary.range(of: $0).lowerBound + depth) > byte
      }
      range = low..<high
      depth += 1
    }
  }

  /// The first place of a range from which on `isAbove` holds.
  private func partition(_ range: Range<Int>, _ isAbove: (Int32) -> Bool) -> Int {
    var (low, high) = (range.lowerBound, range.upperBound)
    while low < high {
      let middle = (low + high) / 2
      if isAbove(order[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

extension Vocabulary {
  fileprivate func range(of place: Int32) -> Range<Int> { starts[Int(place)]..<starts[Int(place) + 1] }
  fileprivate func byte(_ index: Int) -> UInt8 { bytes[index] }
  fileprivate func id(of place: Int32) -> Int { Int(ids[Int(place)]) }

  fileprivate func sortedPlaces() -> [Int32] {
    bytes.withUnsafeBufferPointer { bytes in
      ids.indices.map { Int32($0) }.sorted { left, right in
        let (first, second) = (range(of: left), range(of: right))
        let (a, b) = (bytes[first], bytes[second])
        return a.lexicographicallyPrecedes(b) || (first.count == second.count && left < right && a.elementsEqual(b))
      }
    }
  }
}
