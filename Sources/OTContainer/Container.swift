import OTFoundation
import OTJSON

/// An open `.otq` file whose header, table, metadata and index have been checked.
///
/// Data are checked when they are read: the checksum of every extent, frames,
/// and that every code is one that its scheme has.
package struct Container: Sendable {
  /// The mapped file.
  package let file: MappedFile
  /// Members of the metadata, `tensors` and `attachments` among them.
  package let metadata: JSONValue
  /// Tensors in the order of the file; names are unique.
  package let tensors: [StoredTensor]
  /// Names of the attached files.
  package let attachmentNames: [String]
  let extents: [Extent]
  private let positions: [String: Int]
  let attachments: [String: Range<Int>]

  /// Opens and checks a file.
  ///
  /// - Throws: `Refusal` with a rule `otq-…`, `json-…` or `file-…`.
  package init(path: String) throws {
    guard !path.hasSuffix(".partial") else {
      throw Refusal(
        "otq-partial", "is the unfinished output of an interrupted run", file: path,
        remedy: "convert again, then remove this file")
    }
    try self.init(MappedFile(path: path))
  }

  /// Checks a mapped file.
  ///
  /// - Throws: as `init(path:)`.
  package init(_ file: MappedFile) throws {
    let header = try ContainerHeader(file)
    let table = try ExtentTable(file, header: header)
    self.file = file
    extents = table.extents
    let section = header.metadata
    guard section.storedByteCount > 0, header.metadataDecodedByteCount <= ContainerFormat.maximumMetadataByteCount,
      Extent.isPossible(
        header.metadataCodec, stored: section.storedByteCount, decoded: header.metadataDecodedByteCount)
    else { throw Refusal("otq-metadata", "metadata has a wrong size", file: file.path, byteOffset: 48) }
    let extent = Extent(
      byteOffset: section.byteOffset, storedByteCount: section.storedByteCount,
      decodedByteCount: header.metadataDecodedByteCount, codec: header.metadataCodec, checksum: section.checksum)
    let text = try Container.bytes(of: extent, in: file, name: "metadata")
    metadata = try text.withUnsafeBytes {
      try JSONValue.parse(
        $0, limits: JSONLimits(byteCount: ContainerFormat.maximumMetadataByteCount, depth: 64), file: file.path)
    }
    guard let entries = metadata["tensors"]?.array else {
      throw Refusal("otq-metadata", "metadata has no list of tensors", file: file.path)
    }
    tensors = try entries.map { try StoredTensor(json: $0, extents: table.extents, file: file.path) }
    var positions: [String: Int] = [:]
    for (index, tensor) in tensors.enumerated() {
      guard positions.updateValue(index, forKey: tensor.name) == nil else {
        throw Refusal(
          "otq-duplicate-name", "two tensors have this name, or look as if they had", file: file.path,
          tensor: tensor.name)
      }
    }
    self.positions = positions
    for tensor in tensors {
      guard case .alias(let name) = tensor.content else { continue }
      // An alias of an alias could close a circle.
      guard let position = positions[name], tensors[position].name.hasSameBytes(as: name),
        let target = Optional(entries[position]), target["alias"] == nil,
        target["shape"] == .array(tensor.shape.dimensions.map { .integer($0) })
      else {
        throw Refusal(
          "otq-alias", "stands for '\(name)', which is missing, an alias or of another shape", file: file.path,
          tensor: tensor.name)
      }
    }
    let attached = try Container.attachments(metadata, extents: table.extents, file: file.path)
    attachments = Dictionary(uniqueKeysWithValues: attached)
    attachmentNames = attached.map(\.0)
    try Container.checkUse(of: extents, by: tensors, and: attached.map(\.1), file: file.path)
    for tensor in tensors {
      guard let source = tensor.source, let stored = self[tensor.name] else { continue }
      guard stored.content.canBeMade(of: source.elementType) else {
        throw Refusal(
          "otq-source", "cannot have been made of elements \(source.elementType.rawValue)", file: file.path,
          tensor: tensor.name)
      }
    }
  }

  /// The tensor of that name, aliases followed; nil when there is none.
  package subscript(name: String) -> StoredTensor? {
    guard let tensor = positions[name].map({ tensors[$0] }), tensor.name.hasSameBytes(as: name) else { return nil }
    guard case .alias(let target) = tensor.content else { return tensor }
    return positions[target].map { tensors[$0] }
  }

  /// The bytes of an attached file; nil when there is none of that name.
  ///
  /// - Throws: `Refusal` with rule `otq-checksum`, `otq-frame` or `otq-frame-data`.
  package func attachment(_ name: String) throws -> [UInt8]? {
    try attachments[name].map { try bytes(of: $0, name: name) }
  }

  /// Bytes that a tensor takes in the file, padding left out.
  package func storedByteCount(of tensor: StoredTensor) -> Int {
    tensor.planes.values.reduce(0) { $0 + extents[$1.extents].reduce(0) { $0 + $1.storedByteCount } }
  }
}

// MARK: - Extents

extension Container {
  func bytes(of range: Range<Int>, name: String) throws -> [UInt8] {
    // Grown as extents decode, never by what the table merely claims.
    var result: [UInt8] = []
    for extent in extents[range] { result += try Container.bytes(of: extent, in: file, name: name) }
    return result
  }

  static func bytes(of extent: Extent, in file: MappedFile, name: String) throws -> [UInt8] {
    let stored = try storedBytes(of: extent, in: file, name: name)
    guard extent.codec == .zstd else { return Array(stored) }
    return try [UInt8](unsafeUninitializedCapacity: extent.decodedByteCount) { buffer, count in
      try decode(
        stored, of: extent, in: file,
        into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: extent.decodedByteCount))
      count = extent.decodedByteCount
    }
  }

  /// An extent's bytes in the mapped file, once their checksum is right.
  static func storedBytes(of extent: Extent, in file: MappedFile, name: String) throws -> UnsafeRawBufferPointer {
    let stored = file.bytes(in: extent.byteOffset..<extent.end)
    guard Checksum.crc32(stored) == extent.checksum else {
      throw Refusal(
        "otq-checksum", "\(name) is damaged: its checksum differs", file: file.path, byteOffset: extent.byteOffset,
        remedy: "copy or convert the file again")
    }
    return stored
  }

  /// Decodes an extent of codec zstd into `target`, which is of its decoded size.
  static func decode(
    _ stored: UnsafeRawBufferPointer, of extent: Extent, in file: MappedFile,
    into target: UnsafeMutableRawBufferPointer
  ) throws {
    do {
      try ZstdCodec.checkHeader(stored, decodedByteCount: extent.decodedByteCount)
      try ZstdCodec.decode(stored, into: target)
    } catch var refusal as Refusal {
      refusal.file = file.path
      refusal.byteOffset = extent.byteOffset
      throw refusal
    }
  }
}
