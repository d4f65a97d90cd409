/// Turns tokens into text as they come, never giving half a character.
///
/// ```swift
/// var stream = TokenTextStream(tokenizer)
/// for id in ids { print(stream.append(id), terminator: "") }
/// print(stream.finish())
/// ```
///
/// The parts together are what `Tokenizer.decode` gives for all tokens, for
/// tokens that encode a text.
package struct TokenTextStream: Sendable {
  /// Text is held back for at most this many tokens: no character has more
  /// bytes than 4, so that a longer wait is for bytes that form none.
  private static let longestWait = 8
  /// Bytes that follow one another are text only if all of them are; a longer run is given in parts.
  private static let longestRun = 64

  private let tokenizer: Tokenizer
  private let skipSpecialTokens: Bool
  /// Tokens whose text is out, kept because text depends on what precedes it.
  private var context: [Int] = []
  private var pending: [Int] = []

  /// Starts a text, behind tokens whose text is out already.
  package init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = true, after context: some Sequence<Int> = []) {
    self.tokenizer = tokenizer
    self.skipSpecialTokens = skipSpecialTokens
    self.context = context.filter { !(skipSpecialTokens && tokenizer.isSpecial($0)) }
  }

  /// Adds a token; returns the text that it completes, "" if none.
  package mutating func append(_ id: Int) -> String {
    if skipSpecialTokens && tokenizer.isSpecial(id) { return "" }
    pending.append(id)
    if tokenizer.isFallbackByte(id), pending.count < Self.longestRun { return "" }
    let text = newText()
    let isIncomplete = text.isEmpty || text.last == "\u{FFFD}"
    if isIncomplete && pending.count < Self.longestWait { return "" }
    context = pending
    pending = []
    return String(String.UnicodeScalarView(text))
  }

  /// Ends the text; returns what was held back.
  package mutating func finish() -> String {
    defer { (context, pending) = ([], []) }
    return String(String.UnicodeScalarView(newText()))
  }

  /// The text of the pending tokens, behind that of the context.
  private func newText() -> [Unicode.Scalar] {
    let before = scalars(context)
    let whole = scalars(context + pending)
    // A byte that breaks the bytes before it changes their text, which is out.
    return whole.starts(with: before) ? Array(whole.dropFirst(before.count)) : scalars(pending)
  }

  private func scalars(_ ids: [Int]) -> [Unicode.Scalar] {
    Array(tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens).unicodeScalars)
  }
}
