// Names and documentation of the functions are those of otq.h.
// swift-format-ignore-file: AlwaysUseLowerCamelCase, AllPublicDeclarationsHaveDocumentation

import COTQ
import OTFoundation
import OTJSON
import OTPlatform
import OTQ

/// A text that a caller in C lets a model write; one thread at a time.
final class GenerationBox: @unchecked Sendable {
  private let lock = Lock(())
  private let loop: GenerationLoop
  /// What the caller looks at until the next call.
  private var text: CText?
  private var summary: CText?
  private var tokenIDs: UnsafeMutablePointer<Int64>?

  /// - Throws: `Refusal` as `otq_generate` says.
  init(_ model: LanguageModel, tokenIDs: [Int], _ options: GenerationOptions) throws(Refusal) {
    loop = try GenerationLoop(model, tokenIDs: tokenIDs, options: options)
  }

  deinit { free(tokenIDs) }

  /// The next piece; all zeros after the last.
  func next() throws -> otq_piece {
    try lock.withLock { _ throws(Refusal) in
      free(tokenIDs)
      (text, summary, tokenIDs) = (nil, nil, nil)
      guard let piece = try loop.next(isCancelled: { false }) else { return otq_piece() }
      return try refusing { try keep(piece) }
    }
  }

  private func keep(_ piece: GeneratedPiece) throws -> otq_piece {
    let text = CText(piece.text)
    let summary = piece.summary.map { CText(JSONValue.object($0.members).text(pretty: true)) }
    (self.text, self.summary) = (text, summary)
    tokenIDs = try CallersMemory.copy(piece.tokenIDs)
    return otq_piece(
      text: text.address, byte_count: text.byteCount, token_ids: tokenIDs, token_count: piece.tokenIDs.count,
      summary: summary?.address)
  }
}

extension GeneratedPiece.Summary {
  fileprivate var members: JSONObject {
    [
      "stopReason": .string(stopReason.rawValue), "promptTokenCount": .integer(promptTokenCount),
      "tokenCount": .integer(tokenCount), "promptSeconds": .number(promptSeconds), "seconds": .number(seconds),
    ]
  }
}

@c @implementation
public func otq_generate(
  _ model: OpaquePointer?, _ prompt: UnsafePointer<CChar>?, _ byte_count: Int, _ options: UnsafePointer<CChar>?,
  _ callback: otq_piece_callback?, _ context: UnsafeMutableRawPointer?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(error) {
    let callback = try Argument.present(callback, "callback")
    let options = try GenerationOptions(named: Argument.options(options))
    let model = try ModelBox.find(model)
    let prompt = try Argument.text(prompt, byteCount: byte_count, "prompt")
    let generation = try GenerationBox(model, tokenIDs: model.promptTokenIDs(prompt), options)
    var isLast = false
    while !isLast {
      var piece = try generation.next()
      isLast = piece.summary != nil
      // What the piece points to is the generation's.
      if withExtendedLifetime(generation, { callback(&piece, context) != 0 }) { return }
    }
  }
}

@c @implementation
public func otq_generation_begin(
  _ model: OpaquePointer?, _ prompt: UnsafePointer<CChar>?, _ byte_count: Int, _ options: UnsafePointer<CChar>?,
  _ generation: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  begin(model, options, generation, error) { model in
    try model.promptTokenIDs(Argument.text(prompt, byteCount: byte_count, "prompt"))
  }
}

/// Begins a text behind tokens, for the functions that say how these are given.
private func begin(
  _ model: OpaquePointer?, _ options: UnsafePointer<CChar>?, _ generation: UnsafeMutablePointer<OpaquePointer?>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?, tokenIDs: (LanguageModel) throws -> [Int]
) -> otq_status {
  answer(generation, "generation", empty: nil, error) {
    let options = try GenerationOptions(named: Argument.options(options))
    let model = try ModelBox.find(model)
    return Handles.shared.add(try GenerationBox(model, tokenIDs: tokenIDs(model), options))
  }
}

@c @implementation
public func otq_generation_begin_with_tokens(
  _ model: OpaquePointer?, _ token_ids: UnsafePointer<Int64>?, _ count: Int, _ options: UnsafePointer<CChar>?,
  _ generation: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  begin(model, options, generation, error) { _ in try Argument.tokenIDs(token_ids, count) }
}

@c @implementation
public func otq_generation_next(
  _ generation: OpaquePointer?, _ piece: UnsafeMutablePointer<otq_piece>?,
  _ error: UnsafeMutablePointer<OpaquePointer?>?
) -> otq_status {
  answer(piece, "piece", empty: otq_piece(), error) {
    try Argument.object(generation, "generation", as: GenerationBox.self).next()
  }
}

@c @implementation
public func otq_generation_free(_ generation: OpaquePointer?) {
  Handles.shared.remove(generation, as: GenerationBox.self)
}
