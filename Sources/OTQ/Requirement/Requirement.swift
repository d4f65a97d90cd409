import OTFoundation

/// A limit that a converted file has to hold before it appears: `kl<=0.02`.
package struct Requirement: Sendable, Hashable {
  /// A figure of a packed file beside its source.
  package enum Figure: Sendable, Hashable {
    /// Perplexity, divided by the source's.
    case perplexityRatio
    /// Mean KL(source ‖ packed) of the next token or, of a classifier, of the class, in nats.
    case divergence
    /// The KL that 99 % of the tokens do not exceed.
    case divergence99
    /// The greatest KL.
    case greatestDivergence
    /// The share of tokens at which both find the same one likeliest.
    case agreement
    /// The least mean cosine of the vectors of an output that is no such scores.
    case cosine
    /// The main figure of a task, as the task gives it: a share, or a correlation.
    case accuracy(QuestionFile)
    /// What the main figure of a task loses against the source, in hundredths of it.
    case accuracyDrop(QuestionFile)

    /// The figures of outputs on text, by name, and whether a limit is the most that they may be.
    static let ofText: [(name: String, figure: Figure)] = [
      ("perplexity-ratio", .perplexityRatio), ("kl", .divergence), ("kl-99", .divergence99),
      ("kl-max", .greatestDivergence), ("agreement", .agreement), ("cosine", .cosine),
    ]

    /// True where less is better.
    var isAtMost: Bool {
      switch self {
      case .perplexityRatio, .divergence, .divergence99, .greatestDivergence, .accuracyDrop: true
      case .agreement, .cosine, .accuracy: false
      }
    }
  }

  /// The figure.
  package let figure: Figure
  /// The greatest value that holds, or the least where more is better.
  package let bound: Double
  /// As it was written, without spaces.
  package let text: String

  /// The requirement of `FIGURE<=N` or `FIGURE>=N`.
  ///
  /// - Throws: `Refusal` with rule `require-form`.
  package init(_ text: String) throws(Refusal) {
    let text = text.filter { !$0.isWhitespace || text.contains("(") }
    guard let mark = text.lastRange(of: "<=") ?? text.lastRange(of: ">="),
      let bound = Double(text[mark.upperBound...].filter { !$0.isWhitespace }), bound.isFinite
    else {
      throw Refusal("require-form", "'\(text)' is not FIGURE<=N or FIGURE>=N", remedy: Requirement.examples)
    }
    var name = String(text[..<mark.lowerBound])
    while name.last?.isWhitespace == true { name.removeLast() }
    guard let figure = Requirement.figure(name) else {
      throw Refusal("require-form", "'\(name)' is no figure that can be required", remedy: Requirement.examples)
    }
    guard figure.isAtMost == (text[mark] == "<=") else {
      throw Refusal(
        "require-form", "'\(text)' would be held by the worst files",
        remedy: "\(name) is better the \(figure.isAtMost ? "less" : "more") it is: turn the sign round")
    }
    (self.figure, self.bound) = (figure, bound)
    self.text = "\(name)\(text[mark])\(text[mark.upperBound...].filter { !$0.isWhitespace })"
  }

  /// The names of all figures, for help.
  package static let figures =
    Figure.ofText.map(\.name).joined(separator: ", ") + ", accuracy(FILE), accuracy-drop(FILE)"

  private static let examples = "such as 'kl<=0.02'; the figures are \(figures)"

  private static func figure(_ name: String) -> Figure? {
    if let figure = Figure.ofText.first(where: { $0.name == name })?.figure { return figure }
    guard name.hasSuffix(")"), let open = name.firstIndex(of: "(") else { return nil }
    let inner = String(name[name.index(after: open)...].dropLast())
    guard !inner.isEmpty else { return nil }
    switch name[..<open] {
    case "accuracy": return .accuracy(QuestionFile(inner))
    case "accuracy-drop": return .accuracyDrop(QuestionFile(inner))
    default: return nil
    }
  }

  /// The task that the figure is of; nil for the figures of outputs on text.
  package var data: QuestionFile? {
    switch figure {
    case .accuracy(let data), .accuracyDrop(let data): data
    case .perplexityRatio, .divergence, .divergence99, .greatestDivergence, .agreement, .cosine: nil
    }
  }

  /// True when a value is within the limit; NaN is not.
  package func holds(_ value: Double) -> Bool { figure.isAtMost ? value <= bound : value >= bound }
}

extension String {
  /// The last place of a text of two characters.
  fileprivate func lastRange(of mark: String) -> Range<Index>? {
    var end = endIndex
    while let start = index(end, offsetBy: -mark.count, limitedBy: startIndex) {
      if self[start..<end] == mark { return start..<end }
      end = index(before: end)
    }
    return nil
  }
}
