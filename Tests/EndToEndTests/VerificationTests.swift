import Foundation
import OTJSON
import Testing
import _OTTestSupport

/// Faults that `verify` must find.
@Suite struct VerificationTests {
  /// A copy of opt-mini, and a file made from it: without a tokenizer nothing is calibrated.
  func withPackedModel(
    hasTokenizer: Bool = false, _ body: (_ folder: String, _ packed: String) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      for name in ["model.safetensors", "config.json"] + (hasTokenizer ? ["tokenizer.json"] : []) {
        try FileManager.default.copyItem(
          atPath: Fixtures.path("models/opt-mini/\(name)"), toPath: "\(folder)/\(name)")
      }
      let packed = folder + "/m.otq"
      #expect(try Tool.run(folder, packed, "--bits", "6").status == 0)
      try body(folder, packed)
    }
  }

  /// The bytes of a tensor's data in a safetensors file.
  func range(of tensor: String, in file: Data) throws -> Range<Int> {
    let length = file.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSONValue.parse(String(decoding: file[8..<8 + length], as: UTF8.self))
    let entry = try #require(header[tensor])
    let offsets = (entry["data_offsets"]?.array ?? []).compactMap(\.integer)
    return 8 + length + offsets[0]..<8 + length + offsets[1]
  }

  @Test func aChangedWeightIsNamed() throws {
    try withPackedModel { folder, packed in
      var file = try contents(folder + "/model.safetensors")
      let name = "model.decoder.layers.2.fc1.weight"
      let range = try range(of: name, in: file)
      // One float16 of the middle becomes 2.0, or −2.0 where it was 2 or more.
      let middle = range.lowerBound + range.count / 4 * 2
      file.replaceSubrange(middle..<middle + 2, with: [0x00, 0x40])
      try file.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      let outcome = try Tool.run("verify", packed, "--reference", folder)
      #expect(outcome.status == 1)
      #expect(outcome.errorLines.count == 1 && outcome.errors.contains(name), "\(outcome.errors)")
      let json = try JSONValue.parse(try Tool.run("verify", packed, "--reference", folder, "--json").output)
      #expect(json["passed"]?.bool == false)
      let offenders = (json["tensors"]?.array ?? []).filter { $0["faults"]?.array?.isEmpty == false }
      #expect(offenders.compactMap { $0["name"]?.string } == [name])
    }
  }

  /// Half a step is far less than GPTQ's own errors and passes beside them, but nothing makes up for it.
  /// Parts put together, in any order, are the result of one machine, also where the file has faults.
  @Test(arguments: [1, 2, 5, 200]) func partsAreThoseOfOneMachine(_ count: Int) throws {
    try withPackedModel { folder, packed in
      let record = folder + "/verify.json"
      let options = ["verify", packed, "--reference", folder]
      func check() throws {
        let one = try Tool.finish(Tool.process(options + ["--json"]))
        let numbers = count < 10 ? Array(1...count) : [1, 77, count]
        for part in numbers {
          let made = try Tool.finish(
            Tool.process(options + ["-o", record, "--part", "\(part)", "--of", "\(count)", "--force"]))
          #expect(made.status <= one.status, "\(made.errors)")
        }
        let parts = numbers.reversed().map { "\(record).part-\($0)" }
        let merged = try Tool.finish(Tool.process(options + ["--json", "--merge"] + parts))
        guard numbers.count == count else {
          #expect(merged.status == 1 && merged.errors.contains("[merge-part-missing]"), "\(merged.errors)")
          return
        }
        #expect(merged.status == one.status && merged.output == one.output, "\(merged.errors)")
      }
      try check()
      let report = folder + "/report.html"
      let parts = (1...min(count, 5)).map { "\(record).part-\($0)" }
      if count < 10 {
        let page = try Tool.finish(Tool.process(options + ["--report", report, "--merge"] + parts))
        #expect(page.status == 0 && FileManager.default.fileExists(atPath: report), "\(page.errors)")
      }
      // A changed weight, and a tensor that the source does not have.
      var file = try contents(folder + "/model.safetensors")
      let range = try range(of: "model.decoder.layers.2.fc1.weight", in: file)
      let middle = range.lowerBound + range.count / 4 * 2
      file.replaceSubrange(middle..<middle + 2, with: [0x00, 0x40])
      try file.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      try check()
      // Of another file.
      #expect(try Tool.run(folder, packed, "--bits", "8", "--force").status == 0)
      let other = try Tool.finish(Tool.process(options + ["--merge"] + parts.prefix(1)))
      #expect(other.status == 1 && other.errors.contains("[merge-other-plan]"), "\(other.errors)")
      for wrong in [["--of", "2"], ["-o", record], ["--of", "2", "-o", record, "--report", report]] {
        #expect(try Tool.finish(Tool.process(options + wrong)).status == 64, "\(wrong)")
      }
    }
  }

  @Test func aWeightThatLosesMoreThanTheNearestIsNamed() throws {
    try withPackedModel(hasTokenizer: true) { folder, packed in
      let limits = folder + "/limits.json"
      try Data("{\"layers\": {\"maximumRelativeError\": 1000}}".utf8).write(to: URL(fileURLWithPath: limits))
      func outcome(_ level: String) throws -> Tool.Outcome {
        try Tool.run("verify", packed, "--reference", folder, "--level", level, "--tolerance", limits, "--json")
      }
      func ratios(_ outcome: Tool.Outcome) throws -> [String: Double] {
        let tensors = try JSONValue.parse(outcome.output)["tensors"]?.array ?? []
        return tensors.reduce(into: [:]) { ratios, tensor in
          guard let name = tensor["name"]?.string else { return }
          ratios[name] = tensor["outputErrorRatio"]?.double
        }
      }
      let before = try outcome("layers")
      #expect(before.status == 0, "\(before.errors)")
      let own = try ratios(before)
      // Six linears in each of four layers.
      #expect(own.count == 24 && own.values.allSatisfy { $0 > 0 && $0 < 0.9 }, "\(own)")

      var file = try contents(folder + "/model.safetensors")
      // What it reads has no shift, so that its bias is as before.
      let name = "model.decoder.layers.2.fc2.weight"
      let bytes = try range(of: name, in: file)
      var weights = file[bytes].withUnsafeBytes { Array($0.bindMemory(to: Float16.self)) }
      let most = weights.reduce(0) { max($0, abs($1)) }
      // A part of the largest weight, up and down without a pattern: less than a step of 6 bits.
      var state: UInt32 = 1
      for index in weights.indices {
        state = state &* 1_664_525 &+ 1_013_904_223
        weights[index] += (state >> 31 == 0 ? 1 : -1) * most / 100
      }
      weights.withUnsafeBytes { file.replaceSubrange(bytes, with: $0) }
      try file.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      #expect(try outcome("weights").status == 0)
      let after = try outcome("layers")
      #expect(after.status == 1)
      #expect(after.errorLines.count == 1 && after.errors.contains("\(name)' on this text"), "\(after.errors)")
      #expect(try #require(ratios(after)[name]) > 1.2)
    }
  }

  @Test func aChangedNormIsNamed() throws {
    try withPackedModel { folder, packed in
      var file = try contents(folder + "/model.safetensors")
      let name = "model.decoder.layers.1.final_layer_norm.weight"
      let range = try range(of: name, in: file)
      file[range.lowerBound] ^= 0x20
      try file.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      let outcome = try Tool.run("verify", packed, "--reference", folder)
      #expect(outcome.status == 1 && outcome.errors.contains(name), "\(outcome.errors)")
    }
  }

  @Test func missingAndForeignTensorsAreNamed() throws {
    try withPackedModel { folder, packed in
      var file = try contents(folder + "/model.safetensors")
      let old = Data("layers.3.fc2.bias".utf8), new = Data("layers.3.fc9.bias".utf8)
      let place = try #require(file.range(of: old))
      file.replaceSubrange(place, with: new)
      try file.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
      let outcome = try Tool.run("verify", packed, "--reference", folder)
      #expect(outcome.status == 1)
      #expect(outcome.errors.contains("layers.3.fc9.bias' is in the source and not in the file"), "\(outcome.errors)")
      #expect(outcome.errors.contains("layers.3.fc2.bias' is in the file and not in the source"), "\(outcome.errors)")
    }
  }

  @Test(arguments: [
    ("{\"minimumSqnrDecibels\": 90}", 1, "verify-failed"),
    ("{\"minimumSqnrDecibels\": {\"6\": 90}}", 1, "verify-failed"),
    ("{\"maximumErrorInSteps\": 0.1}", 1, "verify-failed"), ("{\"minimumSqnrDecibels\": 5}", 0, ""),
    ("{\"maximumErorr\": 1}", 1, "tolerance-unknown"), ("[]", 1, "tolerance-value"), ("{", 1, "json-truncated"),
  ])
  func tolerances(text: String, status: Int32, rule: String) throws {
    try withPackedModel { folder, packed in
      try text.write(toFile: folder + "/t.json", atomically: true, encoding: .utf8)
      let outcome = try Tool.run("verify", packed, "--reference", folder, "--tolerance", folder + "/t.json", "--quiet")
      #expect(outcome.status == status, "\(outcome.errors)")
      #expect(rule.isEmpty ? outcome.errors.isEmpty : outcome.errors.contains(rule))
    }
  }

  @Test func damageIsFound() throws {
    try withPackedModel { folder, packed in
      var random = SeededGenerator(seed: 7)
      let whole = try contents(packed)
      for _ in 0..<25 {
        var file = whole
        file[Int.random(in: 0..<file.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        try file.write(to: URL(fileURLWithPath: packed))
        let outcome = try Tool.run("verify", packed)
        #expect(outcome.status == 1 && outcome.errorLines.count == 1, "seed \(random.seed): \(outcome.errors)")
      }
    }
  }
}
