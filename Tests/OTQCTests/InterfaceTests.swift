import COTQ
import Foundation
import OTQ
import OTQC
import Testing
import _OTCSupport
import _OTTestSupport

/// The C interface against the Swift one, and its promises about memory and threads.
@Suite struct InterfaceTests {
  private static let checkpoint = Fixtures.path("models/llama-mini")

  /// Converts the fixture by the C interface.
  private func converted(_ folder: String) throws -> String {
    let output = folder + "/m.otq"
    var json: UnsafeMutablePointer<CChar>?
    let options = """
      {"bits": 6, "group-size": 32, "no-calibration": true, "compression": "none", "threads": 2}
      """
    let fault = CInterface.fault { otq_convert(Self.checkpoint, output, options, nil, &json, $0) }
    #expect(fault == nil, "\(fault?.description ?? "")")
    let text = try #require(CInterface.taking(json))
    #expect(text.contains("\"method\": \"hadamard\""), "\(text)")
    return output
  }

  private func opened(_ path: String) throws -> OpaquePointer {
    var file: OpaquePointer?
    #expect(CInterface.fault { otq_open(path, &file, $0) } == nil)
    return try #require(file)
  }

  @Test func aQuantizedTensorIsItsParts() throws {
    try withTemporaryFolder { folder in
      let path = try converted(folder)
      let file = try opened(path)
      defer { otq_close(file) }
      let tensor = try #require(try ModelFile(path: path).tensors.first { $0.bits == 6 })
      func bytes(_ part: Int) throws -> [UInt8] {
        var count = 0
        let counting = CInterface.fault { otq_tensor_byte_count(file, tensor.name, otq_part(part), &count, $0) }
        #expect(counting == nil)
        var bytes = [UInt8](repeating: 0, count: count)
        let reading = CInterface.fault { otq_tensor_read(file, tensor.name, otq_part(part), &bytes, count, $0) }
        #expect(reading == nil)
        return bytes
      }
      let (codes, scaleBytes, points) = (try bytes(0), try bytes(1), try bytes(2))
      let scales = scaleBytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
      let columns = tensor.elementCount / tensor.shape[0]
      let groups = (columns + 31) / 32
      #expect(codes.count == tensor.elementCount)
      #expect(scales.count == tensor.shape[0] * groups)
      // Rows that begin and end within tiles of 16.
      let rows = 3..<min(37, tensor.shape[0])
      var values = [Float](repeating: 0, count: rows.count * columns)
      let count = values.count
      #expect(
        CInterface.fault { otq_tensor_rows(file, tensor.name, rows.lowerBound, rows.count, &values, count, $0) } == nil)
      for row in rows {
        for column in 0..<columns {
          let group = row * groups + column / 32
          let expected = scales[group] * Float(Int(codes[row * columns + column]) - Int(points[group]))
          let value = values[(row - rows.lowerBound) * columns + column]
          if value != expected {
            Issue.record("[\(row), \(column)] is \(value), not \(expected)")
            return
          }
        }
      }
      #expect(try tensor.codes() == codes)
      #expect(try tensor.scales() == scales)
      #expect(try tensor.zeroPoints() == points)
      #expect(try tensor.values(rows: rows) == values)
    }
  }

  @Test func aModelGivesWhatItGivesInSwift() throws {
    try withTemporaryFolder { folder in
      let path = try converted(folder)
      let file = try opened(path)
      defer { otq_close(file) }
      var model: OpaquePointer?
      #expect(CInterface.fault { otq_model_load(file, "{\"threads\": 2}", &model, $0) } == nil)
      defer { otq_model_free(model) }
      let swift = try LanguageModel(path: path, threadCount: 2)
      var (ids, count): (UnsafeMutablePointer<Int64>?, Int) = (nil, 0)
      #expect(CInterface.fault { otq_tokenize(model, "And God said", -1, 1, &ids, &count, $0) } == nil)
      defer { otq_free(ids) }
      let tokens = try swift.encode("And God said")
      #expect((0..<count).map { Int(ids?[$0] ?? -1) } == tokens)
      let expected = try swift.logits(for: tokens)
      var logits = [Float](repeating: 0, count: expected.values.count)
      let size = logits.count
      #expect(CInterface.fault { otq_logits(model, ids, count, &logits, size, $0) } == nil)
      #expect(logits == expected.values)
      var (text, byteCount): (UnsafeMutablePointer<CChar>?, Int) = (nil, 0)
      #expect(CInterface.fault { otq_detokenize(model, ids, count, 1, &text, &byteCount, $0) } == nil)
      #expect(try CInterface.taking(text) == swift.decode(tokens))
    }
  }

  @Test func pulledAndPushedTextsAreTheSame() throws {
    let file = try opened(Self.checkpoint)
    defer { otq_close(file) }
    var model: OpaquePointer?
    #expect(CInterface.fault { otq_model_load(file, nil, &model, $0) } == nil)
    defer { otq_model_free(model) }
    let options = "{\"max-tokens\": 12, \"temperature\": 0.9, \"top-k\": 40, \"seed\": 7}"
    final class Pushed {
      var text = ""
      var pieces = 0
      var most = Int.max
    }
    let pushed = Pushed()
    let callback: otq_piece_callback = { piece, context in
      guard let piece, let context else { return 1 }
      let pushed = Unmanaged<Pushed>.fromOpaque(context).takeUnretainedValue()
      pushed.text += CInterface.text(piece.pointee.text) ?? ""
      pushed.pieces += 1
      return pushed.pieces >= pushed.most ? 1 : 0
    }
    let context = Unmanaged.passUnretained(pushed).toOpaque()
    #expect(CInterface.fault { otq_generate(model, "And God said", -1, options, callback, context, $0) } == nil)
    var generation: OpaquePointer?
    #expect(CInterface.fault { otq_generation_begin(model, "And God said", -1, options, &generation, $0) } == nil)
    var (pulled, pieces, isOver) = ("", 0, false)
    while !isOver {
      var piece = otq_piece()
      #expect(CInterface.fault { otq_generation_next(generation, &piece, $0) } == nil)
      pulled += CInterface.text(piece.text) ?? ""
      pieces += 1
      isOver = piece.summary != nil || piece.text == nil
    }
    // After the end there is nothing, again and again.
    var piece = otq_piece()
    #expect(CInterface.fault { otq_generation_next(generation, &piece, $0) } == nil)
    #expect(piece.text == nil && piece.token_count == 0 && piece.summary == nil)
    otq_generation_free(generation)
    #expect(pulled == pushed.text)
    #expect(pieces == pushed.pieces)
    #expect(!pulled.isEmpty)
    pushed.pieces = 0
    pushed.most = 3
    #expect(CInterface.fault { otq_generate(model, "And God said", -1, options, callback, context, $0) } == nil)
    #expect(pushed.pieces == 3)
  }

  @Test func whoIsCancelledLeavesNothing() throws {
    try withTemporaryFolder { folder in
      let output = folder + "/m.otq"
      let options = "{\"no-calibration\": true}"
      let cancellation = otq_cancellation_create()
      otq_cancellation_cancel(cancellation)
      var observer = otq_observer(progress: nil, context: nil, cancellation: cancellation)
      let early = CInterface.fault { otq_convert(Self.checkpoint, output, options, &observer, nil, $0) }
      #expect(early?.rule == "cancelled" && early?.status == otq_status(OTQ_CANCELLED))
      otq_cancellation_free(cancellation)
      // In the middle, by the callback.
      observer = otq_observer(
        progress: { stage, _, _, _, _ in CInterface.text(stage) == "converting" ? 1 : 0 }, context: nil,
        cancellation: nil)
      let late = CInterface.fault { otq_convert(Self.checkpoint, output, options, &observer, nil, $0) }
      #expect(late?.status == otq_status(OTQ_CANCELLED))
      let exported = CInterface.fault {
        otq_export(Self.checkpoint, folder + "/gguf", "safetensors", "{\"method\": \"per-token\"}", &observer, nil, $0)
      }
      #expect(exported == nil, "the export has another stage: \(exported?.description ?? "")")
      let left = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(left == ["gguf"])
    }
  }

  /// Also at the end, when the whole file is run beside its source: it does not have its name yet.
  @Test(arguments: ["", "\"require\": \"perplexity-ratio<=9\", "]) func whoIsCancelledNearTheEndLeavesNothing(
    _ requirement: String
  ) throws {
    try withTemporaryFolder { folder in
      let options = "{\(requirement)\"method\": \"smoothquant\", \"samples\": 8, \"length\": 32, \"threads\": 2}"
      var observer = otq_observer(
        progress: { stage, _, _, _, _ in CInterface.text(stage) == "running" ? 1 : 0 }, context: nil,
        cancellation: nil)
      var json: UnsafeMutablePointer<CChar>?
      let fault = CInterface.fault { otq_convert(Self.checkpoint, folder + "/m.otq", options, &observer, &json, $0) }
      #expect(fault?.status == otq_status(OTQ_CANCELLED), "\(fault?.description ?? "converted")")
      #expect(json == nil)
      let left = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(left.isEmpty)
    }
  }

  /// A task as `otconvert eval --task` does it: the figures are those of the harness, a model beside itself has no flips.
  @Test func aTaskGivesWhatTheHarnessDoes() throws {
    func object(_ json: String) throws -> [String: Any] {
      try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
    }
    let goldens = try object(String(contentsOfFile: Fixtures.path("tasks/goldens.json"), encoding: .utf8))
    let figures = try #require((goldens["piqa"] as? [String: Any])?["figures"] as? [String: Double])
    let file = try opened(Self.checkpoint)
    defer { otq_close(file) }
    var model: OpaquePointer?
    #expect(CInterface.fault { otq_model_load(file, "{\"threads\": 2}", &model, $0) } == nil)
    defer { otq_model_free(model) }
    let data = Fixtures.path("tasks/piqa.jsonl")
    final class Stages { var names: Set<String> = [] }
    let stages = Stages()
    var observer = otq_observer(
      progress: { stage, unit, _, _, context in
        guard let context, let stage = CInterface.text(stage), let unit = CInterface.text(unit) else { return 1 }
        Unmanaged<Stages>.fromOpaque(context).takeUnretainedValue().names.insert("\(stage) \(unit)")
        return 0
      }, context: Unmanaged.passUnretained(stages).toOpaque(), cancellation: nil)
    var json: UnsafeMutablePointer<CChar>?
    let options = "{\"task\": \"piqa\", \"data\": \"\(data)\"}"
    #expect(CInterface.fault { otq_eval(model, model, options, &observer, &json, $0) } == nil)
    let result = try object(try #require(CInterface.taking(json)))
    #expect(stages.names == ["answering items"])
    let found = try #require(result["figures"] as? [String: Any])
    for (name, value) in figures {
      let figure = try #require((found[name] as? [String: Any])?["value"] as? Double, "\(name)")
      #expect(abs(figure - value) < 1e-4, "\(name)")
    }
    let against = try #require(result["against"] as? [String: Any])
    #expect(against["changed"] as? Int == 0 && against["mcNemarP"] as? Double == 1)
    let limited = "{\"task\": \"piqa\", \"data\": \"\(data)\", \"limit\": 3}"
    #expect(CInterface.fault { otq_eval(model, nil, limited, nil, &json, $0) } == nil)
    #expect(try object(try #require(CInterface.taking(json)))["itemCount"] as? Int == 3)
    for (wrong, rule) in [
      ("{\"task\": \"piqa\"}", "option-conflict"), ("{\"task\": \"chess\", \"data\": \"x\"}", "task-unknown"),
      ("{\"task\": \"piqa\", \"data\": \"x\", \"windows\": 2}", "option-conflict"),
      ("{\"ids\": \"x\", \"limit\": 2}", "option-conflict"), ("{\"task\": \"piqa\", \"data\": \"-\"}", "option-value"),
      ("{\"task\": \"piqa\", \"data\": \"/nowhere.jsonl\"}", "file-missing"),
    ] {
      #expect(CInterface.fault { otq_eval(model, nil, wrong, nil, &json, $0) }?.rule == rule, "\(wrong)")
    }
  }

  @Test func verificationGivesItsFiguresAlsoWhenItFails() throws {
    try withTemporaryFolder { folder in
      let path = try converted(folder)
      var json: UnsafeMutablePointer<CChar>?
      let right = "{\"reference\": \"\(Self.checkpoint)\", \"threads\": 2}"
      #expect(CInterface.fault { otq_verify(path, right, nil, &json, $0) } == nil)
      #expect(CInterface.taking(json)?.contains("\"passed\": true") == true)
      let wrong = "{\"reference\": \"\(Fixtures.path("models/opt-mini"))\"}"
      #expect(CInterface.fault { otq_verify(path, wrong, nil, &json, $0) }?.rule == "verify-failed")
      #expect(CInterface.taking(json)?.contains("\"passed\": false") == true)
    }
  }

  @Test func severalThreadsUseOneModel() async throws {
    let file = try opened(Self.checkpoint)
    var model: OpaquePointer?
    #expect(CInterface.fault { otq_model_load(file, "{\"threads\": 2}", &model, $0) } == nil)
    otq_close(file)
    var info: UnsafeMutablePointer<CChar>?
    #expect(CInterface.fault { otq_model_info(model, &info, $0) } == nil)
    let line = CInterface.taking(info)?.split(separator: "\n").first { $0.contains("logitCount") }
    let digits = line?.filter { $0.isNumber } ?? ""
    let size = try #require(Int(digits))
    let number = Int(bitPattern: model)
    let results = await withTaskGroup(of: [Float].self) { group in
      for _ in 0..<4 {
        group.addTask {
          var logits = [Float](repeating: 0, count: size * 3)
          let fault = CInterface.fault {
            otq_logits(OpaquePointer(bitPattern: number), [5, 6, 7], 3, &logits, size * 3, $0)
          }
          return fault == nil ? logits : []
        }
      }
      return await group.reduce(into: [[Float]]()) { $0.append($1) }
    }
    otq_model_free(model)
    #expect(results.count == 4)
    #expect(Set(results).count == 1)
    #expect(results[0].count == size * 3)
  }
}
