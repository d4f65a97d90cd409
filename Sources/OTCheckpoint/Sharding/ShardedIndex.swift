import OTFoundation
import OTJSON

/// The index of a checkpoint that is spread over several files, of
/// safetensors or of PyTorch: which tensor is in which shard.
struct ShardedIndex {
  static let maximumByteCount = 64 << 20

  let file: MappedFile
  /// Names of tensors and of their shards, in the index's order.
  let locations: [(tensor: String, shard: String)]
  /// The shards' names, sorted.
  let shardNames: [String]
  /// The sum of all tensors' bytes, as the index claims.
  let totalByteCount: Double?

  /// - Throws: `Refusal` with a rule `index-…` or `json-…`.
  init(_ file: MappedFile) throws {
    self.file = file
    guard file.byteCount <= ShardedIndex.maximumByteCount else {
      throw Refusal(
        "index-too-large",
        "an index of \(file.byteCount) bytes exceeds \(ShardedIndex.maximumByteCount)",
        file: file.path)
    }
    let root = try JSONValue.parse(
      file.bytes,
      limits: JSONLimits(
        byteCount: ShardedIndex.maximumByteCount, containerCount: 1024, readsLargeIntegersAsDoubles: true),
      file: file.path)
    guard let map = root["weight_map"]?.object, map.count > 0 else {
      throw Refusal(
        "index-no-weight-map", "is not an index: it has no object 'weight_map' with tensors in it",
        file: file.path)
    }
    locations = try map.members.map { name, value in
      guard let shard = value.string else {
        throw Refusal(
          "index-shard-not-string", "its shard is not named by a string", file: file.path,
          tensor: name)
      }
      guard ShardedIndex.isFileName(shard) else {
        throw Refusal(
          "index-shard-name", "its shard '\(shard.prefix(200))' is not a plain file name",
          file: file.path, tensor: name,
          remedy: "shards lie beside the index and are listed without a folder")
      }
      return (name, shard)
    }
    var shards: [String: String] = [:]
    for (tensor, shard) in locations {
      guard shards.updateValue(shard, forKey: shard)?.hasSameBytes(as: shard) ?? true else {
        throw Refusal(
          "index-shard-name", "its shard '\(shard.prefix(200))' looks like another one's name", file: file.path,
          tensor: tensor)
      }
    }
    shardNames = shards.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    totalByteCount = root["metadata"]?["total_size"]?.double
    try checkSet()
  }

  /// Judged by the name alone: shards of a download cache are symbolic links
  /// that lead elsewhere.
  private static func isFileName(_ name: String) -> Bool {
    guard !name.isEmpty, name.utf8.count <= 255, name != ".", name != ".." else { return false }
    return name.unicodeScalars.allSatisfy {
      $0 != "/" && $0 != "\\" && !PrintableName.isControl($0)
    }
  }

  /// Shards that are numbered `-00001-of-00003` must be one whole set.
  private func checkSet() throws {
    var numbers: [ShardNumber] = []
    var firstName = ""
    for name in shardNames {
      guard let number = ShardNumber(name) else { continue }
      if let first = numbers.first, first.count != number.count || first.prefix != number.prefix {
        throw Refusal(
          "index-mixed-sets", "lists shards of two sets: '\(firstName)' and '\(name)'",
          file: file.path)
      }
      if numbers.isEmpty { firstName = name }
      numbers.append(number)
    }
    guard let first = numbers.first else { return }
    // Their names differ, but 1 and 00001 are the same number.
    let listed = Set(numbers.map(\.index))
    guard listed.count == numbers.count, listed.count == first.count,
      listed.allSatisfy({ (1...first.count).contains($0) })
    else {
      throw Refusal(
        "index-incomplete-set",
        "lists \(listed.count) of the \(first.count) shards that '\(firstName)' counts",
        file: file.path, remedy: "use the index that belongs to these shards")
    }
  }
}

/// The parts of a name such as `model-00001-of-00003.safetensors`.
struct ShardNumber {
  let prefix: Substring
  let index: Int
  let count: Int

  init?(_ name: String) {
    let stem = name.prefix { $0 != "." }
    let parts = stem.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count >= 4, parts[parts.count - 2] == "of",
      let index = ShardNumber.number(parts[parts.count - 3]),
      let count = ShardNumber.number(parts[parts.count - 1]), count > 0
    else { return nil }
    prefix = stem[..<parts[parts.count - 3].startIndex]
    self.index = index
    self.count = count
  }

  private static func number(_ text: Substring) -> Int? {
    text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(text) : nil
  }
}
