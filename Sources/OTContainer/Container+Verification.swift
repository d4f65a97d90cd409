import OTFoundation
import OTJSON

// What is checked beyond single entries.
extension Container {
  /// Checks all data: every checksum and frame, and that codes, scales and
  /// zero points are what their scheme allows.
  ///
  /// - Parameters:
  ///   - share: the tensors that are checked, with attachments where it is the last; nil: all.
  ///   - progress: is told of bytes in the file, several times a second; what it throws ends the check.
  /// - Throws: a `Refusal`, the same one for every number of threads.
  package func verify(
    threadCount: Int, share: WorkShare? = nil,
    progress: ((_ doneByteCount: Int, _ byteCount: Int) throws -> Void)? = nil
  ) throws {
    let byteCount = extents.reduce(0) { $0 + $1.storedByteCount }
    var doneByteCount = 0
    // A few chunks at a time, so that whoever waits can end it within a tensor, too.
    func inParts(_ run: Range<Int>, _ check: @Sendable (Int) throws -> Void) throws {
      for first in stride(from: run.lowerBound, to: run.upperBound, by: 8 * threadCount) {
        let part = first..<min(first + 8 * threadCount, run.upperBound)
        try progress?(doneByteCount, byteCount)
        _ = try mapBlocks(part.count, threadCount: threadCount) { index in
          try check(part.lowerBound + index)
          release(part.lowerBound + index)
        }
        doneByteCount += extents[part].reduce(0) { $0 + $1.storedByteCount }
      }
    }
    func verify(_ run: Range<Int>, _ name: String) throws {
      try inParts(run) { _ = try Container.bytes(of: extents[$0], in: file, name: name) }
    }
    let range =
      share?.range(of: tensors.map(storedByteCount(of:)))
      ?? tensors.indices
    for tensor in tensors[range] {
      guard case .quantized(_, _, let rowTilesPerChunk) = tensor.content else {
        for plane in tensor.planes.values { try verify(plane.extents, "tensor '\(tensor.name)'") }
        continue
      }
      _ = try scales(of: tensor)
      _ = try zeroPoints(of: tensor)
      guard let chunks = tensor.planes["codes"]?.extents else { continue }
      try inParts(chunks) { chunk in
        let first = (chunk - chunks.lowerBound) * rowTilesPerChunk
        _ = try codes(
          of: tensor, rowTiles: first..<min(first + rowTilesPerChunk, tensor.layout.rowTileCount))
      }
    }
    for name in share?.isLast ?? true ? attachmentNames : [] {
      if let run = attachments[name] { try verify(run, name) }
    }
    try progress?(byteCount, byteCount)
  }

  private func release(_ index: Int) {
    file.release(extents[index].byteOffset..<extents[index].end)
  }

  /// Checks the data of the extent that holds the byte at `byteOffset`, as `verify` does.
  ///
  /// - Returns: false where no extent holds it: it is of the header, the table, the metadata or padding, which opening
  ///   checks.
  /// - Throws: as `verify`.
  package func verify(byteAt byteOffset: Int) throws -> Bool {
    var (low, high) = (0, extents.count)
    while low < high {
      let middle = (low + high) / 2
      if extents[middle].end <= byteOffset { low = middle + 1 } else { high = middle }
    }
    guard low < extents.count, extents[low].byteOffset <= byteOffset else { return false }
    for tensor in tensors {
      for (plane, content) in tensor.planes where content.extents.contains(low) {
        guard case .quantized(_, _, let rowTilesPerChunk) = tensor.content else { break }
        switch plane {
        case "codes":
          let first = (low - content.extents.lowerBound) * rowTilesPerChunk
          _ = try codes(of: tensor, rowTiles: first..<min(first + rowTilesPerChunk, tensor.layout.rowTileCount))
        case "scales": _ = try scales(of: tensor)
        default: _ = try zeroPoints(of: tensor)
        }
        return true
      }
    }
    _ = try Container.bytes(of: extents[low], in: file, name: "extent \(low)")
    return true
  }

  /// The runs of the attachments, in the order of the metadata.
  ///
  /// - Throws: `Refusal` with rule `otq-attachment`.
  static func attachments(
    _ metadata: JSONValue, extents: [Extent], file: String
  ) throws -> [(String, Range<Int>)] {
    func refuse(_ message: String) -> Refusal { Refusal("otq-attachment", message, file: file) }
    guard let entries = metadata["attachments"]?.array else { throw refuse("metadata has no list of attachments") }
    var names = Set<String>()
    return try entries.map { entry in
      let name = entry["name"]?.string ?? ""
      if let fault = PrintableName.fault(of: name) { throw refuse("an attachment's name \(fault)") }
      // A program that extracts attachments makes paths below a folder of these names.
      let parts = name.split(separator: "/", omittingEmptySubsequences: false)
      guard !name.contains("\\"), !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
        throw refuse("attachment '\(name)' is not a plain relative path")
      }
      guard names.insert(name).inserted else { throw refuse("two attachments are named '\(name)'") }
      guard let run = StoredTensor.run(entry["extents"], of: extents) else {
        throw refuse("attachment '\(name)' names extents that do not exist")
      }
      guard entry["byteCount"]?.integer == extents.decodedByteCount(run) else {
        throw refuse("attachment '\(name)' has another size than its extents")
      }
      return (name, run)
    }
  }

  /// Checks that every extent belongs to one plane or attachment, and only one.
  ///
  /// - Throws: `Refusal` with rule `otq-extent-use`.
  static func checkUse(
    of extents: [Extent], by tensors: [StoredTensor], and attachments: [Range<Int>], file: String
  ) throws {
    func refuse(_ index: Int, _ message: String) -> Refusal {
      Refusal("otq-extent-use", "extent \(index) \(message)", file: file, byteOffset: extents[index].byteOffset)
    }
    let runs = (tensors.flatMap { $0.planes.values.map(\.extents) } + attachments).filter { !$0.isEmpty }
    var end = 0
    for run in runs.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      guard run.lowerBound >= end else { throw refuse(run.lowerBound, "is used twice") }
      guard run.lowerBound == end else { throw refuse(end, "is used by nothing") }
      end = run.upperBound
    }
    guard end == extents.count else { throw refuse(end, "is used by nothing") }
  }
}

extension [Extent] {
  /// Bytes that a run of extents decodes to; nil when they do not fit in Int.
  func decodedByteCount(_ run: Range<Int>) -> Int? {
    self[run].reduce(0 as Int?) { $0?.addingChecked($1.decodedByteCount) }
  }
}
