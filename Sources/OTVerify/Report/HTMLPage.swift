/// One page to look at: no script, nothing from the network, light or dark as the reader's system is.
package protocol HTMLPage {
  /// The page's title, as text.
  var title: String { get }
  /// What stands above all sections.
  var header: Markup { get }
  /// The sections, in order; empty ones are left out.
  var sections: [Markup] { get }
  /// What stands below all sections.
  var footer: Markup { get }
}

extension HTMLPage {
  /// The whole page.
  package var text: String {
    let head = Markup.element(
      "head", [:],
      .lines([
        .void("meta", ["charset": "utf-8"]),
        .void("meta", ["name": "viewport", "content": "width=device-width, initial-scale=1"]),
        .void("meta", ["name": "color-scheme", "content": "light dark"]),
        .void(
          "meta",
          ["http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"]),
        .element("title", [:], Markup(title)), .style(Self.style),
      ]))
    let body = Markup.element("body", [:], .lines([header, .element("main", [:], .lines(sections)), footer]))
    return "<!DOCTYPE html>\n" + Markup.element("html", ["lang": "en"], .lines([head, body])).text + "\n"
  }

  // MARK: Parts

  /// The head of a page: the command, a title with a mark beside it, and a line of facts.
  package func head(command: String, title: String, mark: Markup = .empty, line: String) -> Markup {
    .element(
      "header", [:],
      .lines([
        .element("p", ["class": "eyebrow"], Markup(command)),
        .element("div", ["class": "title"], .element("h1", [:], Markup(title)), mark),
        .element("p", ["class": "line"], Markup(line)),
      ]))
  }

  /// A section with a heading and a sentence on what it shows.
  package func section(_ id: String, _ title: String, _ introduction: String, _ content: Markup...) -> Markup {
    .element(
      "section", ["id": id],
      .lines(
        [.element("h2", [:], Markup(title)), .element("p", ["class": "intro"], Markup(introduction))] + content))
  }

  /// A table that scrolls by itself where it is wider than the page.
  package func table(_ caption: String, _ columns: [(title: String, isNumber: Bool)], _ rows: [[Markup]]) -> Markup {
    let head = columns.map {
      Markup.element("th", ["scope": "col", "class": $0.isNumber ? "number" : "name"], Markup($0.title))
    }
    let body = rows.map { cells in
      Markup.element("tr", [:], cells)
    }
    return .element(
      "div", ["class": "scroll", "tabindex": "0", "role": "region", "aria-label": caption],
      .element(
        "table", [:],
        .lines([
          .element("caption", [:], Markup(caption)), .element("thead", [:], .element("tr", [:], head)),
          .element("tbody", [:], .lines(body)),
        ])))
  }

  /// What is folded below a line.
  package func fold(_ summary: Markup, isOpen: Bool = false, _ content: Markup...) -> Markup {
    let parts = [Markup.element("summary", [:], summary)] + content
    return isOpen ? .element("details", ["open": ""], parts) : .element("details", [:], parts)
  }

  /// A cell of text.
  package func cell(_ text: String) -> Markup { .element("td", [:], Markup(text)) }
  /// A cell of a number.
  package func number(_ text: String) -> Markup { .element("td", ["class": "number"], Markup(text)) }
  /// The cell that names a row.
  package func name(_ text: String) -> Markup { .element("th", ["scope": "row"], Markup(text)) }
  /// The cell that names a row, and leads to a place of the page.
  ///
  /// - Parameter id: the cell's own place; nil: none.
  package func name(_ text: String, to place: String?, id: String? = nil) -> Markup {
    let content = place.map { Markup.element("a", ["href": "#\($0)"], Markup(text)) } ?? Markup(text)
    return id.map { .element("th", ["scope": "row", "id": $0], content) } ?? .element("th", ["scope": "row"], content)
  }
}
