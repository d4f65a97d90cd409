/// Text as the key of a look-up: equal only when every byte is.
///
/// Swift's String takes U+00E9 and U+0065 U+0301 for the same key; in a
/// vocabulary they are two tokens.
struct TokenText: Hashable {
  let bytes: [UInt8]

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
struct Vocabulary {
  private var ids: [TokenText: Int] = [:]
  private var texts: [Int: String] = [:]
  /// Ids of the tokens that are one Unicode scalar, the first look-up of BPE.
  private(set) var scalarIDs: [Unicode.Scalar: Int] = [:]
  /// Length of the longest token, in scalars.
  private(set) var longestTokenLength = 0

  /// Reads the member `vocab` of a model: `{token: id}`.
  init(_ model: TokenizerSection) throws {
    let members = try model.object("vocab").members
    ids.reserveCapacity(members.count)
    texts.reserveCapacity(members.count)
    for (text, value) in members {
      guard let id = value.integer, (0...Int(Int32.max)).contains(id) else {
        throw model.refusal("tokenizer-vocabulary", "token '\(text.prefix(80))' has no valid id")
      }
      ids[TokenText(text)] = id
      // Where two tokens share an id, the first is what decoding gives.
      if texts[id] == nil { texts[id] = text }
      let scalars = text.unicodeScalars
      longestTokenLength = max(longestTokenLength, scalars.count)
      if scalars.count == 1, let scalar = scalars.first { scalarIDs[scalar] = id }
    }
  }

  var count: Int { ids.count }
  var largestID: Int { texts.keys.max() ?? -1 }

  subscript(text: TokenText) -> Int? { ids[text] }
  func text(_ id: Int) -> String? { texts[id] }
}
