import OTFoundation

/// The names of an object's members, each once and in their order, with constant-time look-up.
///
/// Names that differ in any byte are different: String takes U+00E9 and U+0065 U+0301 for the same, and JSON does not.
struct JSONNames: Sendable {
  /// Most names that are searched one after the other, since hashing them takes longer.
  private static let searchedCount = 12

  private(set) var list: [String] = []
  /// A hash table with open addressing: places in `list`, −1 where there is none. Empty while names are few.
  private var slots: [Int32] = []

  /// The place of a name, nil when it is not there.
  func place(of name: String) -> Int? {
    guard !slots.isEmpty else { return list.firstIndex { $0.hasSameBytes(as: name) } }
    let place = Int(slots[slot(of: name)])
    return place < 0 ? nil : place
  }

  /// Appends a name; the place of the one that is there already, and nothing done, where there is one.
  mutating func insert(_ name: String) -> Int? {
    if slots.isEmpty {
      if let place = place(of: name) { return place }
      list.append(name)
      if list.count > Self.searchedCount { makeSlots(count: 8 * Self.searchedCount) }
      return nil
    }
    let slot = slot(of: name)
    guard slots[slot] < 0 else { return Int(slots[slot]) }
    slots[slot] = Int32(list.count)
    list.append(name)
    if 2 * list.count > slots.count { makeSlots(count: 4 * list.count) }
    return nil
  }

  /// Removes the name of a place.
  mutating func remove(at place: Int) {
    list.remove(at: place)
    slots = []
    if list.count > Self.searchedCount { makeSlots(count: 4 * list.count) }
  }

  /// Half of the slots at least stay empty: a search ends soon.
  private mutating func makeSlots(count: Int) {
    var slotCount = 2
    while slotCount < count { slotCount *= 2 }
    slots = [Int32](repeating: -1, count: slotCount)
    for (place, name) in list.enumerated() { slots[slot(of: name)] = Int32(place) }
  }

  /// The slot of a name, or the empty one where it would be.
  private func slot(of name: String) -> Int {
    // Seeded at random: no file can make names collide.
    var hasher = Hasher()
    name.withBytes { hasher.combine(bytes: $0) }
    var slot = hasher.finalize() & (slots.count - 1)
    while slots[slot] >= 0, !list[Int(slots[slot])].hasSameBytes(as: name) { slot = (slot + 1) & (slots.count - 1) }
    return slot
  }
}

extension JSONNames: Hashable {
  static func == (first: JSONNames, second: JSONNames) -> Bool {
    first.list.count == second.list.count && zip(first.list, second.list).allSatisfy { $0.hasSameBytes(as: $1) }
  }

  func hash(into hasher: inout Hasher) {
    for name in list { name.withBytes { hasher.combine(bytes: $0) } }
  }
}
