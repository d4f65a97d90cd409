import OTFoundation
import OTKernels
import OTTensor

/// The codes of a tensor as the kernels read them: in the mapped file where
/// they lie packed, else in memory.
package final class PackedCodes: @unchecked Sendable {
  /// Packed row tiles, one behind the other; valid as long as this object lives.
  package let bytes: UnsafeRawBufferPointer
  /// The owner of the bytes: a `MappedFile` or `PageMemory`.
  private let owner: AnyObject

  /// True when they are in the mapped file.
  package var isInPlace: Bool { owner is MappedFile }

  fileprivate init(_ bytes: UnsafeRawBufferPointer, in owner: AnyObject) {
    self.bytes = bytes
    self.owner = owner
  }

  /// Codes in memory, packed from one code to a byte in the order of `TileLayout`.
  ///
  /// - Throws: `Refusal` with rule `memory`.
  package convenience init(tiles: [UInt8], layout: TileLayout, bits: Int) throws {
    let memory = try PageMemory(byteCount: layout.packedByteCount(bits: bits))
    tiles.withUnsafeBufferPointer {
      Kernels.current.pack($0, bits: bits, into: memory.bytes.assumingMemoryBound(to: UInt8.self))
    }
    self.init(UnsafeRawBufferPointer(memory.bytes), in: memory)
  }
}

extension Container {
  /// The packed codes of some tensors, in their order.
  ///
  /// Codes that lie packed in the file are used where they are. Others are
  /// decoded, checked and packed, chunk by chunk on `threadCount` threads, into
  /// one piece of memory; of the unpacked codes no more is in memory than
  /// a chunk per thread.
  ///
  /// - Parameters:
  ///   - tensors: quantized ones of this file.
  ///   - checksMapped: whether what is used in place is read once and checked;
  ///     what is decoded always is. A wrong code makes wrong numbers and can do
  ///     nothing else: codes are operands, never places.
  /// - Throws: `Refusal` with rule `otq-checksum`, `otq-frame`, `otq-frame-data`,
  ///   `otq-code` or `memory`; the same one for every number of threads.
  package func packedCodes(
    of tensors: [StoredTensor], checksMapped: Bool, threadCount: Int
  ) throws -> [PackedCodes] {
    var jobs: [PackingJob] = []
    var offsets: [Int?] = []
    var byteCount = 0
    for (index, tensor) in tensors.enumerated() {
      guard let scheme = tensor.scheme, let plane = tensor.planes["codes"] else {
        preconditionFailure("not a quantized tensor")
      }
      let isMapped = mappedPackedCodes(of: tensor) != nil
      offsets.append(isMapped ? nil : byteCount)
      if !isMapped {
        // The extents' claims were checked against the shape, and against what
        // so many bytes of zstd can hold at all.
        guard let end = byteCount.addingChecked(tensor.layout.packedByteCount(bits: scheme.bits)) else {
          throw Refusal("memory", "the codes do not fit in memory", file: file.path)
        }
        byteCount = end
      }
      if !isMapped || checksMapped {
        jobs += plane.extents.indices.map { PackingJob(tensor: index, chunk: $0 - plane.extents.lowerBound) }
      }
    }
    let memory = try PageMemory(byteCount: byteCount)
    let buffers = Pool<UnsafeMutableRawBufferPointer>(free: { $0.deallocate() })
    let (work, places) = (jobs, offsets)
    _ = try mapBlocks(work.count, threadCount: threadCount) { index in
      let tensor = tensors[work[index].tensor]
      let target = places[work[index].tensor].map { offset in
        UnsafeMutableRawBufferPointer(rebasing: memory.bytes[offset...])
      }
      try pack(chunk: work[index].chunk, of: tensor, into: target, buffers)
    }
    return zip(tensors, offsets).map { tensor, offset in
      guard let offset, let scheme = tensor.scheme else {
        return PackedCodes(mappedPackedCodes(of: tensor) ?? UnsafeRawBufferPointer(start: nil, count: 0), in: file)
      }
      let range = offset..<offset + tensor.layout.packedByteCount(bits: scheme.bits)
      return PackedCodes(UnsafeRawBufferPointer(rebasing: memory.bytes[range]), in: memory)
    }
  }

  private struct PackingJob: Sendable {
    let tensor: Int
    let chunk: Int
  }

  /// Decodes and checks a chunk, and packs it into its place among the
  /// tensor's packed codes; a `target` of nil means only checking.
  private func pack(
    chunk: Int, of tensor: StoredTensor, into target: UnsafeMutableRawBufferPointer?,
    _ buffers: Pool<UnsafeMutableRawBufferPointer>
  ) throws {
    guard case .quantized(let scheme, let form, let rowTilesPerChunk) = tensor.content,
      let plane = tensor.planes["codes"]
    else { preconditionFailure("not a quantized tensor") }
    let layout = tensor.layout
    let kernels = Kernels.current
    let extent = extents[plane.extents.lowerBound + chunk]
    let firstTile = chunk * rowTilesPerChunk
    let tileCount = min(rowTilesPerChunk, layout.rowTileCount - firstTile)
    let stored = try Container.storedBytes(of: extent, in: file, name: "tensor '\(tensor.name)'")
    let codeCount = tileCount * layout.rowTileByteCount
    var buffer = buffers.take() ?? .allocate(byteCount: 0, alignment: 64)
    if buffer.count < codeCount {
      buffer.deallocate()
      buffer = .allocate(byteCount: codeCount, alignment: 64)
    }
    defer { buffers.give(buffer) }
    let scratch = UnsafeMutableRawBufferPointer(rebasing: buffer[..<codeCount])
    var codes = UnsafeRawBufferPointer(scratch).assumingMemoryBound(to: UInt8.self)
    switch (form, extent.codec) {
    case (.packed, _):
      kernels.unpack(
        stored.assumingMemoryBound(to: UInt8.self), bits: scheme.bits, into: scratch.assumingMemoryBound(to: UInt8.self)
      )
    case (.bytes, .zstd): try Container.decode(stored, of: extent, in: file, into: scratch)
    case (.bytes, .raw): codes = stored.assumingMemoryBound(to: UInt8.self)
    }
    for tile in 0..<tileCount {
      let start = tile * layout.rowTileByteCount
      try check(
        UnsafeBufferPointer(rebasing: codes[start..<start + layout.rowTileByteCount]), firstTile + tile, tensor, scheme,
        extent)
    }
    guard let target else { return }
    let width = layout.packedRowTileByteCount(bits: scheme.bits)
    let place = UnsafeMutableRawBufferPointer(rebasing: target[firstTile * width..<(firstTile + tileCount) * width])
    kernels.pack(codes, bits: scheme.bits, into: place.assumingMemoryBound(to: UInt8.self))
    file.release(extent.byteOffset..<extent.end)
  }
}
