import ArgumentParser
import Foundation
import OTCheckpoint
import OTContainer
import OTConversion
import OTFoundation
import OTJSON
import OTTensor
import OTTokenizer

/// What a reader makes of files, for comparison with other readers: `scripts/check-readers`.
struct ReadFiles: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "read",
    abstract: "Read the files that standard input names, a path a line, and print what they hold.",
    discussion: """
      Prints a line of JSON for each: {"refused": RULE}, or {"values": …} with the SHA-256 of each tensor's elements
      (or the tokens of the texts that --text names).
      """)

  enum Kind: String, CaseIterable, ExpressibleByArgument {
    case otq, safetensors, pytorch, gguf, tokenizer
  }

  @Argument(help: "The reader: otq, safetensors, pytorch, gguf or tokenizer.") var kind: Kind
  @Option(help: "Texts that a tokenizer encodes, a list of strings in a JSON file.") var text: String?

  func run() throws {
    let texts = try text.map { try JSONValue.parse(contentsOf: MappedFile(path: $0)).array?.compactMap(\.string) ?? [] }
    while let path = readLine() {
      let line: JSONValue
      do {
        line = .object(["values": try values(path, texts ?? [])])
      } catch let refusal as Refusal {
        line = .object(["refused": .string(refusal.rule)])
      }
      // Not held back: whoever wrote the path waits for it.
      try FileHandle.standardOutput.write(contentsOf: Data((line.text() + "\n").utf8))
    }
  }

  private func values(_ path: String, _ texts: [String]) throws -> JSONValue {
    switch kind {
    case .otq: return try contents(of: Container(path: path))
    case .safetensors: return try .object(members(of: SafetensorsFile(mapping: MappedFile(path: path)).tensors))
    case .pytorch: return try .object(members(of: PyTorchFile(mapping: MappedFile(path: path)).tensors))
    case .gguf:
      let file = try GGUFFile(MappedFile(path: path))
      return try .object(members(of: file.tensors.map { file.view(of: $0, named: $0.name) }))
    case .tokenizer:
      let tokenizer = try Tokenizer(path: path)
      return .array(
        try texts.map { text in
          .array(try tokenizer.encode(text, addSpecialTokens: true).map { .integer($0) })
        })
    }
  }

  private func members(of tensors: [TensorView]) throws -> JSONObject {
    var members = JSONObject()
    for tensor in tensors {
      // Larger ones are views that repeat a few bytes.
      guard tensor.byteCount <= 1 << 24 else { throw Refusal("read-size", "is too large to be compared") }
      let digest = try tensor.withRowBytes(0..<tensor.shape.rowCount) { try SHA256Digest.hex(of: Array($0)) }
      members[tensor.name] = .array([
        .string(tensor.elementType.rawValue), .array(tensor.shape.dimensions.map { .integer($0) }), .string(digest),
      ])
    }
    return members
  }

  private func contents(of container: Container) throws -> JSONValue {
    try container.verify(threadCount: 1)
    var tensors = JSONObject()
    for tensor in container.tensors {
      var parts: [JSONValue] = []
      func add(_ bytes: [UInt8]) throws { parts.append(.string(try SHA256Digest.hex(of: bytes))) }
      switch tensor.content {
      case .alias(let target): parts = [.string(target)]
      case .plain: try add(container.values(of: tensor))
      case .quantized:
        try add(container.rowMajorCodes(of: tensor, rowTiles: 0..<tensor.layout.rowTileCount))
        try add(container.scales(of: tensor).withUnsafeBytes { Array($0) })
        try add(container.zeroPoints(of: tensor))
      }
      tensors[tensor.name] = .array(parts)
    }
    var attachments = JSONObject()
    for name in container.attachmentNames {
      attachments[name] = .string(try SHA256Digest.hex(of: container.attachment(name) ?? []))
    }
    return .object([
      "metadata": container.metadata, "tensors": .object(tensors), "attachments": .object(attachments),
    ])
  }
}
