import OTFoundation
import OTJSON

extension Operation {
  /// The operation's name in a container.
  var jsonName: String {
    switch self {
    case .tokenIDs: "token_ids"
    case .positionIDs: "position_ids"
    case .tokenTypeIDs: "token_type_ids"
    case .embedding: "embedding"
    case .linear: "linear"
    case .layerNorm: "layer_norm"
    case .rmsNorm: "rms_norm"
    case .attention: "attention"
    case .headSlice: "head_slice"
    case .activation: "activation"
    case .multiply: "multiply"
    case .add: "add"
    case .firstToken: "first_token"
    case .affine: "affine"
    }
  }

  /// Adds the operation's parameters to the object of its node.
  func write(to object: inout JSONObject) {
    switch self {
    case .embedding(let embedding):
      object["table"] = embedding.table.json
      object["rowCount"] = .integer(embedding.rowCount)
      object["size"] = .integer(embedding.size)
      object["rowOffset"] = .integer(embedding.rowOffset)
    case .linear(let linear):
      object["weight"] = linear.weight.json
      object["bias"] = linear.bias.map(\.json)
      object["inFeatures"] = .integer(linear.inFeatures)
      object["outFeatures"] = .integer(linear.outFeatures)
      object["role"] = .string(linear.role.rawValue)
    case .layerNorm(let norm), .rmsNorm(let norm):
      object["gamma"] = norm.gamma.map(\.json)
      object["beta"] = norm.beta.map(\.json)
      object["epsilon"] = .number(shortest(norm.epsilon))
      object["size"] = .integer(norm.size)
    case .attention(let attention):
      object["headCount"] = .integer(attention.headCount)
      object["keyValueHeadCount"] = .integer(attention.keyValueHeadCount)
      object["headSize"] = .integer(attention.headSize)
      object["scale"] = .number(shortest(attention.scale))
      object["isCausal"] = .bool(attention.isCausal)
      object["positions"] = attention.positions.json
    case .headSlice(let slice):
      object["part"] = .integer(slice.part)
      object["partCount"] = .integer(slice.partCount)
      object["headSize"] = .integer(slice.headSize)
    case .activation(let kind):
      object["kind"] = .string(kind.rawValue)
    case .tokenIDs, .positionIDs, .tokenTypeIDs, .multiply, .add, .firstToken, .affine:
      break
    }
  }

  init(reader: GraphReader) throws {
    switch try reader.string("operation") {
    case "token_ids": self = .tokenIDs
    case "position_ids": self = .positionIDs
    case "token_type_ids": self = .tokenTypeIDs
    case "embedding":
      self = .embedding(
        Embedding(
          table: try reader.tensor("table"), rowCount: try reader.integer("rowCount"),
          size: try reader.integer("size"), rowOffset: try reader.integer("rowOffset")))
    case "linear":
      guard let role = Linear.Role(rawValue: try reader.string("role")) else {
        throw reader.refusal("the role is neither block nor head")
      }
      self = .linear(
        Linear(
          weight: try reader.tensor("weight"), bias: try reader.optionalTensor("bias"),
          inFeatures: try reader.integer("inFeatures"),
          outFeatures: try reader.integer("outFeatures"), role: role))
    case "layer_norm": self = .layerNorm(try Norm(reader: reader))
    case "rms_norm": self = .rmsNorm(try Norm(reader: reader))
    case "attention":
      self = .attention(
        Attention(
          headCount: try reader.integer("headCount"),
          keyValueHeadCount: try reader.integer("keyValueHeadCount"),
          headSize: try reader.integer("headSize"), scale: Float(try reader.number("scale")),
          isCausal: try reader.flag("isCausal"),
          positions: try Attention.Positions(reader: reader.child("positions"))))
    case "head_slice":
      self = .headSlice(
        HeadSlice(
          part: try reader.integer("part"), partCount: try reader.integer("partCount"),
          headSize: try reader.integer("headSize")))
    case "activation":
      guard let kind = ActivationKind(rawValue: try reader.string("kind")) else {
        throw reader.refusal("the activation is not known")
      }
      self = .activation(kind)
    case "multiply": self = .multiply
    case "add": self = .add
    case "first_token": self = .firstToken
    case "affine": self = .affine
    case let name: throw reader.refusal("the operation '\(name)' is not known")
    }
  }
}

extension Norm {
  fileprivate init(reader: GraphReader) throws {
    self.init(
      gamma: try reader.optionalTensor("gamma"), beta: try reader.optionalTensor("beta"),
      epsilon: Float(try reader.number("epsilon")), size: try reader.integer("size"))
  }
}

extension Attention.Positions {
  fileprivate var json: JSONValue {
    switch self {
    case .none: return .object(["kind": .string("none")])
    case .alibi: return .object(["kind": .string("alibi")])
    case .rotary(let rotary):
      var object: JSONObject = [
        "kind": .string("rotary"), "theta": .number(rotary.theta),
        "dimensions": .integer(rotary.dimensions),
      ]
      switch rotary.scaling {
      case .none: break
      case .linear(let factor):
        object["scaling"] = .object(["kind": .string("linear"), "factor": .number(factor)])
      case .llama3(let factor, let low, let high, let contextLength):
        object["scaling"] = .object([
          "kind": .string("llama3"), "factor": .number(factor),
          "lowFrequencyFactor": .number(low), "highFrequencyFactor": .number(high),
          "originalContextLength": .integer(contextLength),
        ])
      }
      return .object(object)
    }
  }

  fileprivate init(reader: GraphReader) throws {
    switch try reader.string("kind") {
    case "none": self = .none
    case "alibi": self = .alibi
    case "rotary":
      self = .rotary(
        Rotary(
          theta: try reader.number("theta"), dimensions: try reader.integer("dimensions"),
          scaling: try Rotary.Scaling(reader: reader)))
    case let kind: throw reader.refusal("'\(kind)' is not known")
    }
  }
}

extension Rotary.Scaling {
  fileprivate init(reader: GraphReader) throws {
    guard reader.has("scaling") else {
      self = .none
      return
    }
    let scaling = try reader.child("scaling")
    switch try scaling.string("kind") {
    case "linear": self = .linear(factor: try scaling.number("factor"))
    case "llama3":
      self = .llama3(
        factor: try scaling.number("factor"), low: try scaling.number("lowFrequencyFactor"),
        high: try scaling.number("highFrequencyFactor"),
        contextLength: try scaling.integer("originalContextLength"))
    case let kind: throw scaling.refusal("'\(kind)' is not known")
    }
  }
}

/// The double with the fewest digits that reads back as `value`.
private func shortest(_ value: Float) -> Double {
  if let short = Double("\(value)"), Float(short) == value { return short }
  return Double(value)
}
