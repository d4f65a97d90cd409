import OTFoundation

/// The ZIP container of `torch.save`: `data.pkl`, storages as `data/KEY`,
/// `version`, and since PyTorch 2.1 `byteorder`.
enum PyTorchArchive {
  /// Versions of the container that PyTorch itself reads.
  private static let versions = 1...10
  /// A record at most this long counts as small.
  private static let smallByteCount = 64

  static func contents(
    _ file: MappedFile, verifiesStorages: Bool, threadCount: Int
  ) throws -> PyTorchContents {
    let archive: ZipArchive
    do {
      archive = try ZipArchive(file)
    } catch let refusal as Refusal {
      // Archives of other kinds are compressed, or have files at their top.
      try refuseOtherKinds(ZipDirectory(file).names(), file)
      throw refusal
    }
    try refuseOtherKinds(archive.records.map { "archive/\($0.name)" }, file)
    let pickleRecord = try record("data.pkl", archive)
    let version = try record("version", archive)
    let byteOrder = archive["byteorder"]
    var unchecked = try archive.verifyChecksums(
      of: [pickleRecord, version] + [byteOrder].compactMap { $0 }, threadCount: 1)
    let versionText = text(version, file)
    guard let number = Int(versionText), versions.contains(number) else {
      throw Refusal(
        "pytorch-version", "is of version '\(versionText)'; \(versions) are known", file: file.path,
        byteOffset: version.range.lowerBound)
    }
    let isBigEndian = try byteOrder.map { try self.isBigEndian($0, file) } ?? false

    let pickle = try PickleMachine.read(file, pickleRecord.range, .archive)
    guard pickle.end == pickleRecord.range.upperBound else {
      throw Refusal(
        "pickle-trailing-bytes", "has bytes behind its pickle's STOP", file: file.path,
        byteOffset: pickle.end)
    }
    let records = try pickle.heap.storages.map { storage in
      let record = try record("data/\(storage.key)", archive, from: storage.byteOffset)
      guard record.range.count == storage.byteCount else {
        throw Refusal(
          "pytorch-storage-mismatch",
          "has a record '\(record.name)' of \(record.range.count) bytes where its storage has "
            + "\(storage.byteCount)",
          file: file.path, byteOffset: record.range.lowerBound)
      }
      return record
    }
    if verifiesStorages {
      unchecked += try archive.verifyChecksums(of: records, threadCount: threadCount)
    }
    return PyTorchContents(
      pickle: pickle, storageOffsets: records.map(\.range.lowerBound), isBigEndian: isBigEndian,
      warnings: warnings(unchecked, file))
  }

  /// - Parameter names: of all entries, the archive's folder included.
  /// - Throws: `Refusal` with rule `pytorch-program` or `pytorch-other-format` for an archive that is no checkpoint.
  private static func refuseOtherKinds(_ names: [String], _ file: MappedFile) throws {
    let inner = Set(names.map { String($0[($0.firstIndex(of: "/").map($0.index(after:)) ?? $0.startIndex)...]) })
    let isScript = inner.contains("constants.pkl") || inner.contains { $0.hasPrefix("code/") }
    let isExport = inner.contains("archive_format") || inner.contains("serialized_exported_program.json")
    guard !isScript, !isExport else {
      throw Refusal(
        "pytorch-program",
        "is \(isScript ? "a TorchScript program" : "an exported program (.pt2)"), not a checkpoint", file: file.path,
        remedy: "load it in PyTorch and save its state dict with torch.save")
    }
    // One that is only incomplete is named by what it lacks.
    guard !inner.contains("data.pkl"), !inner.contains("version"), let first = names.first else { return }
    let others = names.count > 1 ? " and \(names.count - 1) other files" : ""
    throw Refusal(
      "pytorch-other-format", "is a ZIP archive of '\(first.prefix(200))'\(others), not a file of torch.save",
      file: file.path, remedy: FileContent.zip.remedy)
  }

  private static func record(
    _ name: String, _ archive: ZipArchive, from byteOffset: Int? = nil
  ) throws -> ZipArchive.Record {
    guard let record = archive[name] else {
      throw Refusal(
        "pytorch-record-missing", "has no record '\(name)'", file: archive.file.path,
        byteOffset: byteOffset,
        remedy: "the file is incomplete or not a checkpoint; fetch it again")
    }
    return record
  }

  /// A small record's text without surrounding white space.
  private static func text(_ record: ZipArchive.Record, _ file: MappedFile) -> String {
    guard record.range.count <= smallByteCount else { return "…" }
    let bytes = file.bytes(in: record.range).filter { !($0 == 0x0A || $0 == 0x0D || $0 == 0x20) }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func isBigEndian(_ record: ZipArchive.Record, _ file: MappedFile) throws -> Bool {
    switch text(record, file) {
    case "little": return false
    case "big": return true
    case let other:
      throw Refusal(
        "pytorch-byteorder", "is of byte order '\(other)', not little or big", file: file.path,
        byteOffset: record.range.lowerBound)
    }
  }

  private static func warnings(_ unchecked: [String], _ file: MappedFile) -> [String] {
    guard let first = unchecked.first else { return [] }
    let others = unchecked.count > 1 ? " and \(unchecked.count - 1) others" : ""
    return [
      "\(file.path): no checksum was written for '\(first)'\(others), so damage would go unnoticed"
    ]
  }
}
