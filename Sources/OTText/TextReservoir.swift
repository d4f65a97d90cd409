import OTFoundation

/// A random part of a text that may be far larger than memory.
///
/// The text comes in units: lines of a `.jsonl`, pieces of a `.txt`. Each draws
/// a random key, and those with the least keys are kept as long as they take no
/// more than `byteCount` bytes together: every unit has the same chance,
/// wherever it stands, and a text that fits is kept whole.
struct TextReservoir {
  struct Unit {
    let file: Int
    /// Order in which it came.
    let position: Int
    let key: UInt64
    let content: Content
  }

  enum Content {
    case line(TextFile.Line)
    case piece(TextFile.Piece)

    var byteCount: Int {
      switch self {
      case .line(let line): line.bytes.count
      case .piece(let piece): piece.bytes.count
      }
    }
  }

  private let byteCount: Int
  private var generator: SplitMix64
  private var units: [Unit] = []
  private var heldByteCount = 0
  /// Units with this key or a greater one have no chance any more.
  private var limit: UInt64?
  private var position = 0

  init(byteCount: Int, seed: UInt64) {
    self.byteCount = byteCount
    generator = SplitMix64(seed: seed)
  }

  mutating func add(_ content: Content, file: Int) {
    let key = generator.next()
    position += 1
    if let limit, key >= limit { return }
    units.append(Unit(file: file, position: position, key: key, content: content))
    heldByteCount += content.byteCount
    // Seldom, so that sorting takes no time: memory stays below twice the budget.
    if heldByteCount > 2 * byteCount { prune() }
  }

  private mutating func prune() {
    units.sort { $0.key < $1.key }
    var total = 0
    let kept = units.firstIndex { unit in
      total += unit.content.byteCount
      return total > byteCount
    }
    // One is kept however long it is.
    if let kept, max(kept, 1) < units.count {
      limit = units[max(kept, 1)].key
      units.removeSubrange(max(kept, 1)...)
    }
    heldByteCount = units.reduce(0) { $0 + $1.content.byteCount }
  }

  /// The units that have been kept, in the order of the text.
  mutating func finish() -> [Unit] {
    if heldByteCount > byteCount { prune() }
    return units.sorted { $0.position < $1.position }
  }
}
