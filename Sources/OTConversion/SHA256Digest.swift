import CCrypto
import OTFoundation
import OTModel

/// SHA-256 of files and bytes, by OpenSSL's libcrypto, which uses the
/// processor's SHA instructions where there are any.
package enum SHA256Digest {
  /// The digest of a whole file in lower-case hexadecimal.
  ///
  /// Reads with `pread` in blocks, so that the mapping's resident pages stay
  /// those that the converter needs.
  ///
  /// - Parameter isCancelled: asked once a block; true gives an empty digest, and what it throws ends the work.
  /// - Throws: `Refusal` when the file cannot be read.
  package static func hex(of file: MappedFile, isCancelled: () throws -> Bool = { false }) throws -> String {
    // Small enough to stay in a core's cache between copying and hashing.
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 64)
    defer { block.deallocate() }
    var wasCancelled = false
    let digest = try hex(name: file.path) { update in
      var offset = 0
      while offset < file.byteCount {
        wasCancelled = try isCancelled()
        if wasCancelled { return }
        let part = UnsafeMutableRawBufferPointer(rebasing: block[..<min(block.count, file.byteCount - offset)])
        try file.read(at: offset, into: part)
        update(UnsafeRawBufferPointer(part))
        offset += part.count
      }
    }
    return wasCancelled ? "" : digest
  }

  /// The digest of bytes in lower-case hexadecimal.
  ///
  /// - Throws: `Refusal` with rule `sha256-unavailable`.
  package static func hex(of bytes: [UInt8]) throws -> String {
    try hex(name: nil) { update in bytes.withUnsafeBytes(update) }
  }

  /// The digest in lower-case hexadecimal of the bytes that `feed` gives, piece after piece.
  ///
  /// - Throws: `Refusal` with rule `sha256-unavailable`; what `feed` throws.
  package static func hex(
    name: String? = nil, _ feed: (_ update: (UnsafeRawBufferPointer) -> Void) throws -> Void
  ) throws -> String {
    let context = EVP_MD_CTX_new()
    defer { EVP_MD_CTX_free(context) }
    var isSound = EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1
    try feed { bytes in isSound = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1 && isSound }
    var digest = [UInt8](repeating: 0, count: 32)
    isSound = EVP_DigestFinal_ex(context, &digest, nil) == 1 && isSound
    guard isSound else { throw Refusal("sha256-unavailable", "libcrypto cannot compute SHA-256", file: name) }
    return digest.map { byte in
      let text = String(byte, radix: 16)
      return text.count == 1 ? "0" + text : text
    }.joined()
  }
}

extension FileRecord {
  /// The record of a file, its digest taken now.
  ///
  /// - Parameters:
  ///   - name: nil: that of the path, without folders.
  ///   - check: called several times a second; what it throws ends the work.
  /// - Throws: as `SHA256Digest.hex(of:)`.
  package init(of file: MappedFile, name: String? = nil, check: () throws -> Void = {}) throws {
    let digest = try SHA256Digest.hex(of: file) {
      try check()
      return false
    }
    self.init(name: name ?? file.path.lastPathComponent, byteCount: file.byteCount, sha256: digest)
  }
}
