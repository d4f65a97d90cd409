/// Names seen in an object; few are searched, since hashing them takes longer.
struct JSONKeySet {
  private var few: [String] = []
  private var many: Set<JSONKey> = []

  /// False when the name is there already.
  mutating func insert(_ key: String) -> Bool {
    guard many.isEmpty else { return many.insert(JSONKey(key)).inserted }
    guard !few.contains(where: { $0.hasSameBytes(as: key) }) else { return false }
    few.append(key)
    if few.count > 12 {
      many = Set(few.map(JSONKey.init))
      few = []
    }
    return true
  }
}
