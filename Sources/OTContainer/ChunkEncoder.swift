import OTKernels
import OTTensor

/// The form of a file's bytes: compressed or not.
package enum Compression: Sendable, Hashable {
  /// Codes one to a byte, every chunk a zstd frame of its own where that is smaller.
  case zstd(level: Int)
  /// Codes packed into 4, 6 or 8 bits, in place for the kernels; nothing compressed.
  case none

  /// zstd at the level that conversion uses unless told otherwise.
  package static let standard = Compression.zstd(level: 1)
}

/// Bytes that are ready to be written: the work that many threads can do.
package struct EncodedChunk: Sendable {
  let bytes: [UInt8]
  let decodedByteCount: Int
  let codec: Extent.Codec
  let checksum: UInt32

  /// Bytes that it takes in the file.
  package var byteCount: Int { bytes.count }
}

/// Encodes chunks; usable from many threads at once.
package struct ChunkEncoder: Sendable {
  /// The form of the file's bytes.
  package let compression: Compression
  private let codec: ZstdCodec?

  /// An encoder with contexts of its own.
  package init(_ compression: Compression) {
    self.compression = compression
    if case .zstd(let level) = compression { codec = ZstdCodec(level: level) } else { codec = nil }
  }

  /// The form of quantized values in the file.
  package var codeForm: StoredTensor.CodeForm { codec == nil ? .packed : .bytes }

  /// Encodes bytes that are no codes.
  ///
  /// - Throws: `Refusal` with rule `zstd-failed`.
  package func encode(_ bytes: UnsafeRawBufferPointer) throws -> EncodedChunk {
    if let frame = try codec?.encode(bytes) {
      return EncodedChunk(
        bytes: frame, decodedByteCount: bytes.count, codec: .zstd,
        checksum: frame.withUnsafeBytes { Checksum.crc32($0) })
    }
    return EncodedChunk(
      bytes: Array(bytes), decodedByteCount: bytes.count, codec: .raw, checksum: Checksum.crc32(bytes))
  }

  /// Encodes bytes as one or more chunks.
  ///
  /// - Throws: `Refusal` with rule `zstd-failed`.
  package func encode(plane bytes: UnsafeRawBufferPointer) throws -> [EncodedChunk] {
    try stride(from: 0, to: bytes.count, by: ContainerFormat.chunkByteCount).map { start in
      let end = min(start + ContainerFormat.chunkByteCount, bytes.count)
      return try encode(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
    }
  }

  /// Encodes rows of quantized values, one to a byte, `[row, column]`, in the order of `TileLayout`.
  ///
  /// - Precondition: the first row begins a row tile, and the rows are whole.
  /// - Throws: `Refusal` with rule `zstd-failed`.
  package func encode(rows values: [UInt8], columnCount: Int, bits: Int) throws -> EncodedChunk {
    guard columnCount > 0 else { return try encode(codes: [], bits: bits) }
    let layout = TileLayout(rowCount: values.count / columnCount, columnCount: columnCount)
    return try encode(codes: Kernels.current.interleaved(values, layout), bits: bits)
  }

  /// Encodes whole row tiles of codes, one code to a byte in tile order.
  ///
  /// - Throws: `Refusal` with rule `zstd-failed`.
  package func encode(codes: [UInt8], bits: Int) throws -> EncodedChunk {
    guard codec == nil else { return try codes.withUnsafeBytes { try encode($0) } }
    let packedCount = codes.count / 8 * TileLayout.packedBitWidth(bits: bits)
    let packed = [UInt8](unsafeUninitializedCapacity: packedCount) { buffer, count in
      codes.withUnsafeBufferPointer {
        Kernels.current.pack($0, bits: bits, into: UnsafeMutableBufferPointer(rebasing: buffer[..<packedCount]))
      }
      count = packedCount
    }
    return try packed.withUnsafeBytes { try encode($0) }
  }

  /// Row tiles that a chunk of codes takes: about 256 KiB of codes.
  package static func rowTilesPerChunk(_ layout: TileLayout) -> Int {
    max(1, ContainerFormat.chunkByteCount / max(layout.rowTileByteCount, 1))
  }

  /// Rows of other tensors that a chunk takes.
  package static func rowsPerChunk(rowByteCount: Int) -> Int {
    max(1, ContainerFormat.chunkByteCount / max(rowByteCount, 1))
  }
}
