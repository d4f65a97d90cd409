import OTContainer
import OTFoundation
import Testing

/// The metadata's tensors and attachments (otq-tensor, otq-plane, otq-attachment, …).
struct IndexRefusalTests {
  static let cases: [RefusalCase] = [
    .init("metadata no object", "otq-metadata") { HandmadeFile([], "[]").bytes },
    .init("metadata truncated", "json-truncated") { HandmadeFile([], "{\"tensors\":[").bytes },
    .init("metadata with a duplicate", "json-duplicate-key", "\"producer\"", "\"tensors\":1,\"producer\""),
    .init("metadata with bytes behind it", "json-trailing") { HandmadeFile([], "{\"tensors\":[]}\0").bytes },
    .init("nesting bomb", "json-depth") { HandmadeFile([], String(repeating: "[", count: 100_000)).bytes },
    .init("no tensors", "otq-metadata", "\"tensors\"", "\"tensor\""),
    .init("no attachments", "otq-attachment", "\"attachments\"", "\"attached\""),

    .init("no name", "otq-tensor", "\"name\":\"b\",", ""),
    .init("empty name", "otq-tensor", "\"name\":\"b\"", "\"name\":\"\""),
    .init("name with NUL", "otq-tensor", "\"name\":\"b\"", "\"name\":\"b\\u0000\""),
    .init("name with a line end", "otq-tensor", "\"name\":\"b\"", "\"name\":\"b\\n\""),
    .init("long name", "otq-tensor") {
      HandmadeFile.small("\"name\":\"b\"", "\"name\":\"\(String(repeating: "b", count: 4097))\"").bytes
    },
    .init("duplicate name", "otq-duplicate-name", "\"name\":\"b\"", "\"name\":\"w\""),
    .init("names that look alike", "otq-duplicate-name") {
      HandmadeFile(
        [],
        """
        {"attachments":[],"tensors":[{"name":"\\u00e9","shape":[1],"alias":"x"},\
        {"name":"e\\u0301","shape":[1],"alias":"x"}]}
        """
      ).bytes
    },
    // U+212A KELVIN SIGN is canonically equivalent to K.
    .init("alias of a look-alike", "otq-alias") {
      var file = HandmadeFile.small("\"name\":\"w\"", "\"name\":\"K\"")
      let text = String(decoding: file.metadata, as: UTF8.self)
      file.metadata = Array(text.replacing("\"alias\":\"w\"", with: "\"alias\":\"\\u212a\"").utf8)
      return file.bytes
    },
    .init("negative dimension", "otq-tensor", "[2],\"dtype\"", "[-2],\"dtype\""),
    .init("dimension no integer", "otq-tensor", "[2],\"dtype\"", "[2.5],\"dtype\""),
    .init("no shape", "otq-tensor", "\"shape\":[2],", ""),
    .init("shape that wraps", "otq-tensor", "[2],\"dtype\"", "[4294967296,4294967296],\"dtype\""),
    .init("shape that wraps beside 0", "otq-tensor", "[2],\"dtype\"", "[0,4294967296,4294967296],\"dtype\""),
    .init("bytes that wrap", "otq-tensor", "[2],\"dtype\"", "[9223372036854775807],\"dtype\""),
    .init("nine dimensions", "otq-tensor", "[2],\"dtype\"", "[2,1,1,1,1,1,1,1,1],\"dtype\""),
    .init("unknown dtype", "otq-tensor", "\"dtype\":\"F32\"", "\"dtype\":\"f32\""),
    .init("two kinds", "otq-tensor", "\"dtype\":\"F32\"", "\"dtype\":\"F32\",\"bits\":6"),
    .init("no kind", "otq-tensor", "\"dtype\":\"F32\",", ""),
    .init("quantized integers", "otq-source", "\"dtype\":\"F16\"", "\"dtype\":\"I64\""),
    .init("quantized floats of 8 bits", "otq-source", "\"dtype\":\"F16\"", "\"dtype\":\"F8_E4M3\""),
    .init(
      "alias of quantized integers", "otq-source", "\"alias\":\"w\"",
      "\"alias\":\"w\",\"source\":{\"name\":\"v\",\"dtype\":\"U8\"}"),
    .init(
      "integers of floats", "otq-source", "\"dtype\":\"F32\"",
      "\"dtype\":\"I32\",\"source\":{\"name\":\"b\",\"dtype\":\"F32\"}"),
    .init(
      "floats of integers", "otq-source", "\"dtype\":\"F32\"",
      "\"dtype\":\"F32\",\"source\":{\"name\":\"b\",\"dtype\":\"I32\"}"),
    .init("source without a type", "otq-tensor", ",\"dtype\":\"F16\"", ""),
    .init("error without a maximum", "otq-tensor", ",\"maximumInSteps\":0.5", ""),

    .init("alias of nothing", "otq-alias", "\"alias\":\"w\"", "\"alias\":\"x\""),
    .init("alias of itself", "otq-alias", "\"alias\":\"w\"", "\"alias\":\"v\""),
    .init("circle of aliases", "otq-alias") {
      HandmadeFile(
        [],
        """
        {"attachments":[],"tensors":[{"name":"a","shape":[1],"alias":"b"},{"name":"b","shape":[1],"alias":"a"}]}
        """
      ).bytes
    },
    .init("alias of another shape", "otq-alias", "[2,3],\"alias\"", "[3,2],\"alias\""),
    .init("alias with planes", "otq-tensor", "\"alias\":\"w\"", "\"alias\":\"w\",\"planes\":{\"values\":[0,0]}"),
    .init("alias no string", "otq-tensor", "\"alias\":\"w\"", "\"alias\":1"),
    .init("alias with planes no object", "otq-plane", "\"alias\":\"w\"", "\"alias\":\"w\",\"planes\":[]"),

    .init("run past the table", "otq-plane", "[3,1]", "[3,2]"),
    .init("run that wraps", "otq-plane", "[3,1]", "[1,9223372036854775807]"),
    .init("negative run", "otq-plane", "[3,1]", "[-1,1]"),
    .init("run of three", "otq-plane", "[3,1]", "[3,1,1]"),
    .init("values too short", "otq-plane", "[2],\"dtype\"", "[3],\"dtype\""),
    .init("values too long", "otq-plane", "[2],\"dtype\"", "[1],\"dtype\""),
    .init("planes no object", "otq-plane", "{\"values\":[3,1]}", "[3,1]"),
    .init("values missing", "otq-plane", "\"planes\":{\"values\":[3,1]}", "\"planes\":{}"),
    .init("plane too many", "otq-plane", "\"values\":[3,1]", "\"values\":[3,1],\"more\":[0,0]"),
    .init("scales missing", "otq-plane", ",\"scales\":[2,1]", ""),
    .init("zero points missing", "otq-plane", "\"symmetric\":true", "\"symmetric\":false"),
    .init("scales of another count", "otq-plane", "\"channel\"", "\"tensor\""),
    .init("codes of another shape", "otq-plane", "[2,3],\"source\"", "[17,3],\"source\""),
    .init("codes packed but long", "otq-plane", "\"bytes\"", "\"packed\""),
    .init("no row tile in a chunk", "otq-scheme", "\"rowTilesPerChunk\":256", "\"rowTilesPerChunk\":0"),
    .init("countless row tiles", "otq-scheme", "\"rowTilesPerChunk\":256", "\"rowTilesPerChunk\":9223372036854775807"),

    .init("1 bit", "otq-scheme", "\"bits\":6", "\"bits\":1"),
    .init("9 bits", "otq-scheme", "\"bits\":6", "\"bits\":9"),
    .init("bits no integer", "otq-scheme", "\"bits\":6", "\"bits\":6.5"),
    .init("symmetric missing", "otq-scheme", "\"symmetric\":true,", ""),
    .init("form unknown", "otq-scheme", "\"bytes\"", "\"nibbles\""),
    .init("granularity unknown", "otq-scheme", "\"channel\"", "\"column\""),
    .init("group without a size", "otq-scheme", "\"channel\"", "\"group\""),
    .init("size without a group", "otq-scheme", "\"channel\"", "\"channel\",\"groupSize\":16"),
    .init("null for a size without a group", "otq-scheme", "\"channel\"", "\"channel\",\"groupSize\":null"),
    .init("text for a size without a group", "otq-scheme", "\"channel\"", "\"channel\",\"groupSize\":\"16\""),
    .init("group of 0", "otq-scheme", "\"channel\"", "\"group\",\"groupSize\":0"),
    .init("group of 24", "otq-scheme", "\"channel\"", "\"group\",\"groupSize\":24"),
    .init("group of 65,552", "otq-scheme", "\"channel\"", "\"group\",\"groupSize\":65552"),
    .init("quantized vector", "otq-scheme", "[2,3],\"source\"", "[6],\"source\""),
    .init("quantized rows beyond 2^31", "otq-scheme", "[2,3],\"source\"", "[2147483648,3],\"source\""),

    .init("attachment without a name", "otq-attachment", "\"name\":\"config.json\",", ""),
    .init("attachment above its folder", "otq-attachment", "config.json", "../config.json"),
    .init("attachment at the root", "otq-attachment", "config.json", "/config.json"),
    .init("attachment with a backslash", "otq-attachment", "config.json", "..\\\\config.json"),
    .init("attachment with a NUL", "otq-attachment", "config.json", "config\\u0000.json"),
    .init("attachment of another size", "otq-attachment", "\"byteCount\":2", "\"byteCount\":3"),
    .init("attachment past the table", "otq-attachment", "[0,1]", "[4,1]"),
    .init(
      "two attachments of one name", "otq-attachment", "\"attachments\":[",
      "\"attachments\":[{\"name\":\"config.json\",\"byteCount\":0,\"extents\":[0,0]},"),
  ]

  @Test(arguments: cases) func indexIsRefused(_ file: RefusalCase) throws { try file.expectAtOpening() }

  @Test func chunksOfUnevenLengthAreRefused() throws {
    // Two row tiles in two chunks, where the index says that one chunk has both.
    let tile = HandmadeFile.smallTile
    let metadata = """
      {"attachments":[],"tensors":[{"name":"w","shape":[18,3],"bits":6,"symmetric":false,"granularity":"tensor",\
      "form":"bytes","rowTilesPerChunk":2,"planes":{"codes":[0,2],"scales":[2,1],"zeroPoints":[3,1]}}]}
      """
    let file = HandmadeFile([.init(tile), .init(tile), .init([0, 0, 0x80, 0x3F]), .init([0])], metadata)
    let refusal = #expect(throws: Refusal.self) { try open(file.bytes) }
    #expect(refusal?.rule == "otq-plane")
  }
}
