import Foundation
import OTCheckpoint
import OTFoundation
import OTJSON
import Testing
import _OTTestSupport

/// Packed files whose checksums are right and whose metadata are not.
@Suite struct CraftedFileTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// A part of the one line on standard error, beside the file's name.
    let message: String
    let commands: [[String]]
    var model = "opt-mini"
    let change: @Sendable (inout CraftedFile) throws -> Void
  }

  private static let goldens = Fixtures.path("models/opt-mini/goldens.safetensors")
  private static let eval = ["eval", "FILE", "--ids", goldens]
  private static let verify = ["verify", "FILE", "--reference", "MODEL", "--quiet"]
  private static let verifyModel = verify + ["--level", "model", "--samples", "2", "--length", "32"]
  private static let unpack = ["unpack", "FILE", "OUTPUT", "--quiet"]
  private static let layer = "model.decoder.layers.1."

  static let cases: [Case] = [
    Case(testDescription: "logits of another width", message: "[graph-vocabulary]", commands: [eval, verifyModel]) {
      try $0.changeGraph { $0["outputs"] = .object(["logits": .string("model.decoder.final_layer_norm")]) }
    },
    Case(testDescription: "a vocabulary that has no logits", message: "[graph-vocabulary]", commands: [eval]) {
      try $0.changeNodes("name", "model.decoder.embed_tokens") { $0["inputs"] = .array([.string("position_ids")]) }
      try $0.changeGraph { $0["vocabularySize"] = .integer(1 << 31) }
    },
    Case(testDescription: "logits of sequences", message: "[graph-rows]", commands: [eval, verifyModel]) {
      try $0.addNode([
        "name": .string("first"), "operation": .string("first_token"), "inputs": .array([.string("lm_head")]),
      ])
      try $0.changeGraph { $0["outputs"] = .object(["logits": .string("first")]) }
    },
    Case(testDescription: "a weight of integers", message: "[otq-source]", commands: [unpack, verify]) {
      try $0.changeTensor(layer + "fc1.weight") {
        $0["source"] = .object(["name": .string(layer + "fc1.weight"), "dtype": .string("I64")])
      }
    },
    Case(testDescription: "a bias of integers", message: "[otq-graph]", commands: [unpack, verify]) {
      try $0.changeTensor(layer + "fc1.bias") {
        $0["dtype"] = .string("I32")
        $0["source"] = .object(["name": .string(layer + "fc1.bias"), "dtype": .string("I32")])
      }
    },
    Case(
      testDescription: "a weight without source", message: "fc1.weight' is said to have no source", commands: [verify]
    ) {
      try $0.changeTensor(layer + "fc1.weight") { $0["source"] = nil }
    },
    Case(
      testDescription: "a bias that stands for another", message: "q_proj.bias' differs from the source",
      commands: [verify], model: "llama-mini"
    ) {
      try $0.makeAlias(
        "model.layers.1.self_attn.q_proj.bias", of: "model.layers.2.self_attn.q_proj.bias")
    },
    Case(
      testDescription: "tokens see those that follow", message: "self_attn' has isCausal false, the source true",
      commands: [verify, verifyModel]
    ) {
      try $0.changeNodes("operation", "attention") { $0["isCausal"] = .bool(false) }
    },
    Case(
      testDescription: "another norm",
      message: "layer_norm' has operation \"rms_norm\", the source \"layer_norm\"", commands: [verify, verifyModel]
    ) {
      try $0.changeNodes("operation", "layer_norm") { $0["operation"] = .string("rms_norm") }
    },
    Case(testDescription: "another output", message: "'graph' has outputs", commands: [verify, verifyModel]) {
      try $0.changeGraph {
        $0["outputs"] = .object(["logits": .string("lm_head"), "hidden": .string("model.decoder.final_layer_norm")])
      }
    },
    Case(
      testDescription: "logits that are not finite", message: "[eval-not-finite]",
      commands: [eval, eval + ["--against", "MODEL"], ["eval", "MODEL", "--ids", goldens, "--against", "FILE"]]
    ) { try makeNotFinite(&$0) },
    Case(
      testDescription: "logits to choose from that are not finite", message: "[sampling-not-finite]",
      commands: [["run", "FILE", "--prompt", "In the beginning", "--max-tokens", "2", "--quiet"]]
    ) { try makeNotFinite(&$0) },
  ]

  private static func makeNotFinite(_ file: inout CraftedFile) throws {
    // Angles of this rotation are infinite.
    try file.changeNodes("operation", "attention") {
      $0["positions"] = .object([
        "kind": .string("rotary"), "theta": .number(1e-300), "dimensions": $0["headSize"] ?? .null,
      ])
    }
  }

  @Test(arguments: cases) func aFileIsRefused(_ test: Case) throws {
    try withTemporaryFolder { folder in
      let model = Fixtures.path("models/\(test.model)")
      let convert = [
        model, folder + "/good.otq", "--bits", "6", "--quiet", "--act-scales", model + "/act_scales_sym.pt",
        "--symmetrization", model + "/symmetrizations.pt", "--symmetrization-samples", "32",
      ]
      #expect(try Tool.finish(Tool.process(convert)).status == 0)
      var file = try CraftedFile(folder + "/good.otq")
      try test.change(&file)
      try file.write(to: folder + "/crafted.otq")
      for command in test.commands {
        let arguments = command.map {
          ["FILE": folder + "/crafted.otq", "MODEL": model, "OUTPUT": folder + "/u.safetensors"][$0] ?? $0
        }
        let outcome = try Tool.finish(Tool.process(arguments))
        #expect(outcome.status == 1, "\(arguments)")
        #expect(outcome.errorLines.count == 1, "\(outcome.errors)")
        #expect(outcome.errors.contains("crafted.otq") && outcome.errors.contains(test.message), "\(outcome.errors)")
      }
    }
  }

  /// Dimensions beside a zero may be as large as an Int; nothing is to count to them.
  @Test(arguments: [
    [1 << 62, 0], [0, 1 << 62], [1 << 62, 0, 1], [1, 1 << 62, 0], [(1 << 31) - 1, 0], [0, (1 << 31) - 1], [0], [0, 0],
  ])
  func emptyTensorsPass(_ shape: [Int]) throws {
    try withTemporaryFolder { folder in
      let (source, packed) = (folder + "/m.safetensors", folder + "/m.otq")
      let header = #"{"x.weight":{"dtype":"F32","shape":\#(shape),"data_offsets":[0,0]}}"#
      let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
      try (length + Data(header.utf8)).write(to: URL(fileURLWithPath: source))
      for command in [
        ["inspect", source], [source, packed, "--weights-only", "--quiet"], ["inspect", packed], ["verify", packed],
        ["verify", packed, "--reference", source], ["unpack", packed, folder + "/u.safetensors", "--quiet"],
      ] {
        let outcome = try Tool.finish(Tool.process(command))
        #expect(outcome.status == 0, "\(command) \(outcome.errors)")
      }
      let unpacked = try SafetensorsFile(mapping: MappedFile(path: folder + "/u.safetensors")).tensors
      #expect(unpacked.map(\.shape.dimensions) == [shape] && unpacked.first?.elementType == .f32)
    }
  }
}
