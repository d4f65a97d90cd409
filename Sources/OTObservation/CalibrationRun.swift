import OTJSON
import OTModel

/// One run of calibration: which texts, and what was drawn from them.
package struct CalibrationRun: Sendable, Hashable {
  /// The files of text or of tokens.
  package let texts: [FileRecord]
  /// Samples that were run.
  package let sampleCount: Int
  /// Tokens of the longest sample.
  package let length: Int
  /// The seed of their places; nil where tokens were given.
  package let seed: UInt64?

  /// A record of a run.
  package init(texts: [FileRecord], sampleCount: Int, length: Int, seed: UInt64?) {
    self.texts = texts
    self.sampleCount = sampleCount
    self.length = length
    self.seed = seed
  }

  /// `{texts, samples, length, seed}`; the seed is a text, since JSON's numbers are doubles to many.
  package var json: JSONValue {
    var members: JSONObject = [
      "texts": .array(texts.map(\.json)), "samples": .integer(sampleCount), "length": .integer(length),
    ]
    if let seed { members["seed"] = .string("\(seed)") }
    return .object(members)
  }

  init?(json: JSONValue) {
    guard let texts = json["texts"]?.array?.map(FileRecord.init(json:)), !texts.contains(nil),
      let samples = json["samples"]?.integer, let length = json["length"]?.integer
    else { return nil }
    let seed = json["seed"]?.string.flatMap { UInt64($0) }
    guard json["seed"] == nil || seed != nil else { return nil }
    self.init(texts: texts.compactMap { $0 }, sampleCount: samples, length: length, seed: seed)
  }
}
