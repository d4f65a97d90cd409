/// The characters that stand for bytes in a byte-level vocabulary (GPT-2's
/// `bytes_to_unicode`): printable Latin-1 for itself, all others from U+0100 on.
enum ByteAlphabet {
  /// Character of each byte.
  static let scalars: [Unicode.Scalar] = {
    var spare: UInt32 = 0x100
    return (0..<256).map { (byte: UInt32) in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(UInt8(byte))
      default:
        defer { spare += 1 }
        return Unicode.Scalar(spare) ?? "?"
      }
    }
  }()

  private static let bytes: [Unicode.Scalar: UInt8] = Dictionary(
    uniqueKeysWithValues: scalars.enumerated().map { ($1, UInt8($0)) })

  /// The byte that `scalar` stands for.
  static func byte(_ scalar: Unicode.Scalar) -> UInt8? { bytes[scalar] }

  /// Spells the UTF-8 form of `text` in this alphabet.
  static func spell(_ text: some Sequence<Unicode.Scalar>) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    for scalar in text {
      for byte in scalar.utf8 { result.append(scalars[Int(byte)]) }
    }
    return result
  }
}
