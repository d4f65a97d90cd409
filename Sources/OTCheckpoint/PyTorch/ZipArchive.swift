import OTFoundation

/// The records of a ZIP file as PyTorch writes it: stored, in one folder.
///
/// Only the central directory is believed; local headers must agree with it.
/// Nothing is ever decompressed.
struct ZipArchive {
  /// One stored file of the archive.
  struct Record: Sendable {
    /// Name inside the archive's one folder: `data/0`.
    let name: String
    /// The content's bytes in the file.
    let range: Range<Int>
    /// CRC-32 of the content as the directory states it; 0 where none was computed.
    let checksum: UInt32
  }

  let file: MappedFile
  /// In the order of the central directory.
  let records: [Record]
  private let indices: [String: Int]

  /// More entries than any checkpoint has.
  static let maximumRecordCount = 1_000_000
  /// Longest name of an entry, in bytes.
  static let maximumNameByteCount = 4096

  /// - Throws: `Refusal` with a rule `zip-…`.
  init(_ file: MappedFile) throws {
    self.file = file
    let entries = try ZipDirectory(file).entries()
    var records: [Record] = []
    var indices: [String: Int] = [:]
    var folder: Substring?
    for entry in entries {
      let (top, name) = try ZipArchive.split(entry, file: file)
      guard folder?.hasSameBytes(as: top) ?? true else {
        throw Refusal(
          "zip-folder", "has entries in two top folders, '\(folder ?? "")' and '\(top)'",
          file: file.path, byteOffset: entry.headerOffset)
      }
      folder = top
      guard let name else { continue }
      guard indices.updateValue(records.count, forKey: name) == nil else {
        throw Refusal(
          "zip-duplicate-record", "has two records named '\(name)'", file: file.path,
          byteOffset: entry.headerOffset)
      }
      records.append(Record(name: name, range: entry.range, checksum: entry.checksum))
    }
    self.records = records
    self.indices = indices
  }

  subscript(name: String) -> Record? {
    indices[name].map { records[$0] }.flatMap { $0.name.hasSameBytes(as: name) ? $0 : nil }
  }

  /// The archive's folder, and the name inside it; nil for the folder itself.
  private static func split(
    _ entry: ZipDirectory.Entry, file: MappedFile
  ) throws -> (folder: Substring, name: String?) {
    func refuse(_ what: String) -> Refusal {
      Refusal(
        "zip-name", "has an entry named '\(entry.name)', \(what)", file: file.path,
        byteOffset: entry.headerOffset)
    }
    if entry.name.unicodeScalars.contains(where: {
      PrintableName.isControl($0) || $0 == "\\"
    }) {
      throw refuse("with a control character or backslash")
    }
    var parts = entry.name.split(separator: "/", omittingEmptySubsequences: false)
    let isFolder = parts.last == "" && parts.count > 1
    if isFolder {
      parts.removeLast()
      if !entry.range.isEmpty { throw refuse("a folder with content") }
    }
    if parts.contains("") || parts.contains("..") || parts.contains(".") {
      throw refuse("which is not a plain relative path")
    }
    guard let folder = parts.first, isFolder || parts.count > 1 else {
      throw refuse("outside the archive's folder")
    }
    return (folder, isFolder ? nil : parts.dropFirst().joined(separator: "/"))
  }
}
