import OTJSON

/// A file by which a packed file or statistics remember what they were made from.
public struct FileRecord: Sendable, Hashable {
  /// Its path relative to the model's folder, or its name.
  public let name: String
  /// Its size in bytes.
  public let byteCount: Int
  /// SHA-256 of its content, 64 lower-case hexadecimal digits.
  public let sha256: String

  /// A record of a file.
  package init(name: String, byteCount: Int, sha256: String) {
    self.name = name
    self.byteCount = byteCount
    self.sha256 = sha256
  }

  /// `{name, byteCount, sha256}`.
  package var json: JSONValue {
    .object(["name": .string(name), "byteCount": .integer(byteCount), "sha256": .string(sha256)])
  }

  /// The record that `json` holds; nil when it holds none.
  package init?(json: JSONValue) {
    guard let name = json["name"]?.string, let byteCount = json["byteCount"]?.integer,
      let sha256 = json["sha256"]?.string
    else { return nil }
    self.init(name: name, byteCount: byteCount, sha256: sha256)
  }
}
