// Names and documentation of the functions are those of otq.h.
// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation

import COTQ
import OTFoundation
import OTGraph
import OTJSON
import OTPlatform
import OTQ

/// A model that a caller in C has loaded.
final class ModelBox: Sendable {
  let model: LanguageModel

  init(_ model: LanguageModel) { self.model = model }

  static func find(_ handle: OpaquePointer?, _ name: String = "model") throws(Refusal) -> LanguageModel {
    try Argument.object(handle, name, as: ModelBox.self).model
  }
}

extension LanguageModel {
  /// Numbers of a row of logits; nil for a model that gives none.
  fileprivate var logitCount: Int? { graph.outputs["logits"].flatMap(graph.channelCount) }
}

@c @implementation
public func otq_model_load(
  _ file: OpaquePointer?, _ options: UnsafePointer<CChar>?, _ model: UnsafeMutablePointer<OpaquePointer?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(model, "model", empty: nil, error) {
    var options = NamedOptions(try Argument.options(options))
    let threadCount = try options.threadCount()
    let attentionBits = try options.integer("quantize-attention")
    try OptionFault.refuse(
      attentionBits.map { !(2...8).contains($0) } ?? false, value: "--quantize-attention must be 2 to 8")
    try options.finish()
    let file = try FileBox.find(file).file
    return Handles.shared.add(
      ModelBox(try LanguageModel(file, threadCount: threadCount, attentionBits: attentionBits)))
  }
}

@c @implementation
public func otq_model_free(_ model: OpaquePointer?) { Handles.shared.remove(model, as: ModelBox.self) }

@c @implementation
public func otq_model_info(
  _ model: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(json, "json", empty: nil, error) {
    let model = try ModelBox.find(model)
    let labels = try model.labelNames()
    let members: JSONObject = [
      "path": .string(model.file.path), "family": .string(model.graph.family),
      "vocabularySize": .count(model.vocabularySize), "contextLength": .count(model.contextLength),
      "isCausal": .bool(model.isCausal), "logitCount": .count(model.logitCount),
      "embeddingSize": .count(model.embeddingSize),
      "labels": labels.map { .array($0.map { .string($0) }) } ?? .null,
      "hasTokenizer": .bool((try? model.tokenizer()) != nil),
    ]
    return try CallersMemory.copy(JSONValue.object(members).text(pretty: true))
  }
}

// MARK: Texts and tokens

@c @implementation
public func otq_tokenize(
  _ model: OpaquePointer?, _ text: UnsafePointer<CChar>?, _ byte_count: Int, _ adds_special_tokens: Int32,
  _ token_ids: UnsafeMutablePointer<UnsafeMutablePointer<Int64>?>?, _ count: UnsafeMutablePointer<Int>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  count?.pointee = 0
  return answer(token_ids, "token_ids", empty: nil, error) {
    let count = try Argument.present(count, "count")
    let model = try ModelBox.find(model)
    let text = try Argument.text(text, byteCount: byte_count, "text")
    let tokenIDs = try model.encode(text, addsSpecialTokens: adds_special_tokens != 0)
    let copy = try CallersMemory.copy(tokenIDs)
    count.pointee = tokenIDs.count
    return copy
  }
}

@c @implementation
public func otq_detokenize(
  _ model: OpaquePointer?, _ token_ids: UnsafePointer<Int64>?, _ count: Int, _ skips_special_tokens: Int32,
  _ text: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ byte_count: UnsafeMutablePointer<Int>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  byte_count?.pointee = 0
  return answer(text, "text", empty: nil, error) {
    let model = try ModelBox.find(model)
    let tokenIDs = try Argument.tokenIDs(token_ids, count)
    let text = try model.decode(tokenIDs, skipsSpecialTokens: skips_special_tokens != 0)
    let copy = try CallersMemory.copy(text)
    byte_count?.pointee = text.utf8.count
    return copy
  }
}

// MARK: Numbers

@c @implementation
public func otq_logits(
  _ model: OpaquePointer?, _ token_ids: UnsafePointer<Int64>?, _ count: Int, _ logits: UnsafeMutablePointer<Float>?,
  _ value_count: Int, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(error) {
    let model = try ModelBox.find(model)
    let tokenIDs = try Argument.tokenIDs(token_ids, count)
    if let logitCount = model.logitCount {
      // Before time goes into what has no place.
      _ = try Argument.buffer(logits, value_count, wanted: count.multipliedChecked(by: logitCount), "logits")
    }
    let matrix = try model.logits(for: tokenIDs)
    let target = try Argument.buffer(logits, value_count, wanted: matrix.values.count, "logits")
    _ = target.update(fromContentsOf: matrix.values)
  }
}

@c @implementation
public func otq_embed(
  _ model: OpaquePointer?, _ texts: UnsafePointer<UnsafePointer<CChar>?>?, _ byte_counts: UnsafePointer<Int>?,
  _ text_count: Int, _ vectors: UnsafeMutablePointer<Float>?, _ value_count: Int,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(error) {
    let model = try ModelBox.find(model)
    guard text_count >= 0, text_count <= Int.max / 8 else {
      throw Refusal("argument-length", "there cannot be so many texts")
    }
    if let size = model.embeddingSize {
      _ = try Argument.buffer(vectors, value_count, wanted: text_count.multipliedChecked(by: size), "vectors")
    }
    guard text_count > 0 else { return }
    let texts = try Argument.present(texts, "texts")
    let list = try (0..<text_count).map { index in
      try Argument.text(texts[index], byteCount: byte_counts?[index] ?? -1, "text \(index)")
    }
    let values = try model.embed(list).joined()
    let target = try Argument.buffer(vectors, value_count, wanted: values.count, "vectors")
    for (index, value) in values.enumerated() { target[index] = value }
  }
}

@c @implementation
public func otq_classify(
  _ model: OpaquePointer?, _ text: UnsafePointer<CChar>?, _ byte_count: Int, _ pair: UnsafePointer<CChar>?,
  _ pair_byte_count: Int, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(json, "json", empty: nil, error) {
    let model = try ModelBox.find(model)
    let text = try Argument.text(text, byteCount: byte_count, "text")
    let second = pair == nil ? nil : try Argument.text(pair, byteCount: pair_byte_count, "pair")
    let scores = try model.classify(text, pair: second)
    let labels = JSONValue.array(
      scores.map { score in
        .object([
          "label": .string(score.label), "index": .integer(score.index), "score": .shortest(score.score),
          "logit": .shortest(score.logit),
        ])
      })
    return try CallersMemory.copy(labels.text(pretty: true))
  }
}

extension JSONValue {
  /// The shortest text that reads back as the same float32.
  fileprivate static func shortest(_ value: Float) -> JSONValue { .number(Double("\(value)") ?? Double(value)) }
}
