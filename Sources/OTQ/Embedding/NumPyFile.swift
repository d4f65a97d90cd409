import OTFoundation

/// A matrix of float32 in a file as NumPy's `load` reads it, format 1.0, rows one after the other.
package enum NumPyFile {
  /// Writes `rows`, all of one length, to a file that appears whole or not at all.
  ///
  /// - Parameters:
  ///   - force: whether an existing file is replaced.
  ///   - inputs: files that must not be overwritten.
  /// - Throws: `Refusal` with a rule `output-…`.
  package static func write(_ rows: [[Float]], to path: String, force: Bool, inputs: [FileIdentity]) throws {
    let file = try AtomicFile(path: path, force: force, inputs: inputs)
    try file.append(header(rowCount: rows.count, columnCount: rows.first?.count ?? 0))
    // The machines that this runs on are little-endian, as the header says.
    for row in rows { try row.withUnsafeBytes { try file.append($0) } }
    try file.commit()
  }

  /// The magic, the version, the count of bytes behind it, and a literal of Python that ends with a line and at a
  /// multiple of 64 bytes.
  private static func header(rowCount: Int, columnCount: Int) -> [UInt8] {
    var text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rowCount), \(columnCount)), }"
    let prefixCount = 10
    text += String(repeating: " ", count: 63 - (prefixCount + text.utf8.count) % 64) + "\n"
    let count = text.utf8.count
    return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(count & 0xFF), UInt8(count >> 8)] + Array(text.utf8)
  }
}
