import OTFoundation
import OTJSON

// The graph as it stands in a container. Vectors of transforms are tensors of
// the container, `<node>.shift` and `<node>.scale`; the JSON says which exist.

extension Graph {
  /// The vectors of all transforms with the names under which a container
  /// keeps them, in execution order.
  package var transformVectors: [(name: String, values: [Float])] {
    nodes.flatMap { node in
      let transform = transforms[node.name]
      return [
        transform?.shift.map { ("\(node.name).shift", $0) },
        transform?.scale.map { ("\(node.name).scale", $0) },
      ].compactMap { $0 }
    }
  }

  /// The graph without the vectors of its transforms; the same graph always
  /// gives the same members in the same order.
  package var json: JSONValue {
    var object: JSONObject = ["family": .string(family)]
    object["vocabularySize"] = vocabularySize.map { .integer($0) }
    object["contextLength"] = contextLength.map { .integer($0) }
    if !missing.isEmpty { object["missing"] = .array(missing.map { .string($0) }) }
    var outputs = JSONObject()
    for (output, node) in self.outputs.sorted(by: { $0.key < $1.key }) {
      outputs[output] = .string(node)
    }
    object["outputs"] = .object(outputs)
    object["nodes"] = .array(nodes.map { .object($0.json) })
    var transforms = JSONObject()
    var activations = JSONObject()
    for node in nodes {
      if let transform = self.transforms[node.name] {
        let parts = [transform.shift.map { _ in "shift" }, transform.scale.map { _ in "scale" }]
        transforms[node.name] = .array(parts.compactMap { $0.map { .string($0) } })
      }
      activations[node.name] = self.activations[node.name]?.json
    }
    object["transforms"] = .object(transforms)
    object["activations"] = .object(activations)
    return .object(object)
  }

  /// The graph that `json` describes.
  ///
  /// - Parameters:
  ///   - file: named in refusals.
  ///   - vectors: gives the float tensor of a name: `<node>.shift` or `<node>.scale`.
  /// - Throws: `Refusal` with a rule `graph-…` for anything but a valid
  ///   graph, or what `vectors` throws.
  package init(
    json: JSONValue, file: String? = nil, vectors: (String) throws -> [Float]
  ) throws {
    let reader = try GraphReader(json, in: "the graph", file: file)
    let nodes = try reader.elements("nodes").map { try Node(json: $0, file: file) }
    let names = Set(nodes.map(\.name))
    var outputs: [String: String] = [:]
    for (output, node) in try reader.members("outputs") {
      guard let node = node.string else { throw reader.refusal("output '\(output)' is not a name") }
      outputs[output] = node
    }
    var transforms: [String: ChannelTransform] = [:]
    for (node, parts) in try reader.members("transforms") {
      guard names.contains(node) else {
        throw Refusal("graph-transform", "no node is called '\(node)'", file: file)
      }
      guard let parts = parts.array, parts.allSatisfy({ ["shift", "scale"].contains($0.string) })
      else { throw reader.refusal("the transform of '\(node)' is neither shift nor scale") }
      transforms[node] = ChannelTransform(
        shift: parts.contains(.string("shift")) ? try vectors("\(node).shift") : nil,
        scale: parts.contains(.string("scale")) ? try vectors("\(node).scale") : nil)
    }
    var activations: [String: ActivationQuantization] = [:]
    for (node, value) in try reader.members("activations") {
      activations[node] = try ActivationQuantization(json: value, node: node, file: file)
    }
    try self.init(
      family: reader.string("family"), nodes: nodes, outputs: outputs, transforms: transforms,
      activations: activations, vocabularySize: reader.optionalSize("vocabularySize"),
      contextLength: reader.optionalSize("contextLength"),
      missing: reader.strings("missing", isOptional: true), file: file)
  }
}

extension Node {
  var json: JSONObject {
    var object: JSONObject = [
      "name": .string(name), "operation": .string(operation.body.name),
    ]
    if !inputs.isEmpty { object["inputs"] = .array(inputs.map { .string($0) }) }
    operation.body.write(to: &object)
    return object
  }

  fileprivate init(json: JSONValue, file: String?) throws {
    let name = try GraphReader(json, in: "a node", file: file).string("name")
    let reader = try GraphReader(json, in: "node '\(name)'", file: file)
    self.init(
      name, try Operation(reader: reader), inputs: try reader.strings("inputs", isOptional: true))
  }
}

extension ActivationQuantization {
  /// As graphs have it: `{kind, bits, zero}`.
  package var json: JSONValue {
    var object: JSONObject = [:]
    switch self {
    case .float: object["kind"] = .string("float")
    // A name of its own: a reader that does not know groups refuses it.
    case .dynamic(_, nil): object["kind"] = .string("dynamic")
    case .dynamic: object["kind"] = .string("grouped")
    case .asymmetric(_, nil): object["kind"] = .string("asymmetric")
    case .asymmetric: object["kind"] = .string("grouped_asymmetric")
    case .static: object["kind"] = .string("static")
    }
    if let bits { object["bits"] = .integer(bits) }
    object["groupSize"] = groupSize.map { .integer($0) }
    if zero != 0 { object["zero"] = .integer(zero) }
    return .object(object)
  }

  /// Reads it.
  ///
  /// - Throws: `Refusal` with rule `graph-json` for anything else.
  package init(json: JSONValue, node: String, file: String?) throws {
    let reader = try GraphReader(json, in: "the activation of '\(node)'", file: file)
    switch try reader.string("kind") {
    case "float": self = .float
    case "dynamic": self = .dynamic(bits: try reader.integer("bits"))
    case "asymmetric": self = .asymmetric(bits: try reader.integer("bits"))
    case "grouped":
      self = .dynamic(bits: try reader.integer("bits"), groupSize: try reader.integer("groupSize"))
    case "grouped_asymmetric":
      self = .asymmetric(bits: try reader.integer("bits"), groupSize: try reader.integer("groupSize"))
    case "static":
      self = .static(bits: try reader.integer("bits"), zero: try reader.optionalInteger("zero") ?? 0)
    case let kind: throw reader.refusal("'\(kind)' is not known")
    }
  }
}
