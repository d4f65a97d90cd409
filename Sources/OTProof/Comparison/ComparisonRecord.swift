import OTConversion
import OTFoundation
import OTJSON

/// What a comparison has found so far.
package struct ComparisonRecord: Sendable {
  /// What became of a row.
  package enum Outcome: Sendable {
    /// Its file was made and measured.
    case measured(RowFigures)
    /// It cannot be had, and why.
    case refused(Refusal)
    /// It has not been tried yet.
    case missing

    /// The figures, where there are any.
    package var figures: RowFigures? { if case .measured(let figures) = self { figures } else { nil } }
  }

  /// The source's own figures.
  package let source: RowFigures
  /// The rows in the order in which they were asked for.
  package var entries: [(row: ComparisonRow, outcome: Outcome)]
  /// What the model and the text are called, for the head of a page.
  package var facts: [(name: String, value: String)] = []
  /// The options of `convert` that all rows share.
  package var sharedArguments: [String] = []
  /// Others' figures, to stand beside.
  package var peers: [Peer] = []

  /// Results.
  package init(source: RowFigures, entries: [(row: ComparisonRow, outcome: Outcome)]) {
    (self.source, self.entries) = (source, entries)
  }

  /// True when at least one row has figures.
  package var hasFigures: Bool { entries.contains { $0.outcome.figures != nil } }

  /// All figures.
  package var json: JSONValue {
    var members: JSONObject = [:]
    for fact in facts { members[fact.name] = .string(fact.value) }
    members["source"] = source.json
    members["rows"] = .array(
      entries.map { entry in
        var row: JSONObject = [
          "method": .string(entry.row.method), "setting": .string(entry.row.setting.description),
        ]
        row["label"] = entry.row.label.map { .string($0) }
        row["group"] = entry.row.group.map { .string($0) }
        row["options"] = .array((entry.row.arguments + sharedArguments).map { .string($0) })
        switch entry.outcome {
        case .measured(let figures): row["figures"] = figures.json
        case .refused(let refusal):
          row["refusal"] = .object(["rule": .string(refusal.rule), "message": .string("\(refusal)")])
        case .missing: row["figures"] = .null
        }
        return .object(row)
      })
    if !peers.isEmpty { members["peers"] = .array(peers.map(\.json)) }
    return .object(members)
  }
}

/// Another program's file of the same model, as somebody measured it.
package struct Peer: Sendable, Hashable {
  /// The size of a file.
  package enum Size: Sendable, Hashable {
    /// Bytes of the whole file.
    case byteCount(Int)
    /// Bits per weight of the linears.
    case bitsPerWeight(Double)
  }

  /// Its name.
  package let name: String
  /// Its size.
  package let size: Size
  /// Mean KL divergence from the float model, nats.
  package let divergence: Double

  /// The peer of `NAME=SIZE,KL`, such as `Q6_K=6.56bpw,0.029` or `Q6_K=137MB,0.012`; nil where it is none.
  package init?(_ text: String) {
    guard let mark = text.lastIndex(of: "="), mark != text.startIndex else { return nil }
    let parts = text[text.index(after: mark)...].split(separator: ",", omittingEmptySubsequences: false)
    guard parts.count == 2, let size = BitBudget(String(parts[0])), let divergence = Double(parts[1]),
      divergence.isFinite, divergence >= 0
    else { return nil }
    name = String(text[..<mark])
    self.divergence = divergence
    switch size {
    case .byteCount(let count): self.size = .byteCount(count)
    case .bitsPerWeight(let bits): self.size = .bitsPerWeight(bits)
    }
  }

  /// The peers of a file: a list of `{name, byteCount or bitsPerWeight, kl}`.
  ///
  /// - Throws: `Refusal` with rule `compare-peers` or a rule `json-…` or `file-…`.
  package static func list(path: String) throws -> [Peer] {
    let json = try JSONValue.parse(contentsOf: MappedFile(path: path))
    guard let list = json.array else {
      throw Refusal("compare-peers", "is not a list of {name, byteCount or bitsPerWeight, kl}", file: path)
    }
    return try list.enumerated().map { index, json in
      guard let peer = Peer(json: json) else {
        throw Refusal("compare-peers", "entry \(index) is not {name, byteCount or bitsPerWeight, kl}", file: path)
      }
      return peer
    }
  }

  private init?(json: JSONValue) {
    guard let name = json["name"]?.string, !name.isEmpty, let divergence = json["kl"]?.double, divergence.isFinite,
      divergence >= 0
    else { return nil }
    (self.name, self.divergence) = (name, divergence)
    if let count = json["byteCount"]?.integer, count > 0, json["bitsPerWeight"] == nil {
      size = .byteCount(count)
    } else if let bits = json["bitsPerWeight"]?.double, bits > 0, bits.isFinite, json["byteCount"] == nil {
      size = .bitsPerWeight(bits)
    } else {
      return nil
    }
  }

  /// `{name, byteCount or bitsPerWeight, kl}`.
  package var json: JSONValue {
    var members: JSONObject = ["name": .string(name)]
    switch size {
    case .byteCount(let count): members["byteCount"] = .integer(count)
    case .bitsPerWeight(let bits): members["bitsPerWeight"] = .number(bits)
    }
    members["kl"] = .number(divergence)
    return .object(members)
  }
}
