extension JSONValue {
  /// The value as JSON text: no white space between tokens, or indented by two
  /// spaces when `pretty`. Members keep their order; doubles are written in
  /// the fewest digits that read back exactly.
  public func text(pretty: Bool = false) -> String { "" }
}
