import OTFoundation
import OTJSON
import OTTensor

/// Writes an `.otq` file, chunk after chunk, holding none of them.
///
/// The file appears whole under its name with `commit`, or not at all: see
/// `AtomicFile`. The bytes depend only on what is appended.
package final class ContainerWriter {
  /// Encodes what is appended; also for use on other threads.
  package let encoder: ChunkEncoder
  private let file: AtomicFile
  private let work: ResumableWork?
  /// The first extent that no row of the work's journal has.
  private var firstUnkept = 0
  private var extents: [Extent] = []
  private var tensors: [StoredTensor] = []
  private var attachments: [JSONValue] = []

  /// Begins a file beside `path`.
  ///
  /// - Parameter inputs: files that must not be overwritten, `force` or not.
  /// - Throws: `Refusal` with a rule `output-…`.
  package convenience init(
    path: String, force: Bool = false, inputs: [FileIdentity] = [], compression: Compression = .standard
  ) throws {
    try self.init(path: path, force: force, inputs: inputs, encoder: ChunkEncoder(compression))
  }

  /// Begins a file beside `path` whose chunks come from `encoder`.
  ///
  /// - Parameter work: keeps what was written, so that `adopt` can go on with it.
  /// - Throws: `Refusal` with a rule `output-…`.
  package init(
    path: String, force: Bool, inputs: [FileIdentity], encoder: ChunkEncoder, work: ResumableWork? = nil
  ) throws {
    self.encoder = encoder
    self.work = work
    file = try AtomicFile(path: path, force: force, inputs: inputs, keptAs: work?.name(ResumableWork.outputName))
    try file.append([UInt8](repeating: 0, count: ContainerFormat.headerByteCount))
  }

  /// Bytes written so far.
  package var byteCount: Int { file.byteCount }
  /// Extents written so far: the first one of what comes next.
  package var extentCount: Int { extents.count }

  /// Writes a chunk behind all others; one without bytes leaves no extent.
  ///
  /// - Throws: `Refusal` with rule `output-write-failed`, or `otq-row-too-long`
  ///   for rows whose chunk no reader accepts.
  package func append(_ chunk: EncodedChunk) throws {
    guard chunk.decodedByteCount > 0 else { return }
    guard chunk.decodedByteCount <= ContainerFormat.maximumDecodedByteCount else {
      throw Refusal(
        "otq-row-too-long", "a chunk of \(chunk.decodedByteCount) bytes is more than the format has", file: file.path)
    }
    try pad()
    extents.append(
      Extent(
        byteOffset: file.byteCount, storedByteCount: chunk.bytes.count,
        decodedByteCount: chunk.decodedByteCount, codec: chunk.codec, checksum: chunk.checksum))
    try file.append(chunk.bytes)
  }

  /// Encodes and writes bytes as one or more chunks; returns their extents.
  ///
  /// - Throws: `Refusal` with rule `output-write-failed` or `zstd-failed`.
  package func append(plane bytes: UnsafeRawBufferPointer) throws -> Range<Int> {
    let first = extents.count
    for chunk in try encoder.encode(plane: bytes) { try append(chunk) }
    return first..<extents.count
  }

  /// Adds a quantized weight whose codes lie in extents `codes`, in chunks of
  /// `ChunkEncoder.rowTilesPerChunk` row tiles.
  ///
  /// - Throws: `Refusal` with rule `output-write-failed` or `zstd-failed`.
  package func addQuantized(
    name: String, shape: Shape, scheme: QuantizationScheme, codes: Range<Int>, scales: [Float],
    zeroPoints: [UInt8], rounding: RoundingKind = .nearest, source: StoredTensor.Source?, error: QuantizationError?
  ) throws {
    let layout = TileLayout(rowCount: shape.rowCount, columnCount: shape.rowElementCount)
    precondition(
      scales.count == scheme.scaleCount(rowCount: layout.rowCount, columnCount: layout.columnCount)
        && zeroPoints.count == (scheme.isSymmetric ? 0 : scales.count))
    var planes = ["codes": StoredTensor.Plane(extents: codes)]
    planes["scales"] = .init(extents: try scales.map { $0.bitPattern.littleEndian }.withUnsafeBytes(append(plane:)))
    if !scheme.isSymmetric {
      planes["zeroPoints"] = .init(extents: try zeroPoints.withUnsafeBytes(append(plane:)))
    }
    tensors.append(
      StoredTensor(
        name: name, shape: shape,
        content: .quantized(
          scheme, form: encoder.codeForm, rowTilesPerChunk: ChunkEncoder.rowTilesPerChunk(layout)),
        source: source, rounding: rounding, error: error, planes: planes))
  }

  /// Adds a tensor stored as it is, whose bytes lie in extents `values`.
  package func addPlain(
    name: String, shape: Shape, elementType: ElementType, values: Range<Int>, source: StoredTensor.Source?
  ) {
    tensors.append(
      StoredTensor(
        name: name, shape: shape, content: .plain(elementType), source: source, error: nil,
        planes: ["values": .init(extents: values)]))
  }

  /// Adds a name for a tensor that is in the file under another.
  package func addAlias(name: String, of target: String, shape: Shape, source: StoredTensor.Source?) {
    tensors.append(
      StoredTensor(
        name: name, shape: shape, content: .alias(of: target), source: source, error: nil, planes: [:]))
  }

  /// Adds a file, byte for byte.
  ///
  /// - Throws: `Refusal` with rule `output-write-failed` or `zstd-failed`.
  package func addAttachment(name: String, _ bytes: UnsafeRawBufferPointer) throws {
    addAttachment(name: name, byteCount: bytes.count, try append(plane: bytes))
  }

  private func addAttachment(name: String, byteCount: Int, _ extents: Range<Int>) {
    attachments.append(
      .object([
        "name": .string(name), "byteCount": .integer(byteCount),
        "extents": .array([.integer(extents.lowerBound), .integer(extents.count)]),
      ]))
  }

  // MARK: Going on

  private static let step = "written"

  /// Adds the tensors that an earlier writer of the work has written, in their order, as far as they are on the disk.
  ///
  /// To be called when all that stands before the tensors has been written again.
  /// - Parameter names: of all tensors.
  /// - Returns: the rows with which they were kept.
  /// - Throws: `Refusal` with rule `output-write-failed` or `output-sync-failed`.
  package func adopt(_ names: [String]) throws -> [JSONObject] {
    guard let work else { return [] }
    // All names of the work's files are there from now on.
    try FileSystem.synchronize(work.folder)
    var adopted: [JSONObject] = []
    if let kept = try? MappedFile(path: work.path(ResumableWork.outputName)) {
      for (row, name) in zip(work.rows(Self.step), names) {
        guard adopt(row, named: name, from: kept) else { break }
        adopted.append(row)
      }
    }
    try file.truncate(to: file.byteCount)
    firstUnkept = extents.count
    return adopted
  }

  private func adopt(_ row: JSONObject, named name: String, from kept: MappedFile) -> Bool {
    let count = extents.count
    guard let entries = row["extents"]?.string.flatMap(Base64.decode),
      entries.count % ContainerFormat.extentEntryByteCount == 0, let end = row["end"]?.integer, end <= kept.byteCount
    else { return false }
    var next = file.byteCount
    for start in stride(from: 0, to: entries.count, by: ContainerFormat.extentEntryByteCount) {
      let extent = entries.withUnsafeBytes { Extent($0, at: start) }
      guard let extent, extent.byteOffset == next.roundedUp(toMultipleOf: ContainerFormat.alignment),
        extent.storedByteCount >= 0, let after = extent.byteOffset.addingChecked(extent.storedByteCount), after <= end,
        (try? Container.storedBytes(of: extent, in: kept, name: name)) != nil,
        kept.bytes(in: next..<extent.byteOffset).allSatisfy({ $0 == 0 })
      else {
        extents.removeLast(extents.count - count)
        return false
      }
      extents.append(extent)
      next = after
    }
    guard next == end, let json = row["tensor"],
      let tensor = try? StoredTensor(json: json, extents: extents, file: kept.path), tensor.name == name
    else {
      extents.removeLast(extents.count - count)
      return false
    }
    file.adopt(to: end)
    tensors.append(tensor)
    return true
  }

  /// Keeps the last tensor in the work's journal, once it is on the disk; nothing where there is no journal.
  ///
  /// - Parameter record: what whoever goes on with the next tensor needs beside.
  /// - Throws: `Refusal` with rule `output-sync-failed` or `scratch-unwritable`.
  package func keep(_ record: JSONObject = [:]) throws {
    guard let work, let tensor = tensors.last else { return }
    try file.synchronize()
    var entries: [UInt8] = []
    for extent in extents[firstUnkept...] { extent.append(to: &entries) }
    var row = record
    row["tensor"] = tensor.json
    row["extents"] = .string(Base64.encode(entries))
    row["end"] = .integer(file.byteCount)
    try work.keep(Self.step, tensors.count - 1, row)
    firstUnkept = extents.count
  }

  // MARK: Copying

  /// Adds a tensor as another file holds it, chunk by chunk and byte for byte.
  ///
  /// - Throws: `Refusal` with rule `otq-checksum` for a damaged chunk, or `output-write-failed`.
  package func add(_ tensor: StoredTensor, of container: Container) throws {
    var planes: [String: StoredTensor.Plane] = [:]
    for name in StoredTensor.planeNames {
      guard let plane = tensor.planes[name] else { continue }
      planes[name] = .init(extents: try copy(plane.extents, of: container, name: tensor.name))
    }
    tensors.append(
      StoredTensor(
        name: tensor.name, shape: tensor.shape, content: tensor.content, source: tensor.source,
        rounding: tensor.rounding, error: tensor.error, planes: planes))
  }

  /// Adds the files that another file holds, byte for byte.
  ///
  /// - Throws: as `add(_:of:)`.
  package func addAttachments(of container: Container) throws {
    for name in container.attachmentNames {
      guard let range = container.attachments[name] else { continue }
      let byteCount = container.extents[range].reduce(0) { $0 + $1.decodedByteCount }
      addAttachment(name: name, byteCount: byteCount, try copy(range, of: container, name: name))
    }
  }

  private func copy(_ range: Range<Int>, of container: Container, name: String) throws -> Range<Int> {
    let first = extents.count
    for extent in container.extents[range] {
      let stored = try Container.storedBytes(of: extent, in: container.file, name: name)
      try append(
        EncodedChunk(
          bytes: Array(stored), decodedByteCount: extent.decodedByteCount, codec: extent.codec,
          checksum: extent.checksum))
    }
    return first..<extents.count
  }

  // MARK: The end

  /// Writes index, table and header, and gives the file its name.
  ///
  /// - Parameters:
  ///   - metadata: members of the metadata beside `tensors` and `attachments`.
  ///   - approve: is given the path of the whole file before it has its name, and gives members that are added to
  ///     the metadata; what it throws leaves no file. It must not keep the file open.
  /// - Throws: `Refusal` with a rule `output-…` or `zstd-failed`;
  ///   `otq-duplicate-name` or `otq-metadata` when no reader would accept the file.
  package func commit(metadata: JSONObject, approving approve: ((_ path: String) throws -> JSONObject)? = nil) throws {
    // Also names that only look alike, as the reader does.
    var names = Set<String>()
    for tensor in tensors {
      if let fault = PrintableName.fault(of: tensor.name) {
        throw Refusal("otq-tensor", "a tensor's name \(fault)", file: file.path, tensor: tensor.name)
      }
    }
    for tensor in tensors where !names.insert(tensor.name).inserted {
      throw Refusal("otq-duplicate-name", "two tensors have this name", file: file.path, tensor: tensor.name)
    }
    let dataByteCount = file.byteCount
    try finish(metadata)
    if let approve {
      var metadata = metadata
      for (key, value) in try approve(file.temporaryPath).members { metadata[key] = value }
      try file.truncate(to: dataByteCount)
      try finish(metadata)
    }
    try file.commit { [work] in try work?.willFinish($0) }
    work?.end()
  }

  /// Writes what stands behind the data, and the header.
  private func finish(_ metadata: JSONObject) throws {
    var metadata = metadata
    metadata["attachments"] = .array(attachments)
    metadata["tensors"] = .array(tensors.map(\.json))
    let text = Array(JSONValue.object(metadata).text().utf8)
    guard text.count <= ContainerFormat.maximumMetadataByteCount else {
      throw Refusal("otq-metadata", "metadata of \(text.count) bytes are more than the format has", file: file.path)
    }
    let chunk = try text.withUnsafeBytes { try encoder.encode($0) }
    var header = ContainerHeader()
    try pad()
    header.metadata = .init(
      byteOffset: file.byteCount, storedByteCount: chunk.bytes.count, checksum: chunk.checksum)
    header.metadataDecodedByteCount = chunk.decodedByteCount
    header.metadataCodec = chunk.codec
    try file.append(chunk.bytes)
    try pad()
    var table: [UInt8] = []
    for extent in extents { extent.append(to: &table) }
    header.table = .init(
      byteOffset: file.byteCount, storedByteCount: table.count, checksum: table.withUnsafeBytes { Checksum.crc32($0) })
    try file.append(table)
    header.fileByteCount = file.byteCount
    try header.encoded.withUnsafeBytes { try file.write($0, at: 0) }
  }

  private func pad() throws {
    let end = file.byteCount.roundedUp(toMultipleOf: ContainerFormat.alignment)
    if end > file.byteCount { try file.append([UInt8](repeating: 0, count: end - file.byteCount)) }
  }
}
