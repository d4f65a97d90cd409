import OTFoundation
import OTJSON

extension Configuration {
  /// Refuses members that the family has not read and that can change the model.
  ///
  /// - Throws: `Refusal` (`family-member`) naming them.
  func checkMembers(family: String) throws {
    let unknown = unreadMembers.filter { ArithmeticMembers.canChange($0.key, $0.value) }.map { "'\($0.key)'" }
    guard !unknown.isEmpty else { return }
    let names = unknown.prefix(4).joined(separator: ", ") + (unknown.count > 4 ? " and \(unknown.count - 4) more" : "")
    throw Refusal(
      "family-member", "the family '\(family)' does not know \(names) of config.json, which can change the model",
      file: file, remedy: "check that config.json belongs to this checkpoint; \(Families.withoutGraph)")
  }

  /// Refuses models of other classes than the family's, and those with code of their own.
  ///
  /// - Throws: `Refusal` (`family-architecture`, `family-code`).
  func checkArchitectures(of facts: FamilyFacts) throws {
    let architectures = value("architectures")?.array?.compactMap(\.string) ?? []
    if let other = architectures.first(where: { !facts.knows(architecture: $0) }) {
      throw Refusal(
        "family-architecture", "config.json names the architecture '\(other)', which is none of '\(facts.name)'",
        file: file, remedy: "check that config.json belongs to this checkpoint; \(Families.withoutGraph)")
    }
    try checkCode(of: facts.name, known: facts.publishedCode)
  }

  /// Refuses models with code of their own, but for `known` code.
  ///
  /// - Throws: `Refusal` (`family-code`).
  func checkCode(of name: String, known: [String] = []) throws {
    let code = value("auto_map")?.object?.members.filter { $0.key.hasPrefix("AutoModel") } ?? []
    // Before "--" stands the repository that has it.
    let isKnown = code.allSatisfy { member in
      known.contains { member.value.string == $0 || member.value.string?.hasSuffix("--\($0)") == true }
    }
    if !isKnown {
      throw Refusal(
        "family-code", "the model has code of its own ('auto_map'), of which nothing is known", file: file,
        remedy: "if it computes what '\(name)' does, remove 'auto_map' from config.json; "
          + Families.withoutGraph)
    }
  }
}

extension Configuration {
  /// Refuses a configuration that names no architecture and has what another family's has: its type
  /// alone may have been written by hand.
  ///
  /// - Parameters:
  ///   - sign: what it has, as the end of "config.json names no architecture, and …".
  ///   - architecture: one of the family, to be stated where the model is of it.
  /// - Throws: `Refusal` with rule `family-architecture`.
  func refuseUnnamed(where isOther: Bool, _ sign: String, architecture: String) throws {
    guard isPresent, isOther, value("architectures") == nil else { return }
    throw Refusal(
      "family-architecture", "config.json names no architecture, and \(sign): it may be of another family", file: file,
      remedy: "if the model is one, add \"architectures\": [\"\(architecture)\"] to config.json; "
        + Families.withoutGraph)
  }
}

extension FamilyFacts {
  /// True when an architecture has this family's graph, with whatever heads: `LlamaModel`,
  /// `LlamaForCausalLM`, but not `LlamaBiModel`.
  fileprivate func knows(architecture name: String) -> Bool {
    architectures.contains { base in
      guard name.lowercased().hasPrefix(base.lowercased()) else { return false }
      let rest = name.dropFirst(base.count)
      return ["Model", "PreTrainedModel"].contains(rest)
        || ["For", "LMHead", "DoubleHeads"].contains(where: rest.hasPrefix)
    }
  }
}
