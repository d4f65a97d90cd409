/// The raw text of WikiText as a text that someone would write, as lm-eval makes it.
enum WikiText {
  /// The articles of the raw file, each from its heading, and the lines that they begin on.
  static func articles(_ text: String) -> [(line: Int, text: String)] {
    var articles: [(line: Int, text: String)] = []
    var (lines, firstLine) = ([Substring](), 1)
    func close() {
      let page = lines.joined(separator: "\n")
      if !HarnessText.strip(page).isEmpty { articles.append((firstLine, page)) }
    }
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let marks = HarnessText.strip(
        HarnessText.replace(HarnessText.replace(String(line), "= = =", "==="), "= =", "=="))
      if marks.hasPrefix("= "), marks.hasSuffix(" =") {
        close()
        (lines, firstLine) = ([], index + 1)
      }
      lines.append(line)
    }
    close()
    return articles
  }

  /// The text without the spaces and marks between its tokens.
  static func detokenized(_ page: String) -> String {
    var text = HarnessText.replace(page, "s '", "s'")
    text = quotedDigits(text)
    for (old, new) in [
      (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" : ", ": "), (" ; ", "; "), (" . ", ". "), (" ! ", "! "),
      (" ? ", "? "), (" , ", ", "),
    ] {
      text = HarnessText.replace(text, old, new)
    }
    let marks: [(Unicode.Scalar, Unicode.Scalar)] = [("(", ")"), ("[", "]"), ("{", "}"), ("\"", "\""), ("'", "'")]
    for (open, close) in marks {
      text = tightened(text, open, close)
    }
    for (old, new) in [
      ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" \u{B0} ", "\u{B0}"), (" \n", "\n"), ("\n ", "\n"),
      (" N ", " 1 "), (" 's", "'s"),
    ] {
      text = HarnessText.replace(text, old, new)
    }
    return text
  }

  /// `re.sub(r"/' [0-9]/", r"/'[0-9]/", text)`, which puts the pattern itself there.
  private static func quotedDigits(_ text: String) -> String {
    (0...9).reduce(text) { HarnessText.replace($0, "/' \($1)/", "/'[0-9]/") }
  }

  /// The text without white space behind each opening mark and before the mark that closes it.
  private static func tightened(_ text: String, _ open: Unicode.Scalar, _ close: Unicode.Scalar) -> String {
    let scalars = Array(text.unicodeScalars)
    var result = String.UnicodeScalarView()
    var index = 0
    // Beyond the last closing mark nothing is searched again and again.
    let last = scalars.lastIndex(of: close) ?? -1
    while index < scalars.count {
      if scalars[index] == open, index < last,
        let end = scalars[(index + 1)...].firstIndex(of: close)
      {
        let inner = String(String.UnicodeScalarView(scalars[(index + 1)..<end]))
        result.append(open)
        result.append(contentsOf: HarnessText.strip(inner).unicodeScalars)
        result.append(close)
        index = end + 1
      } else {
        result.append(scalars[index])
        index += 1
      }
    }
    return String(result)
  }
}
