import Foundation
import OTFoundation
import OTText

/// WikiText as other frameworks' figures have it.
enum WikiText {
  /// Writes a text with `<unk>` spelled `unk` and ` @-@ ` as `-`.
  ///
  /// - Throws: `Refusal` when a file cannot be read or written.
  static func prepare(_ path: String, to copy: String) throws {
    let file = try AtomicFile(path: copy)
    try TextFile(path: path).forEachDocument { text in
      try file.append(
        Array(
          text.replacingOccurrences(of: "<unk>", with: "unk").replacingOccurrences(of: " @-@ ", with: "-").utf8))
      return true
    }
    try file.commit()
  }

  /// The first sentences of at least five words: what lies between two full
  /// stops that are words of their own, headings left out.
  ///
  /// - Throws: `Refusal` with rule `bench-sentences` where there are fewer than two.
  static func sentences(of path: String, count: Int) throws -> [String] {
    var sentences: [String] = []
    try TextFile(path: path).forEachDocument { text in
      for line in text.split(separator: "\n") where !line.drop(while: { $0 == " " }).hasPrefix("=") {
        for words in line.split(separator: " ").split(separator: ".") where words.count >= 5 {
          sentences.append(words.joined(separator: " ") + " .")
          if sentences.count == count { return false }
        }
      }
      return true
    }
    guard sentences.count > 1 else {
      throw Refusal("bench-sentences", "has \(sentences.count) sentences of five words", file: path)
    }
    return sentences
  }
}
