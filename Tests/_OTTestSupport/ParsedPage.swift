import Foundation

#if canImport(FoundationXML)
  import FoundationXML
#endif

/// What a strict parser of XML finds in a page or another piece of markup.
package final class ParsedPage: NSObject, XMLParserDelegate {
  /// How often each element occurs.
  package private(set) var elements: [String: Int] = [:]
  /// Names of all attributes.
  package private(set) var attributes: Set<String> = []
  /// Values of all attributes.
  package private(set) var attributeValues: [String] = []
  /// The text that follows the start of each element.
  package private(set) var texts: [String] = []
  /// Places of the page, in order.
  package private(set) var ids: [String] = []
  /// Where links lead.
  package private(set) var links: [String] = []
  /// What is wrong; nil: the text is well-formed.
  package private(set) var fault: String?

  /// Parses XML, or a page whose document type stands in its first line.
  package init(_ text: String) {
    super.init()
    let parser = XMLParser(data: Data(text.replacing("<!DOCTYPE html>\n", with: "").utf8))
    parser.delegate = self
    if !parser.parse() {
      fault = "\(parser.parserError.map { "\($0)" } ?? "") line \(parser.lineNumber)"
    }
  }

  /// Links that lead to no place of the page, or to one of two with the same name.
  package var brokenLinks: [String] {
    links.filter { link in !link.hasPrefix("#") || ids.count { $0 == link.dropFirst() } != 1 }
  }

  package func parser(
    _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
    attributes: [String: String]
  ) {
    elements[name, default: 0] += 1
    self.attributes.formUnion(attributes.keys)
    attributeValues += attributes.values
    if let id = attributes["id"] { ids.append(id) }
    if let link = attributes["href"] { links.append(link) }
    texts.append("")
  }

  package func parser(_ parser: XMLParser, foundCharacters string: String) {
    if !texts.isEmpty { texts[texts.count - 1] += string }
  }
}
