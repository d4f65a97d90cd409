import OTCheckpoint
import OTFoundation
import OTTensor
import Testing
import _OTTestSupport

@Suite struct SafetensorsFileTests {
  /// All bytes written by hand: 0x58 = 88 bytes of header, then four floats and
  /// two 16-bit integers.
  @Test func readsBytesWrittenByHand() throws {
    let header =
      #"{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"#
      + #""n":{"dtype":"I16","shape":[2],"data_offsets":[16,20]}}"#
    #expect(header.utf8.count == 112)
    let bytes: [UInt8] =
      [0x70, 0, 0, 0, 0, 0, 0, 0] + Array(header.utf8)
      + [0x00, 0x00, 0x80, 0x3F, 0x00, 0x00, 0x00, 0xC0]  // 1, -2
      + [0x00, 0x00, 0x00, 0x3F, 0x00, 0x00, 0x20, 0x41]  // 0.5, 10
      + [0x01, 0x01, 0xFE, 0xFF]  // 257, -2
    try withSafetensors(bytes) { file in
      #expect(file.tensors.map(\.name) == ["w", "n"])
      #expect(file.tensors.map(\.byteOffset) == [120, 136])
      #expect(file.tensors[0].shape == Shape([2, 2]))
      #expect(file.tensors[0].elementType == .f32)
      #expect(file.tensors[0].isContiguous)
      let secondRow = file.tensors[0].withRowBytes(1..<2) { row in
        [row.loadUnaligned(as: Float.self), row.loadUnaligned(fromByteOffset: 4, as: Float.self)]
      }
      #expect(secondRow == [0.5, 10])
      #expect(file.tensors[1].withRowBytes(0..<2) { $0.loadUnaligned(as: Int16.self) } == 257)
      #expect(file.metadata.isEmpty)
    }
  }

  @Test func ordersTensorsByPlaceNotByHeader() throws {
    let header =
      #"{"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"#
      + #""a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
    try withSafetensors(safetensorsBytes(header, data: [1, 2])) { file in
      #expect(file.tensors.map(\.name) == ["a", "b"])
      #expect(file.tensors.map(bytes(of:)) == [[1], [2]])
    }
  }

  @Test(arguments: ["  {}", "{}  ", "\n\t{}\r\n", "{\"__metadata__\":{}}"])
  func acceptsWhiteSpaceAndNoTensors(_ header: String) throws {
    try withSafetensors(safetensorsBytes(header)) { #expect($0.tensors.isEmpty) }
  }

  @Test func acceptsScalarsAndEmptyTensors() throws {
    let header =
      #"{"e":{"dtype":"F32","shape":[3,0],"data_offsets":[0,0]},"#
      + #""s":{"dtype":"F16","shape":[],"data_offsets":[0,2]},"#
      + #""z":{"dtype":"F64","shape":[0],"data_offsets":[2,2]}}"#
    try withSafetensors(safetensorsBytes(header, data: [0, 0x3C])) { file in
      #expect(file.tensors.map(\.name) == ["e", "s", "z"])
      #expect(file.tensors.map(\.shape.elementCount) == [0, 1, 0])
      #expect(bytes(of: file.tensors[1]) == [0, 0x3C])
      #expect(bytes(of: file.tensors[0]) == [])
    }
  }

  @Test func keepsMetadataAndUnescapesNames() throws {
    let header =
      #"{"__metadata__":{"format":"pt","größe":"1\n2"},"#
      + #""\u00e4\ud83d\ude00":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1],"more":null}}"#
    try withSafetensors(safetensorsBytes(header, data: [1])) { file in
      #expect(file.metadata == ["format": "pt", "größe": "1\n2"])
      #expect(file.tensors.map(\.name) == ["ä😀"])
    }
  }

  /// The converter judges element types; opening does not.
  @Test(arguments: ElementType.allCases)
  func opensEveryElementType(_ type: ElementType) throws {
    // 8 elements are whole bytes in every width.
    let count = type.bitWidth
    let header =
      "{\"t\":{\"dtype\":\"\(type.rawValue)\",\"shape\":[8],\"data_offsets\":[0,\(count)]}}"
    try withSafetensors(safetensorsBytes(header, data: [UInt8](repeating: 0, count: count))) {
      #expect($0.tensors[0].elementType == type)
      #expect($0.tensors[0].byteCount == count)
    }
  }

  @Test(arguments: [
    "models/opt-mini/goldens.safetensors", "models/minilm-goldens/goldens.safetensors",
    "pytorch/dtypes_pt.expected.safetensors", "pytorch/edge_shapes_pt.expected.safetensors",
  ])
  func opensFilesOfTheReferenceImplementation(_ path: String) throws {
    let file = try SafetensorsFile(mapping: MappedFile(path: Fixtures.path(path)))
    #expect(!file.tensors.isEmpty)
  }
}
