import OTTensor

/// The type of a tensor in a GGUF file; raw values are ggml's numbers.
package enum GGUFType: Int, Sendable {
  case f32 = 0
  case f16 = 1
  case q4v0 = 2
  case q4v1 = 3
  case q5v0 = 6
  case q5v1 = 7
  case q8v0 = 8
  case q2K = 10
  case q3K = 11
  case q4K = 12
  case q5K = 13
  case q6K = 14
  case iq4NL = 20
  case iq4XS = 23
  case i8 = 24
  case i16 = 25
  case i32 = 26
  case i64 = 27
  case f64 = 28
  case bf16 = 30
  case tq1v0 = 34
  case tq2v0 = 35
  case mxfp4 = 39
  case nvfp4 = 40

  /// The type of plain elements; nil for blocks.
  package var elementType: ElementType? {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    case .f64: .f64
    case .i8: .i8
    case .i16: .i16
    case .i32: .i32
    case .i64: .i64
    default: nil
    }
  }

  /// Elements of a block.
  package var blockElementCount: Int {
    switch self {
    case .q4v0, .q4v1, .q5v0, .q5v1, .q8v0, .iq4NL, .mxfp4: 32
    case .q2K, .q3K, .q4K, .q5K, .q6K, .iq4XS, .tq1v0, .tq2v0: 256
    case .nvfp4: 64
    default: 1
    }
  }

  /// Bytes of a block.
  package var blockByteCount: Int {
    switch self {
    case .q4v0, .iq4NL: 18
    case .q4v1: 20
    case .q5v0: 22
    case .q5v1: 24
    case .q8v0: 34
    case .q2K: 84
    case .q3K: 110
    case .q4K: 144
    case .q5K: 176
    case .q6K: 210
    case .iq4XS: 136
    case .mxfp4: 17
    case .nvfp4: 36
    case .tq1v0: 54
    case .tq2v0: 66
    case .i8: 1
    case .f16, .bf16, .i16: 2
    case .f32, .i32: 4
    case .f64, .i64: 8
    }
  }

  /// Bytes of a row of so many elements.
  package func rowByteCount(_ columnCount: Int) -> Int { columnCount / blockElementCount * blockByteCount }

  /// The type of plain elements; nil for elements that no file has.
  package init?(_ elementType: ElementType) {
    let types = [GGUFType.f32, .f16, .bf16, .f64, .i8, .i16, .i32, .i64]
    guard let type = types.first(where: { $0.elementType == elementType }) else { return nil }
    self = type
  }

  /// The name of a type that is not read.
  static func unreadName(_ code: Int) -> String {
    let names = [
      4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
      21: "IQ3_S", 22: "IQ2_S", 29: "IQ1_M", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8",
    ]
    return names[code].map { "\($0), which is not read" } ?? "\(code), which is not known"
  }
}

extension GGUFType: CustomStringConvertible {
  /// ggml's name: `Q4_K`.
  package var description: String {
    switch self {
    case .f32: "F32"
    case .f16: "F16"
    case .bf16: "BF16"
    case .f64: "F64"
    case .i8: "I8"
    case .i16: "I16"
    case .i32: "I32"
    case .i64: "I64"
    case .q4v0: "Q4_0"
    case .q4v1: "Q4_1"
    case .q5v0: "Q5_0"
    case .q5v1: "Q5_1"
    case .q8v0: "Q8_0"
    case .q2K: "Q2_K"
    case .q3K: "Q3_K"
    case .q4K: "Q4_K"
    case .q5K: "Q5_K"
    case .q6K: "Q6_K"
    case .iq4NL: "IQ4_NL"
    case .iq4XS: "IQ4_XS"
    case .mxfp4: "MXFP4"
    case .nvfp4: "NVFP4"
    case .tq1v0: "TQ1_0"
    case .tq2v0: "TQ2_0"
    }
  }
}
