import OTJSON

/// The text that comes with the package, for calibrating where no other is at
/// hand: 23 documents in the public domain, about 21,000 tokens.
///
/// `Resources/README.md` says where it is from.
package enum SampleText {
  /// Its name in messages and metadata.
  package static let name = "sample.jsonl of otq"

  /// The bytes of the file.
  package static var bytes: [UInt8] { PackageResources.sample_jsonl }

  /// The texts of its documents.
  ///
  /// - Throws: `Refusal` with a rule `json-…`, never for the file as it is shipped.
  package static func documents() throws -> [String] {
    try bytes.split(separator: UInt8(ascii: "\n")).compactMap { line in
      try line.withUnsafeBytes {
        try JSONValue.parse($0, limits: .configuration, file: name)["text"]?.string
      }
    }
  }
}
