import COTQ
import Foundation
import Testing
import _OTCSupport
import _OTTestSupport

/// Wrong calls of the C interface: every one is an error, none is a trap.
@Suite struct MisuseTests {
  private static let checkpoint = Fixtures.path("models/opt-mini")
  private static let misuse = otq_status(OTQ_MISUSE)

  private func rule(_ call: (UnsafeMutablePointer<OpaquePointer?>) -> otq_status) -> String? {
    let fault = CInterface.fault(call)
    #expect(fault == nil || fault?.status == Self.misuse, "\(fault?.description ?? "")")
    return fault?.rule
  }

  private func opened() throws -> OpaquePointer {
    var file: OpaquePointer?
    #expect(CInterface.fault { otq_open(Self.checkpoint, &file, $0) } == nil)
    return try #require(file)
  }

  @Test func nullIsRefused() throws {
    let file = try opened()
    defer { otq_close(file) }
    var handle: OpaquePointer?
    var count = 7
    #expect(rule { otq_open(nil, &handle, $0) } == "argument-null")
    #expect(rule { otq_open("x", nil, $0) } == "argument-null")
    #expect(rule { otq_metadata(file, nil, $0) } == "argument-null")
    #expect(rule { otq_tensors(file, nil, $0) } == "argument-null")
    #expect(rule { otq_tensor_count(file, nil, $0) } == "argument-null")
    #expect(rule { otq_tensor_byte_count(file, nil, 0, &count, $0) } == "argument-null")
    #expect(count == 0)
    #expect(rule { otq_model_load(file, nil, nil, $0) } == "argument-null")
    #expect(rule { otq_convert(nil, "out", nil, nil, nil, $0) } == "argument-null")
    #expect(rule { otq_convert("in", nil, nil, nil, nil, $0) } == "argument-null")
    #expect(rule { otq_verify(nil, nil, nil, nil, $0) } == "argument-null")
    #expect(rule { otq_export("in", "out", nil, nil, nil, nil, $0) } == "argument-null")
    #expect(rule { otq_eval(nil, nil, nil, nil, nil, $0) } == "argument-null")
    // Nobody asks why.
    #expect(otq_open(nil, nil, nil) == Self.misuse)
  }

  @Test func handlesThatAreNoneAreRefused() throws {
    let file = try opened()
    var model: OpaquePointer?
    #expect(CInterface.fault { otq_model_load(file, "{\"threads\": 1}", &model, $0) } == nil)
    otq_close(file)
    // The model stays, and closing once more does nothing.
    otq_close(file)
    var count = 0
    var json: UnsafeMutablePointer<CChar>?
    #expect(CInterface.fault { otq_model_info(model, &json, $0) } == nil)
    #expect(CInterface.taking(json)?.contains("\"family\"") == true)
    for handle in [file, model, nil, OpaquePointer(bitPattern: 8), OpaquePointer(bitPattern: UInt.max)] {
      #expect(rule { otq_tensor_count(handle, &count, $0) } == "argument-handle")
      #expect(rule { otq_metadata(handle, &json, $0) } == "argument-handle")
      otq_generation_free(handle)
      otq_cancellation_cancel(handle)
      otq_cancellation_free(handle)
      #expect(otq_error_rule(handle) == nil)
      #expect(otq_error_byte_offset(handle) == -1)
      otq_error_free(handle)
    }
    // What frees objects of another kind has left it alone.
    #expect(CInterface.fault { otq_model_info(model, &json, $0) } == nil)
    #expect(CInterface.taking(json) != nil)
    json = nil
    otq_model_free(model)
    #expect(rule { otq_model_info(model, &json, $0) } == "argument-handle")
    #expect(json == nil)
    var piece = otq_piece()
    #expect(rule { otq_generation_next(model, &piece, $0) } == "argument-handle")
    var observer = otq_observer(progress: nil, context: nil, cancellation: model)
    #expect(rule { otq_convert("in", "out", nil, &observer, nil, $0) } == "argument-handle")
  }

  /// What is asked for is not there, whatever the rule: nothing has been read.
  @Test(arguments: [
    ("{\"method\": \"unheard-of\"}", "method-unknown"), ("{\"method\": \"smoothquant,alpha=7\"}", "method-option"),
    ("{\"rounding\": \"zzz\"}", "rounding-unknown"), ("{\"require\": \"kl>=1\"}", "option-value"),
    ("{\"require\": \"accuracy(-)>=1\"}", "option-value"), ("{\"threads\": 5000}", "option-value"),
    ("{\"until\": \"kl<=1\", \"bits\": 6}", "option-conflict"),
  ]) func wrongOptionsAreMisuse(_ options: String, _ expected: String) {
    let fault = CInterface.fault { otq_convert("/none", "/none.otq", options, nil, nil, $0) }
    #expect(fault?.status == Self.misuse && fault?.rule == expected, "\(fault?.description ?? "")")
  }

  @Test func optionsOfOtherWorkAreMisuse() {
    let exported = CInterface.fault {
      otq_export("/none", "/none.gguf", "gguf", "{\"require\": \"kl<=1\"}", nil, nil, $0)
    }
    #expect(exported?.status == Self.misuse && exported?.rule == "option-conflict")
    let limited = CInterface.fault { otq_verify("/none.otq", "{\"limit\": 3}", nil, nil, $0) }
    #expect(limited?.status == Self.misuse && limited?.rule == "option-conflict")
    let task = CInterface.fault {
      otq_verify("/none.otq", "{\"reference\": \"/none\", \"task\": \"x\", \"data\": \"y\"}", nil, nil, $0)
    }
    #expect(task?.status == Self.misuse && task?.rule == "task-unknown")
  }

  @Test func lengthsAreExact() throws {
    let file = try opened()
    defer { otq_close(file) }
    var model: OpaquePointer?
    #expect(CInterface.fault { otq_model_load(file, nil, &model, $0) } == nil)
    defer { otq_model_free(model) }
    var values = [Float](repeating: 0, count: 8)
    let name = "model.decoder.final_layer_norm.weight"
    #expect(rule { otq_tensor_rows(file, name, 0, 4, &values, 8, $0) } == "argument-length")
    #expect(rule { otq_tensor_rows(file, name, 0, 8, nil, 8, $0) } == "argument-null")
    #expect(rule { otq_tensor_rows(file, name, Int.max, 8, &values, 8, $0) } == "argument-length")
    #expect(rule { otq_tensor_rows(file, name, -1, 8, &values, 8, $0) } == "argument-length")
    #expect(CInterface.fault { otq_tensor_rows(file, name, 1 << 40, 8, &values, 8, $0) }?.rule == "tensor-rows")
    #expect(CInterface.fault { otq_tensor_rows(file, "none", 0, 1, &values, 8, $0) }?.rule == "tensor-missing")
    #expect(CInterface.fault { otq_tensor_rows(file, name, 2, 8, &values, 8, $0) } == nil)
    #expect(values.contains { $0 != 0 })
    #expect(rule { otq_tensor_read(file, name, 0, &values, 3, $0) } == "argument-length")
    #expect(rule { otq_tensor_read(file, name, 9, &values, 3, $0) } == "argument-part")
    #expect(CInterface.fault { otq_tensor_read(file, name, 1, &values, 3, $0) }?.rule == "tensor-part")
    #expect(rule { otq_logits(model, [1, 2], 2, &values, 8, $0) } == "argument-length")
    #expect(rule { otq_logits(model, [1, 2], -2, &values, 8, $0) } == "argument-length")
    #expect(rule { otq_logits(model, nil, 2, &values, 8, $0) } == "argument-null")
    #expect(rule { otq_embed(model, nil, nil, -1, &values, 8, $0) } == "argument-length")
    #expect(rule { otq_embed(model, nil, nil, 1, &values, 8, $0) } == "argument-null")
    let ids: [Int64] = [.max]
    let logits = UnsafeMutablePointer<Float>.allocate(capacity: 1 << 16)
    defer { logits.deallocate() }
    var info: UnsafeMutablePointer<CChar>?
    #expect(CInterface.fault { otq_model_info(model, &info, $0) } == nil)
    let line = CInterface.taking(info)?.split(separator: "\n").first { $0.contains("logitCount") } ?? ""
    let size = try #require(Int(line.filter { $0.isNumber }))
    #expect(CInterface.fault { otq_logits(model, ids, 1, logits, size, $0) }?.rule == "run-token-id")
  }

  @Test func textsAreUTF8() throws {
    let file = try opened()
    defer { otq_close(file) }
    var model: OpaquePointer?
    #expect(CInterface.fault { otq_model_load(file, nil, &model, $0) } == nil)
    defer { otq_model_free(model) }
    let wrong = [CChar(bitPattern: 0xFF), CChar(bitPattern: 0xFE), 0]
    var (ids, count): (UnsafeMutablePointer<Int64>?, Int) = (nil, 0)
    #expect(rule { otq_tokenize(model, wrong, -1, 1, &ids, &count, $0) } == "argument-text")
    #expect(rule { otq_tokenize(model, wrong, 2, 1, &ids, &count, $0) } == "argument-text")
    #expect(rule { otq_tokenize(model, "a", -5, 1, &ids, &count, $0) } == "argument-length")
    var handle: OpaquePointer?
    #expect(rule { otq_open(wrong, &handle, $0) } == "argument-text")
    #expect(rule { otq_convert("in", wrong, nil, nil, nil, $0) } == "argument-text")
  }

  @Test(arguments: [
    ("{", "option-syntax"), ("[]", "option-syntax"), ("{\"bit\": 6}", "option-unknown"),
    ("{\"bits\": 9}", "option-value"), ("{\"bits\": \"six\"}", "option-value"), ("{\"bits\": true}", "option-value"),
    ("{\"bits\": [6, 7]}", "option-value"),
    ("{\"bits\": {}}", "option-value"), ("{\"weights-only\": 1}", "option-value"), ("{\"threads\": 0}", "option-value"),
    ("{\"text\": \"-\"}", "option-value"), ("{\"seed\": -1}", "option-value"), ("{\"exclude\": \"(\"}", "option-value"),
    ("{\"bits-for\": \"x\"}", "option-value"), ("{\"budget\": \"5.0bpw\", \"bits\": 6}", "option-conflict"),
    ("{\"text\": \"a\", \"weights-only\": true}", "option-conflict"),
    ("{\"bits\": 1e400}", "option-syntax"), ("{\"bits\": 6, \"bits\": 6}", "option-syntax"),
  ]) func wrongOptionsAreRefused(_ options: String, _ expected: String) {
    #expect(rule { otq_convert(Self.checkpoint, "/nowhere/out.otq", options, nil, nil, $0) } == expected)
  }

  @Test func everyWorkRefusesUnknownOptions() throws {
    let options = "{\"unheard-of\": 1}"
    let file = try opened()
    defer { otq_close(file) }
    var (handle, json): (OpaquePointer?, UnsafeMutablePointer<CChar>?) = (nil, nil)
    #expect(rule { otq_model_load(file, options, &handle, $0) } == "option-unknown")
    #expect(rule { otq_verify("x.otq", options, nil, nil, $0) } == "option-unknown")
    #expect(rule { otq_export("x.otq", "y", "gguf", options, nil, nil, $0) } == "option-unknown")
    #expect(rule { otq_export("x.otq", "y", "unheard-of", nil, nil, nil, $0) } == "option-value")
    #expect(rule { otq_eval(nil, nil, options, nil, &json, $0) } == "option-unknown")
    #expect(rule { otq_eval(nil, nil, "{}", nil, &json, $0) } == "option-conflict")
    #expect(rule { otq_generation_begin(nil, "a", -1, options, &handle, $0) } == "option-unknown")
    #expect(rule { otq_generation_begin(nil, "a", -1, nil, &handle, $0) } == "argument-handle")
    #expect(rule { otq_generate(nil, "a", -1, nil, nil, nil, $0) } == "argument-null")
  }
}
