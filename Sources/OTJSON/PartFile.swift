import OTFoundation

/// The file that one of several parts of a work leaves, to be put together with those of the others: JSON that says what
/// it is a part of, and what the part has found.
package struct PartFile: Sendable {
  /// The kind of a work that is done in parts.
  package struct Kind: Sendable, Hashable {
    let format, rule, command: String

    /// - Parameters:
    ///   - name: part of the format's name.
    ///   - command: the command that makes such parts; its name begins the rule of refusals.
    package init(_ name: String, rule: String, command: String) {
      (format, self.rule, self.command) = ("otq-\(name)-part", rule, command)
    }
  }

  private static let formatVersion = 1

  /// The work.
  package let kind: Kind
  /// What decides about the findings: equal for all parts of one work alone.
  package let identity: String
  /// The part.
  package let share: WorkShare
  /// What was found.
  package let content: JSONObject
  /// The file; empty before it is written.
  package let path: String

  /// Another program's parts are refused.
  private static let producer = "otq \(programVersion)"

  /// A part that is to be written.
  package init(_ kind: Kind, identity: String, share: WorkShare, content: JSONObject) {
    (self.kind, self.identity, self.share, self.content, path) = (kind, identity, share, content, "")
  }

  /// Reads a part of any of these kinds.
  ///
  /// - Throws: `Refusal` with the rule of the first kind, or as reading JSON throws.
  package init(path: String, of kinds: [Kind]) throws {
    let json = try JSONValue.parse(
      contentsOf: MappedFile(path: path), limits: JSONLimits(byteCount: 1 << 30, depth: 8))
    let found = kinds.first { json["format"]?.string == $0.format }
    guard let kind = found, json["version"]?.integer == Self.formatVersion, json["producer"]?.string == Self.producer,
      let number = json["part"]?.integer, let count = json["parts"]?.integer, let share = WorkShare(number, of: count),
      let identity = json["identity"]?.string, let content = json.object
    else { throw Self.damaged(path, found ?? kinds[0], "is no such part by this program, or is damaged") }
    (self.kind, self.identity, self.share, self.content, self.path) = (kind, identity, share, content, path)
  }

  /// Writes the part; the file appears whole or not at all.
  ///
  /// - Throws: `Refusal` with a rule `output-…`.
  package func write(to path: String, force: Bool, inputs: [FileIdentity]) throws {
    var members: JSONObject = [
      "format": .string(kind.format), "version": .integer(Self.formatVersion), "producer": .string(Self.producer),
      "part": .integer(share.number), "parts": .integer(share.count), "identity": .string(identity),
    ]
    for (key, value) in content.members { members[key] = value }
    let file = try AtomicFile(path: path, force: force, inputs: inputs)
    try file.append(JSONValue.object(members).text().utf8)
    try file.commit()
  }

  // MARK: Reading what was found

  /// A refusal of this part.
  package func damaged(_ message: String) -> Refusal { Self.damaged(path, kind, message) }

  private static func damaged(_ path: String, _ kind: Kind, _ message: String) -> Refusal {
    Refusal(kind.rule, message, file: path, remedy: "make it again with '\(kind.command) --part N --of M'")
  }

  /// A member.
  ///
  /// - Throws: `Refusal` with the kind's rule where `read` gives nothing.
  package func value<Value>(_ key: String, _ read: (JSONValue) -> Value?) throws -> Value {
    guard let value = content[key].flatMap(read) else { throw damaged("its member '\(key)' is missing or invalid") }
    return value
  }

  /// A member that is a list.
  ///
  /// - Throws: as `value`, also where `read` gives nothing for an element.
  package func list<Element>(_ key: String, _ read: (JSONValue) -> Element?) throws -> [Element] {
    try value(key) { $0.list(read) }
  }

  // MARK: Putting together

  /// The parts in their order.
  ///
  /// - Parameter identity: that of the work; nil: that of the first part.
  /// - Throws: `Refusal` with rule `merge-part-missing` or `merge-part`, or `merge-other-plan` where they are not of one
  ///   work.
  package static func inOrder(_ parts: [PartFile], identity: String? = nil) throws -> [PartFile] {
    let parts = parts.sorted { $0.share.number < $1.share.number }
    for part in parts
    where part.kind != parts[0].kind || part.share.count != parts[0].share.count
      || part.identity != identity ?? parts[0].identity
    {
      throw Refusal(
        "merge-other-plan", "is a part of another work" + (identity == nil ? " than \(parts[0].path)" : ""),
        file: part.path,
        remedy: "make all parts with one model, the same other files and the same options")
    }
    try WorkShare.checkAll(parts.map(\.share), file: parts.first?.path)
    return parts
  }
}

extension JSONValue {
  /// The elements of an array, each as `read` reads it; nil for what is no array, or where an element is not read.
  package func list<Element>(_ read: (JSONValue) -> Element?) -> [Element]? {
    guard let array else { return nil }
    let elements = array.compactMap(read)
    return elements.count == array.count ? elements : nil
  }

  /// Numbers of one type, bit for bit, also those that are not finite: little-endian, in base64.
  package static func bits<Number: BitwiseCopyable>(of numbers: [Number]) -> JSONValue {
    // The machines that this runs on are little-endian.
    .string(Base64.encode(numbers.withUnsafeBytes { Array($0) }))
  }

  /// Numbers that `bits` wrote; nil for anything else.
  package func bits<Number: BitwiseCopyable>(as type: Number.Type) -> [Number]? {
    guard let bytes = string.flatMap(Base64.decode), bytes.count % MemoryLayout<Number>.stride == 0 else { return nil }
    return bytes.withUnsafeBytes { bytes in
      stride(from: 0, to: bytes.count, by: MemoryLayout<Number>.stride).map {
        bytes.loadUnaligned(fromByteOffset: $0, as: type)
      }
    }
  }
}
