import OTFoundation

/// A SentencePiece model (`tokenizer.model`, `spiece.model`): the parts of its message that make tokens.
struct SentencePieceModel {
  struct Piece {
    enum Kind: UInt64 {
      case normal = 1
      case unknown, control, userDefined, unused, byte
    }

    var text = ""
    /// Logarithm of its probability; for byte-pair encoding, the lower the later it was merged.
    var score: Float = 0
    var kind = Kind.normal
  }

  private(set) var pieces: [Piece] = []
  /// Unigram, or byte-pair encoding.
  private(set) var isUnigram = true
  private(set) var hasByteFallback = false
  private(set) var (unknownID, beginID, endID) = (0, 1, 2)
  private(set) var (unknownPiece, beginPiece, endPiece) = ("<unk>", "<s>", "</s>")
  /// The compiled table of characters; empty for none.
  private(set) var characterMap: [UInt8] = []
  private(set) var addsDummyPrefix = true
  private(set) var removesExtraSpaces = true
  private(set) var escapesSpaces = true

  /// Reads the message.
  ///
  /// - Throws: `Refusal` `tokenizer-sentencepiece` for bytes that are no such message, `tokenizer-unsupported`
  ///   for its models of words or characters.
  init(_ bytes: [UInt8], file: String) throws {
    var reader = ProtobufReader(bytes[...], file: file)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (1, .bytes(let bytes)): pieces.append(try Self.piece(bytes, file))
      case (2, .bytes(let bytes)): try readTraining(bytes, file)
      case (3, .bytes(let bytes)): try readNormalization(bytes, file)
      default: break
      }
    }
    guard !pieces.isEmpty else { throw reader.damaged }
  }

  private static func piece(_ bytes: ArraySlice<UInt8>, _ file: String) throws -> Piece {
    var reader = ProtobufReader(bytes, file: file)
    var piece = Piece()
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (1, .bytes(let bytes)): piece.text = try text(bytes, reader)
      case (2, .fixed(let bits)):
        piece.score = Float(bitPattern: UInt32(truncatingIfNeeded: bits))
        guard piece.score.isFinite else { throw reader.damaged }
      case (3, .integer(let kind)):
        guard let kind = Piece.Kind(rawValue: kind) else { throw reader.damaged }
        piece.kind = kind
      default: break
      }
    }
    return piece
  }

  private static func text(_ bytes: ArraySlice<UInt8>, _ reader: ProtobufReader) throws -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw reader.damaged }
    return text
  }

  private mutating func readTraining(_ bytes: ArraySlice<UInt8>, _ file: String) throws {
    var reader = ProtobufReader(bytes, file: file)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (3, .integer(let kind)):
        guard kind == 1 || kind == 2 else {
          throw Refusal(
            "tokenizer-unsupported", "a SentencePiece model of words or characters is not supported", file: file)
        }
        isUnigram = kind == 1
      case (24, .integer(let isSuffix)) where isSuffix != 0:
        throw Refusal("tokenizer-unsupported", "white space as a suffix of pieces is not supported", file: file)
      case (35, .integer(let flag)): hasByteFallback = flag != 0
      // An absent token has the id −1.
      case (40, .integer(let id)): unknownID = Int(Int32(truncatingIfNeeded: id))
      case (41, .integer(let id)): beginID = Int(Int32(truncatingIfNeeded: id))
      case (42, .integer(let id)): endID = Int(Int32(truncatingIfNeeded: id))
      case (45, .bytes(let bytes)): unknownPiece = try Self.text(bytes, reader)
      case (46, .bytes(let bytes)): beginPiece = try Self.text(bytes, reader)
      case (47, .bytes(let bytes)): endPiece = try Self.text(bytes, reader)
      default: break
      }
    }
  }

  private mutating func readNormalization(_ bytes: ArraySlice<UInt8>, _ file: String) throws {
    var reader = ProtobufReader(bytes, file: file)
    while let (number, value) = try reader.next() {
      switch (number, value) {
      case (2, .bytes(let bytes)): characterMap = Array(bytes)
      case (3, .integer(let flag)): addsDummyPrefix = flag != 0
      case (4, .integer(let flag)): removesExtraSpaces = flag != 0
      case (5, .integer(let flag)): escapesSpaces = flag != 0
      default: break
      }
    }
  }

  /// The merges that make the pieces of byte-pair encoding, which the model does not list: every way to make a
  /// piece of two others.
  ///
  /// - Parameters:
  ///   - tokens: the texts of the pieces that merge, with ids.
  ///   - order: the rank of a piece's merges, the lowest first; equal ones by the id of the piece.
  /// - Complexity: O(n l²) for n pieces of at most l characters.
  static func merges(of tokens: [(text: String, id: Int)], order: (Int) -> Float) -> [(left: String, right: String)] {
    let ids = Dictionary(tokens.map { (TokenText($0.text), $0.id) }, uniquingKeysWith: { $1 })
    var merges: [(rank: Float, id: Int, place: Int, left: String, right: String)] = []
    for token in tokens where ids[TokenText(token.text)] == token.id {
      let scalars = Array(token.text.unicodeScalars)
      for place in 1..<max(scalars.count, 1) {
        let (left, right) = (scalars[..<place], scalars[place...])
        guard ids[TokenText(left)] != nil, ids[TokenText(right)] != nil else { continue }
        merges.append(
          (
            order(token.id), token.id, place, String(String.UnicodeScalarView(left)),
            String(String.UnicodeScalarView(right))
          ))
      }
    }
    merges.sort { ($0.rank, $0.id, $0.place) < ($1.rank, $1.id, $1.place) }
    return merges.map { ($0.left, $0.right) }
  }
}
